//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"packhouse/internal/sampling"
)

// TestCrashRestic is TestCrash for clients of restic's protocol, each with a repository of its own: objects of all types, uploads again, deletions and
// listings.
func TestCrashRestic(t *testing.T) {
	t.Parallel()
	seed, random := crashRandom(t)
	s := startServer(t, "--log-level", "warn")
	workers := make([]*crashWorker, 4)
	for i := range workers {
		c := &crashRestic{newResticHTTP(s, fmt.Sprintf("vault%d", i)), s}
		if _, err := c.do("POST", "/?create=true", nil); err != nil {
			t.Fatal(err)
		}
		workers[i] = &crashWorker{t: t, protocol: c, repository: fmt.Sprintf("vault%d", i), random: rand.New(rand.NewPCG(seed, uint64(i+1))),
			items: make(map[string][]byte), counts: func(string) bool { return true }}
	}
	crash(t, s, s.data, workers, random)
}

// crashRestic is a crashProtocol, of one worker.
type crashRestic struct {
	*resticHTTP
	server *server
}

var resticTypes = []string{"data", "index", "keys", "locks", "snapshots"}

func (c *crashRestic) step(w *crashWorker) (map[string][]byte, error) {
	names := w.names()
	locked := slices.ContainsFunc(names, func(key string) bool { return strings.HasPrefix(key, "locks/") })
	action := w.random.IntN(100)
	switch {
	case len(names) < 4 || action < 60 && len(names) < 120:
		value := w.value()
		key := "data/" + sha256Name(value)
		if action%3 == 0 {
			key = resticTypes[w.random.IntN(len(resticTypes))] + "/" + sha256Name(value)
		}
		_, err := c.do("POST", "/"+key, value)
		return map[string][]byte{key: value}, err
	case action < 64:
		key := names[w.random.IntN(len(names))] // its answer was lost
		_, err := c.do("POST", "/"+key, w.items[key])
		return map[string][]byte{key: w.items[key]}, err
	case action < 68:
		if _, there := w.items["config"]; there {
			if !locked { // it is deleted under a lock only
				return nil, nil
			}
			_, err := c.do("DELETE", "/config", nil)
			return map[string][]byte{"config": nil}, err
		}
		value := w.value()
		_, err := c.do("POST", "/config", value)
		return map[string][]byte{"config": value}, err
	case action < 72:
		_, err := c.list(resticTypes[w.random.IntN(len(resticTypes))])
		return nil, err
	default:
		key := names[w.random.IntN(len(names))]
		if key == "config" && !locked {
			return nil, nil
		}
		_, err := c.do("DELETE", "/"+key, nil)
		return map[string][]byte{key: nil}, err
	}
}

func (c *crashRestic) found(w *crashWorker) (map[string][]byte, error) {
	all, err := c.everything()
	if err != nil {
		return nil, err
	}
	var status *statusError
	switch config, err := c.do("GET", "/config", nil); {
	case err == nil:
		all["config"] = int64(len(config))
	case !errors.As(err, &status) || status.status != http.StatusNotFound:
		return nil, err
	}
	found := make(map[string][]byte)
	for key, size := range all {
		value, err := c.do("GET", "/"+key, nil)
		if err != nil || int64(len(value)) != size {
			w.t.Errorf("%s is listed with %d bytes; its content: %d bytes, %v", key, size, len(value), err)
		}
		found[key] = value
	}
	return found, nil
}

func (c *crashRestic) usage(w *crashWorker) (int64, error) {
	usage := c.server.info(w.repository).Usage
	if usage.Counted+usage.Exempt != usage.Bytes || usage.Items != int64(len(w.items)) {
		return 0, fmt.Errorf("%d items, want %d; of their %d bytes %d are counted and %d exempt",
			usage.Items, len(w.items), usage.Bytes, usage.Counted, usage.Exempt)
	}
	return usage.Bytes, nil
}

func (*crashRestic) left() int { return 0 }

// recorder is between a client and the server: it knows what the server has acknowledged, and kills and starts it at the requests that a test chooses.
type recorder struct {
	s     *server
	front *httptest.Server

	mu    sync.Mutex      // held over all below
	there map[string]bool // objects that were stored, and not deleted, by what was acknowledged
	doubt map[string]bool // objects of which the last request had no answer
	count int             // acknowledged requests that at counts
	at    func(r *http.Request) bool
	next  []int  // at which counts the server is killed, ascending
	also  func() // is called while the server is dead; nil: nothing
}

func newRecorder(t testing.TB, s *server) *recorder {
	t.Helper()
	target, err := url.Parse(s.scheme + "://" + s.addr)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{s: s, there: make(map[string]bool), doubt: make(map[string]bool)}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	proxy.ModifyResponse = func(response *http.Response) error {
		r.answered(response.Request, response.StatusCode)
		return nil
	}
	proxy.ErrorHandler = func(w http.ResponseWriter, request *http.Request, err error) {
		r.answered(request, 0)
		w.WriteHeader(http.StatusBadGateway)
	}
	r.front = httptest.NewServer(proxy)
	t.Cleanup(r.front.Close)
	return r
}

// answered takes note of an answer; status 0: there was none.
func (r *recorder) answered(request *http.Request, status int) {
	parts := strings.Split(request.URL.Path, "/")
	key := strings.Join(parts[max(len(parts)-2, 0):], "/")
	r.mu.Lock()
	defer r.mu.Unlock()
	if request.Method != http.MethodPost && request.Method != http.MethodDelete || len(parts[len(parts)-1]) != 64 {
		return
	}
	delete(r.doubt, key)
	switch {
	case status == 0:
		delete(r.there, key)
		r.doubt[key] = true
	case status == http.StatusOK && request.Method == http.MethodPost:
		r.there[key] = true
	case status == http.StatusOK:
		delete(r.there, key)
	}
	if status != http.StatusOK || r.at == nil || !r.at(request) {
		return
	}
	if r.count++; len(r.next) > 0 && r.count >= r.next[0] {
		r.next = r.next[1:]
		r.s.kill()
		if r.also != nil {
			r.also()
		}
		r.s.start()
	}
}

// url is the address of a repository by way of the recorder.
func (r *recorder) url(repository string) string {
	return strings.Replace(r.s.url(repository), r.s.addr, r.front.Listener.Addr().String(), 1)
}

// killAt has the server killed after so many acknowledged requests of a kind from now on.
func (r *recorder) killAt(at func(*http.Request) bool, counts ...int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at, r.count, r.next = at, 0, counts
}

// compare demands that the server has what it has acknowledged, and nothing else.
func (r *recorder) compare(c *resticHTTP) {
	r.s.t.Helper()
	r.mu.Lock() // the server runs
	defer r.mu.Unlock()
	all, err := c.everything()
	if err != nil {
		r.s.t.Fatal(err)
	}
	for key := range r.there {
		if _, ok := all[key]; !ok {
			r.s.t.Errorf("%s: acknowledged, but not there", key)
		}
	}
	for key := range all {
		if !r.there[key] && !r.doubt[key] {
			r.s.t.Errorf("%s: there, but never acknowledged, or deleted", key)
		}
	}
	if len(r.next) > 0 {
		r.s.t.Errorf("the server was not killed %d times more: the client was ready before", len(r.next))
	}
}

func stores(kind string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		return r.Method == http.MethodPost && strings.Contains(r.URL.Path, "/"+kind+"/")
	}
}

func deletes(kind string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		return r.Method == http.MethodDelete && strings.Contains(r.URL.Path, "/"+kind+"/")
	}
}

// crashedRestic is a client of a repository behind a recorder.
func crashedRestic(t *testing.T) (r *recorder, client *restic, raw *resticHTTP) {
	t.Helper()
	s := startServer(t)
	r = newRecorder(t, s)
	client = newRestic(t, newestRestic(t), r.url("alice/laptop"))
	through := newResticHTTP(s, "alice/laptop")
	through.base = r.front.URL + "/alice/laptop"
	through.initialize(t)
	return r, client, newResticHTTP(s, "alice/laptop")
}

// crashMoments are what is under way when the server is killed, by the first request after which it is.
var crashMoments = map[string][]struct {
	name string
	at   func(*http.Request) bool
}{
	"backup": {{"packs", stores("data")}, {"indexes", stores("index")}, {"the snapshot", stores("snapshots")}},
	"prune": {
		{"snapshots are deleted", deletes("snapshots")}, {"packs are written again", stores("data")},
		{"indexes are deleted", deletes("index")}, {"packs are deleted", deletes("data")},
	},
}

// resticCrashRounds is how often each moment of crashMoments is tried.
func resticCrashRounds() int {
	if sampling.All() {
		return 10
	}
	return 1
}

// TestResticSurvivesCrash kills the server in the middle of backups and prunes, and starts it again. restic repeats what was not answered and ends well;
// everything that was acknowledged is there, and every file is what it was.
func TestResticSurvivesCrash(t *testing.T) {
	t.Parallel()
	r, client, raw := crashedRestic(t)
	tr, ids, want := resticTrees(t, client, 95, 1)
	backup := func() {
		t.Helper()
		tr.change(len(ids)%2, 3)
		id := client.backup(tr)
		ids = append(ids, id)
		want[id] = look(t, tr.dir)
	}
	for range resticCrashRounds() {
		for _, moment := range crashMoments["backup"] {
			r.killAt(moment.at, 1)
			backup()
			r.compare(raw)
		}
		for _, moment := range crashMoments["prune"] {
			r.killAt(moment.at, 1)
			client.run("forget", "--prune", "--max-unused", "0", ids[0])
			r.compare(raw)
			delete(want, ids[0])
			ids = ids[1:]
			backup()
		}
		client.sound(want)
	}
}

// TestResticKilled is TestResticSurvivesCrash with a client that is killed with the server. restic's own unlock, and the next backup and prune, mend
// what is left of it.
func TestResticKilled(t *testing.T) {
	t.Parallel()
	r, client, raw := crashedRestic(t)
	tr, ids, want := resticTrees(t, client, 96, 1)
	var cmd *exec.Cmd
	r.also = func() { _ = cmd.Process.Kill() }
	// killed runs a command of which the server and the client are killed.
	killed := func(at func(*http.Request) bool, args ...string) {
		t.Helper()
		cmd = exec.Command(client.program, args...)
		cmd.Env, cmd.Dir = append(os.Environ(), client.env...), filepath.Dir(tr.dir)
		r.killAt(at, 1)
		r.mu.Lock() // it is started before it can be killed
		err := cmd.Start()
		r.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Fatalf("%v ended well", args)
		}
		r.compare(raw)
		client.run("unlock")
		client.run("check", "--read-data")
	}
	backup := func() {
		t.Helper()
		id := client.backup(tr)
		ids = append(ids, id)
		want[id] = look(t, tr.dir)
	}
	for range resticCrashRounds() {
		for _, moment := range crashMoments["backup"] {
			tr.change(len(ids)%2, 3)
			killed(moment.at, "backup", "tree")
			backup()
		}
		for _, moment := range crashMoments["prune"] {
			killed(moment.at, "forget", "--prune", "--max-unused", "0", ids[0])
			delete(want, ids[0])
			ids = ids[1:]
			tr.change(len(ids)%2, 3)
			backup()
		}
		client.run("prune", "--max-unused", "0")
		client.sound(want)
	}
	run(t, nil, packhouse(), "check", "--verify", "-d", r.s.data)
}
