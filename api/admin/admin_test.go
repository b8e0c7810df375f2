package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"packhouse/api"
	"packhouse/api/admin"
	"packhouse/api/apitest"
	"packhouse/compact"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/policy"
)

// silent is a dialect that claims nothing.
type silent struct{}

func (silent) Name() string                                               { return "silent" }
func (silent) Claims(*http.Request) bool                                  { return false }
func (silent) Serve(w http.ResponseWriter, r *http.Request, _ api.Target) { w.WriteHeader(418) }

// world is a server with the repositories "r" and "s".
type world struct {
	t      testing.TB
	dir    string
	url    string
	set    *datadir.Set
	engine *compact.Engine
	server *api.Server
	log    *apitest.Log
}

// narrow are limits that a test reaches.
var narrow = api.Limits{Requests: 4, Streams: 2, Wait: 10 * time.Second}

func newWorld(t testing.TB, change func(*admin.Options)) *world {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "packhouse-test-") // in memory: syncs prove nothing here
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &world{t: t, dir: dir, log: new(apitest.Log)}
	w.set = datadir.Open(datadir.Options{Dir: dir, Settings: func(string) repo.Settings {
		return repo.Settings{Quota: -1, Grace: time.Hour}
	}})
	w.engine = compact.New(compact.Options{})
	for _, name := range []string{"r", "s"} {
		if _, err := w.set.Create(context.Background(), name, "silent"); err != nil {
			t.Fatal(err)
		}
	}
	o := admin.Options{Set: w.set, Engine: w.engine}
	if change != nil {
		change(&o)
	}
	auth, err := api.NewAuth(api.AuthOptions{Tokens: []api.Token{
		{Name: "alice", Secret: "alice"}, // for tests that narrow her by Authorize
		{Name: "root", Secret: "root"},
		{Name: "writer", Secret: "writer", Permissions: permissions(t, `{"":"rwWD"}`)},
		{Name: "reader", Secret: "reader", Permissions: permissions(t, `{"":"lr"}`)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	server, err := api.New(api.Options{Set: w.set, Dialects: []api.Dialect{silent{}}, Auth: auth, Admin: admin.New(o), Limits: narrow,
		Logger: slog.New(slog.NewTextHandler(w.log, nil)), OpenMetrics: true})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(server)
	w.url, w.server = front.URL, server
	t.Cleanup(func() {
		front.Close()
		if err := w.engine.Close(); err != nil {
			t.Errorf("close engine: %v", err)
		}
		if err := w.set.Close(); err != nil {
			t.Errorf("close set: %v", err)
		}
	})
	return w
}

func permissions(t testing.TB, text string) *policy.Permissions {
	t.Helper()
	p, err := policy.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (w *world) access() *repo.Access {
	w.t.Helper()
	r, err := w.set.Get(context.Background(), "r")
	if err != nil {
		w.t.Fatal(err)
	}
	return r.As(repo.Principal{Name: "test"})
}

func (w *world) put(key, body string) {
	w.t.Helper()
	_, err := w.access().Put(context.Background(), repo.PutRequest{Key: key, Body: strings.NewReader(body), Size: int64(len(body))})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) want(key, body string) {
	w.t.Helper()
	object, err := w.access().Open(context.Background(), key)
	if err != nil {
		w.t.Errorf("open %s: %v", key, err)
		return
	}
	defer object.Close()
	got, err := io.ReadAll(io.NewSectionReader(object, 0, object.Size()))
	if err != nil || string(got) != body {
		w.t.Errorf("%s: got %q, %v, want %q", key, got, err, body)
	}
}

// call sends a request as a principal and returns the answer.
func (w *world) call(as, method, path, body string) (*http.Response, string) {
	w.t.Helper()
	url := w.url
	if as == onTheServer {
		trusted := httptest.NewServer(w.server.Trusted())
		defer trusted.Close()
		url = trusted.URL
	}
	req, err := http.NewRequest(method, url+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+as)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp, string(got)
}

// onTheServer is who sends requests over the server's own socket.
const onTheServer = "local"

// document calls and decodes the JSON answer, which must have the status.
func (w *world) document(as, method, path, body string, status int) map[string]any {
	w.t.Helper()
	resp, text := w.call(as, method, path, body)
	if resp.StatusCode != status {
		w.t.Fatalf("%s %s: got %d %s, want %d", method, path, resp.StatusCode, text, status)
	}
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		w.t.Fatalf("%s %s: %v in %s", method, path, err, text)
	}
	return v
}

const (
	plan   = `{"operations":[{"ranges":[["a",1,3]],"name":{"algorithm":"sha256","prefix":"packs","levels":1},"delete":["a"]},{"delete":["b","never"]}]}`
	output = "packs/cb/cb1ad2119d8fafb69566510ee712661f9f14b83385006ef92aec47f523a38358" // of AAA
)

func TestCompaction(t *testing.T) {
	w := newWorld(t, nil)
	w.put("a", "aAAAa")
	w.put("b", "b")

	estimate := w.document("writer", "POST", "/r/-/compactions?dry_run=yes", plan, 200)
	want := map[string]any{"operations": 2.0, "outputs": 1.0, "bytes_read": 3.0, "bytes_written": 3.0, "bytes_freed": 6.0, "bytes_saved": 3.0}
	if fmt.Sprint(estimate) != fmt.Sprint(want) {
		t.Errorf("dry run: got %v, want %v", estimate, want)
	}
	w.want("a", "aAAAa")

	resp, text := w.call("writer", "POST", "/r/-/compactions", plan)
	var job compact.Job
	if err := json.Unmarshal([]byte(text), &job); err != nil || resp.StatusCode != 202 || resp.Header.Get("Location") != "/r/-/compactions/"+job.ID {
		t.Fatalf("submit: got %d, Location %q, %s", resp.StatusCode, resp.Header.Get("Location"), text)
	}
	resp, text = w.call("writer", "GET", "/r/-/compactions/"+job.ID+"/events", "")
	if resp.Header.Get("Content-Type") != "text/event-stream" || !strings.Contains(text, "event: end\ndata: {") || !strings.Contains(text, `"state":"done"`) {
		t.Errorf("events: got %s %s", resp.Header.Get("Content-Type"), text)
	}
	w.want(output, "AAA")
	done := w.document("writer", "GET", "/r/-/jobs/"+job.ID, "", 200)
	if done["state"] != "done" || done["when"] != "now" || done["kind"] != "compaction" || done["principal"] != "writer" {
		t.Errorf("job: got %v", done)
	}
	if p := done["progress"].(map[string]any); p["bytes_read"] != 3.0 || p["operations"] != 2.0 || p["bytes_freed"] != 6.0 {
		t.Errorf("progress: got %v", p)
	}
	_, text = w.call("writer", "GET", "/r/-/compactions/"+job.ID+"/outcomes", "")
	wantLines := `{"operation":0,"key":"` + output + `","size":3,"deleted":[true]}` + "\n" + `{"operation":1,"size":0,"deleted":[true,true]}` + "\n"
	if text != wantLines {
		t.Errorf("outcomes: got %s, want %s", text, wantLines)
	}
	// Sent again it is the same job.
	if again := w.document("writer", "POST", "/r/-/compactions?when=window", plan, 202); again["id"] != job.ID || again["state"] != "done" {
		t.Errorf("again: got %v", again)
	}
}

func TestCompactionKeepsWhenTold(t *testing.T) {
	w := newWorld(t, nil)
	w.put("a", "aAAAa")
	w.put("b", "b")
	job := w.document("root", "POST", "/r/-/compactions?delete=no", plan, 202)
	w.call("root", "GET", fmt.Sprintf("/r/-/jobs/%s/events", job["id"]), "")
	w.want("a", "aAAAa")
	w.want("b", "b")
	w.want(output, "AAA")
}

func TestPlanProblems(t *testing.T) {
	w := newWorld(t, func(o *admin.Options) { o.Limits = compact.Limits{Operations: 3, Ranges: 4} })
	w.put("a", "aAAAa")
	for _, c := range []struct {
		name, body, as string
		status         int
		kind           string
		op, rng        any // float64, or nil
	}{
		{"missing item", `{"operations":[{"delete":["x"]},{"ranges":[["a",0,1],["b",0,1]],"target":"t"}]}`, "root", 404, "not-found", 1.0, 1.0},
		{"beyond the end", `{"operations":[{"ranges":[["a",3,3]],"target":"t"}]}`, "root", 422, "range", 0.0, 0.0},
		{"no name", `{"operations":[{"ranges":[["a",3,1]]}]}`, "root", 400, "invalid", 0.0, nil},
		{"not JSON", `{"operations":[{"delete":["x"]},{"ranges":oops}]}`, "root", 400, "invalid", 1.0, nil},
		{"two numbers", `{"operations":[{"ranges":[["a",0,1],["a",1]],"target":"t"}]}`, "root", 400, "invalid", 0.0, 1.0},
		{"three numbers", `{"operations":[{"ranges":[["a",1,1,1]],"target":"t"}]}`, "root", 400, "invalid", 0.0, 0.0},
		{"a fraction", `{"operations":[{"ranges":[["a",1,1.5]],"target":"t"}]}`, "root", 400, "invalid", 0.0, 0.0},
		{"beyond 64 bits", `{"operations":[{"ranges":[["a",1,9223372036854775808]],"target":"t"}]}`, "root", 400, "invalid", 0.0, 0.0},
		{"null", `{"operations":[{"ranges":[["a",null,1]],"target":"t"}]}`, "root", 400, "invalid", 0.0, 0.0},
		{"null for a key", `{"operations":[{"ranges":[[null,0,1]],"target":"t"}]}`, "root", 400, "invalid", 0.0, 0.0},
		{"no target", `{"operations":[{"ranges":[["a",0,1]],"target":null,"name":null,"frame":null,"empty":null,"delete":null}]}`, "root", 400, "invalid", 0.0, nil},
		{"other spelling", `{"operations":[{"Ranges":[["a",0,1]],"target":"t"}]}`, "root", 400, "invalid", 0.0, nil},
		{"member twice", `{"operations":[{"ranges":[["a",0,1]],"target":"t","target":"u"}]}`, "root", 400, "invalid", 0.0, nil},
		{"operations twice", `{"operations":[{}],"operations":[{}]}`, "root", 400, "invalid", 1.0, nil},
		{"nothing to make it from", `{"operations":[{"ranges":[],"target":"t"}]}`, "root", 400, "invalid", 0.0, nil},
		{"nothing to name", `{"operations":[{"name":{"algorithm":"sha256"},"delete":["a"]}]}`, "root", 400, "invalid", 0.0, nil},
		{"name without an algorithm", `{"operations":[{"empty":true,"target":"t","name":{"prefix":"p"}}]}`, "root", 400, "invalid", 0.0, nil},
		{"too many ranges", `{"operations":[{"ranges":[["a",0,1],["a",0,1],["a",0,1],["a",0,1],["a",0,1]],"target":"t"}]}`, "root", 413, "too-large", 0.0, nil},
		{"too many deletions", `{"operations":[{"delete":["a","a","a","a","a"]}]}`, "root", 413, "too-large", 0.0, nil},
		{"unknown member", `{"operations":[{"targte":"t"}]}`, "root", 400, "invalid", 0.0, nil},
		{"unknown member of the plan", `{"ops":[]}`, "root", 400, "invalid", 0.0, nil},
		{"no operations", `{}`, "root", 400, "invalid", 0.0, nil},
		{"not an object", `[]`, "root", 400, "invalid", 0.0, nil},
		{"ends early", `{"operations":[{"delete":["x"]},`, "root", 400, "incomplete", 1.0, nil},
		{"text behind", `{"operations":[]} x`, "root", 400, "invalid", 0.0, nil},
		{"unknown hash", `{"operations":[{"empty":true,"name":{"algorithm":"crc"}}]}`, "root", 400, "algorithm", 0.0, nil},
		{"unknown frame", `{"operations":[{"empty":true,"target":"t","frame":"tar"}]}`, "root", 400, "invalid", 0.0, nil},
		{"target and name", `{"operations":[{"empty":true,"target":"t","name":{"algorithm":"sha256"}}]}`, "root", 400, "invalid", 0.0, nil},
		{"too many operations", `{"operations":[{},{},{},{}]}`, "root", 413, "too-large", nil, nil},
		{"no right to write", `{"operations":[{"ranges":[["a",1,3]],"target":"t"}]}`, "reader", 403, "denied", 0.0, nil},
		{"no right to delete", `{"operations":[{"delete":["a"]}]}`, "reader", 403, "denied", 0.0, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := *w
			w.t = t
			p := w.document(c.as, "POST", "/r/-/compactions", c.body, c.status)
			if p["type"] != "urn:packhouse:problem:"+c.kind || p["operation"] != c.op || p["range"] != c.rng || p["status"] != float64(c.status) {
				t.Errorf("got %v, want kind %s, operation %v, range %v", p, c.kind, c.op, c.rng)
			}
		})
	}
	w.want("a", "aAAAa")
	if jobs := w.document("root", "GET", "/r/-/jobs", "", 200)["jobs"].([]any); len(jobs) != 0 {
		t.Errorf("jobs: got %v, want none", jobs)
	}
}

func TestJobsOfOthers(t *testing.T) {
	w := newWorld(t, nil)
	w.put("a", "aAAAa")
	tomorrow := time.Now().Add(24 * time.Hour).UTC().Format(time.RFC3339)
	job := w.document("root", "POST", "/r/-/compactions?when="+tomorrow, plan, 202)
	path := fmt.Sprintf("/r/-/compactions/%s", job["id"])
	if job["state"] != "queued" || job["when"] != tomorrow {
		t.Errorf("job: got %v", job)
	}
	w.document("writer", "GET", path, "", 404) // may not even list
	w.document("reader", "GET", path, "", 200)
	w.document("reader", "DELETE", path, "", 403)
	w.document("root", "GET", "/s/-/compactions/"+job["id"].(string), "", 404)
	if cancelled := w.document("root", "DELETE", path, "", 200); cancelled["state"] != "cancelled" {
		t.Errorf("cancel: got %v", cancelled)
	}
	w.document("root", "DELETE", path, "", 409)
	if jobs := w.document("reader", "GET", "/r/-/compactions", "", 200)["jobs"].([]any); len(jobs) != 1 {
		t.Errorf("jobs: got %v", jobs)
	}
	w.document("root", "GET", path+"/outcomes", "", 404)
	w.want("a", "aAAAa")
}

// A stop of the server does not wait for whoever watches a job that is not due yet.
func TestStreamEndsWithTheServer(t *testing.T) {
	w := newWorld(t, nil)
	w.put("a", "aAAAa")
	tomorrow := time.Now().Add(24 * time.Hour).UTC().Format(time.RFC3339)
	job := w.document("root", "POST", "/r/-/compactions?when="+tomorrow, plan, 202)
	ended := make(chan string, 1)
	go func() {
		_, text := w.call("root", "GET", fmt.Sprintf("/r/-/jobs/%s/events", job["id"]), "")
		ended <- text
	}()
	for w.server.Active() == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := w.server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case text := <-ended:
		if !strings.Contains(text, "event: error\ndata: ") || !strings.Contains(text, "busy") {
			t.Errorf("got %q", text)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the stream goes on")
	}
}

// A client that goes away, or reads no more, does not keep its stream open.
func TestStreamEndsWithItsClient(t *testing.T) {
	w := newWorld(t, func(o *admin.Options) { o.Heartbeat = 5 * time.Millisecond })
	w.put("a", "aAAAa")
	tomorrow := time.Now().Add(24 * time.Hour).UTC().Format(time.RFC3339)
	job := w.document("root", "POST", "/r/-/compactions?when="+tomorrow, plan, 202)
	before := runtime.NumGoroutine()
	ctx, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", fmt.Sprintf("%s/r/-/jobs/%s/events", w.url, job["id"]), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer root")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	first := make([]byte, 16)
	if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != "event: progress\n" {
		t.Fatalf("stream: got %q, %v", first, err)
	}
	if w.server.Active() != 1 {
		t.Errorf("requests: got %d, want the stream", w.server.Active())
	}
	leave()
	for end := time.Now().Add(10 * time.Second); w.server.Active() > 0 || runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the stream goes on: %d requests, %d goroutines, %d before", w.server.Active(), runtime.NumGoroutine(), before)
		}
	}
}

// Streams have a small bound of their own, and take no slot from those who work.
func TestStreamsAreBounded(t *testing.T) {
	w := newWorld(t, nil)
	w.put("a", "aAAAa")
	tomorrow := time.Now().Add(24 * time.Hour).UTC().Format(time.RFC3339)
	job := w.document("root", "POST", "/r/-/compactions?when="+tomorrow, plan, 202)
	path := fmt.Sprintf("/r/-/jobs/%s/events", job["id"])
	var open []*http.Response
	for range narrow.Streams {
		req, err := http.NewRequestWithContext(t.Context(), "GET", w.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer root")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Fatalf("stream: got %d", resp.StatusCode)
		}
		open = append(open, resp)
	}
	for range 2 * narrow.Requests { // a refusal gives back its slot
		if got := w.document("root", "GET", path, "", 503); got["type"] != "urn:packhouse:problem:busy" {
			t.Errorf("one stream more: got %v, want it busy", got)
		}
	}
	for range narrow.Requests {
		w.document("root", "GET", "/r/-/", "", 200)
	}
	open[0].Body.Close()
	for end := time.Now().Add(10 * time.Second); w.server.Active() >= narrow.Streams; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the stream goes on")
		}
	}
	w.document("root", "DELETE", fmt.Sprintf("/r/-/jobs/%s", job["id"]), "", 200)
	if _, text := w.call("root", "GET", path, ""); !strings.Contains(text, "event: end\n") {
		t.Errorf("a stream when another has ended: got %q", text)
	}
}

// A failed job says where its plan no longer fitted.
func TestFailedJob(t *testing.T) {
	w := newWorld(t, nil)
	w.put("a", "aAAAa")
	soon := time.Now().Add(2 * time.Second).UTC().Format(time.RFC3339)
	job := w.document("root", "POST", "/r/-/compactions?when="+soon, plan, 202)
	if err := w.access().Delete(context.Background(), "a"); err != nil {
		t.Fatal(err)
	}
	w.call("root", "GET", fmt.Sprintf("/r/-/jobs/%s/events", job["id"]), "")
	failed := w.document("root", "GET", fmt.Sprintf("/r/-/jobs/%s", job["id"]), "", 200)
	fault, _ := failed["error"].(map[string]any)
	if failed["state"] != "failed" || fault["key"] != "a" || fault["operation"] != 0.0 || fault["range"] != 0.0 {
		t.Errorf("job: got %v", failed)
	}
}

func TestScrubFindsDamage(t *testing.T) {
	w := newWorld(t, nil)
	w.put("good", "good")
	w.put("bad", "some bytes that will rot")
	damage(t, filepath.Join(w.dir, "r", "blobs"), "some bytes")
	job := w.document("root", "POST", "/r/-/scrubs", "", 202)
	w.call("root", "GET", fmt.Sprintf("/r/-/jobs/%s/events", job["id"]), "")
	done := w.document("root", "GET", fmt.Sprintf("/r/-/jobs/%s", job["id"]), "", 200)
	if done["state"] != "done" || done["bad"] != 1.0 || fmt.Sprint(done["damaged"]) != "[bad]" {
		t.Errorf("scrub: got %v", done)
	}
	if _, err := w.access().Open(context.Background(), "bad"); err == nil {
		t.Error("a damaged item is served")
	}
	w.want("good", "good")
	// It stays damaged for the next scrub, and is not deleted.
	job = w.document("root", "POST", "/r/-/scrubs?share=1", "", 202)
	w.call("root", "GET", fmt.Sprintf("/r/-/jobs/%s/events", job["id"]), "")
	if done = w.document("root", "GET", fmt.Sprintf("/r/-/jobs/%s", job["id"]), "", 200); done["bad"] != 1.0 {
		t.Errorf("second scrub: got %v", done)
	}
	w.document("reader", "POST", "/r/-/scrubs", "", 403)
	w.document("root", "POST", "/r/-/scrubs?share=2", "", 400)
}

// damage changes a byte of the blob that holds text.
func damage(t *testing.T, dir, text string) {
	t.Helper()
	found := false
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if i := bytes.Index(body, []byte(text)); i >= 0 {
			found = true
			body[i] ^= 1
			return os.WriteFile(path, body, 0o600)
		}
		return nil
	})
	if err != nil || !found {
		t.Fatalf("damage: found %v, %v", found, err)
	}
}

func TestRepositories(t *testing.T) {
	w := newWorld(t, nil)
	w.put("a", "aAAAa")
	list := w.document("reader", "GET", "/-/repositories", "", 200)["repositories"].([]any)
	if len(list) != 2 {
		t.Fatalf("repositories: got %v", list)
	}
	r := list[0].(map[string]any)
	u := r["usage"].(map[string]any)
	if r["name"] != "r" || r["dialect"] != "silent" || u["items"] != 1.0 || u["bytes"] != 5.0 || u["quota"] != nil || r["health"].(map[string]any)["writable"] != true {
		t.Errorf("repository: got %v", r)
	}
	if list := w.document("writer", "GET", "/-/repositories", "", 200)["repositories"].([]any); len(list) != 0 {
		t.Errorf("repositories of one who may not list: got %v", list)
	}
	w.document("reader", "PUT", "/r/-/quota", `{"quota":10}`, 403)
	for _, bad := range []string{`{"trash_quota":-1}`, `{"quota":7,"trash_quota":"1"}`, `{"quota":-1}`, `{"quota":"1"}`, `{}`, `{"quota":1}x`, `{"limit":1}`} {
		w.document("root", "PUT", "/r/-/quota", bad, 400)
	}
	// With the quota the trash could hold less.
	refused := w.document("root", "PUT", "/r/-/quota", `{"quota":7}`, 403)
	if !strings.Contains(fmt.Sprint(refused), "on the server itself") {
		t.Errorf("a quota that makes the trash give way: got %v", refused)
	}
	set := w.document(onTheServer, "PUT", "/r/-/quota", `{"quota":7}`, 200)
	if set["usage"].(map[string]any)["quota"] != 7.0 {
		t.Errorf("quota: got %v", set)
	}
	if set["usage"].(map[string]any)["trash_quota"] != 7.0 {
		t.Errorf("trash quota, as the quota: got %v", set)
	}
	for body, want := range map[string]any{`{"trash_quota":9}`: 9.0, `{"trash_quota":null}`: nil, `{"quota":7,"trash_quota":"default"}`: 7.0} {
		set := w.document(onTheServer, "PUT", "/r/-/quota", body, 200)["usage"].(map[string]any)
		if set["trash_quota"] != want || set["quota"] != 7.0 {
			t.Errorf("%s: got %v", body, set)
		}
	}
	w.document(onTheServer, "PUT", "/r/-/quota", `{"quota":7,"trash_quota":"default"}`, 200) // the quota is what the trash may hold
	for _, c := range []struct {
		body   string
		status int
	}{{`{"trash_quota":6}`, 403}, {`{"quota":6}`, 403}, {`{"quota":100,"trash_quota":6}`, 403}, {`{"quota":6,"trash_quota":7}`, 200}, {`{"quota":7}`, 200}} {
		w.document("root", "PUT", "/r/-/quota", c.body, c.status)
	}
	full := w.document("root", "POST", "/r/-/compactions?delete=no", plan, 202)
	w.call("root", "GET", fmt.Sprintf("/r/-/jobs/%s/events", full["id"]), "")
	if failed := w.document("root", "GET", fmt.Sprintf("/r/-/jobs/%s", full["id"]), "", 200); failed["state"] != "failed" {
		t.Errorf("beyond the quota: got %v", failed)
	}
	if set := w.document("root", "PUT", "/r/-/quota", `{"quota":null}`, 200); set["usage"].(map[string]any)["quota"] != nil {
		t.Errorf("no quota: got %v", set)
	}
	if set := w.document("root", "PUT", "/r/-/quota", `{"quota":"default"}`, 200); set["usage"].(map[string]any)["quota"] != nil {
		t.Errorf("no configured quota: got %v", set)
	}
	w.document("root", "GET", "/nope/-/", "", 404)
	w.document("root", "GET", "/r/-/nope", "", 404)
	w.document("root", "POST", "/r/-/jobs", "", 405)
	w.document("root", "GET", "/r/-/", "", 200)
}

// Who may use one repository learns nothing of the others: neither which there are nor in what state, nor what else lies
// in the data directory. Who may see one does not learn the names of foreign files.
func TestStrangersLearnNothing(t *testing.T) {
	w := newWorld(t, func(o *admin.Options) {
		o.Authorize = func(_ *repo.Repository, name string, p repo.Principal, _ bool) repo.Principal {
			if p.Name == "alice" && name != "r" {
				p.Permissions = permissions(t, `{}`)
			}
			return p
		}
	})
	for file, text := range map[string]string{"private/salary.xls": "x", "damaged/index.db": strings.Repeat("x", 1<<16)} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(w.dir, file)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(w.dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, want := w.call("alice", "GET", "/nosuch/-/", "")
	for _, name := range []string{"s", "private", "damaged", "nosuch", "config", ".bad"} {
		for _, path := range []string{"", "jobs", "jobs/x", "compactions", "compactions/x", "locks", "trash", "nope"} {
			resp, text := w.call("alice", "GET", "/"+name+"/-/"+path, "")
			if resp.StatusCode != 403 || text != want {
				t.Errorf("/%s/-/%s: got %d %s, want %s", name, path, resp.StatusCode, text, want)
			}
		}
	}
	if _, text := w.call("alice", "GET", "/-/repositories", ""); strings.Contains(text, `"damaged"`) || strings.Count(text, `"name"`) != 1 {
		t.Errorf("repositories: got %s, want r alone", text)
	}
	if list := w.document("root", "GET", "/-/repositories", "", 200)["repositories"].([]any); len(list) != 3 {
		t.Errorf("repositories of the administrator: got %v, want three, one of them damaged", list)
	}
	w.document("alice", "GET", "/r/-/", "", 200)
	if p := w.document("root", "GET", "/private/-/", "", 409); p["detail"] != repo.ErrForeign.Error() {
		t.Errorf("foreign files: got %v, want %v", p, repo.ErrForeign)
	}
	trusted := httptest.NewServer(w.server.Trusted())
	defer trusted.Close()
	resp, err := http.Get(trusted.URL + "/private/-/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(text), "salary.xls") {
		t.Errorf("on the trusted side: got %s, %v, want the file's name", text, err)
	}
}

// The log says who did what to which thing of which repository, and why not.
func TestTrail(t *testing.T) {
	w := newWorld(t, func(o *admin.Options) {
		o.Locks = func(context.Context, *repo.Access, *api.LockWindow) ([]api.LockInfo, error) {
			return []api.LockInfo{{Kind: api.LockObject, ID: "locks/x"}}, nil
		}
		o.Break = func(context.Context, *repo.Access, api.LockInfo) error { return nil }
	})
	w.put("a", "aAAAa")
	if err := w.access().Delete(context.Background(), "a"); err != nil {
		t.Fatal(err)
	}
	_, text := w.call("root", "GET", "/r/-/trash", "")
	var row struct{ ID string }
	if err := json.Unmarshal([]byte(text), &row); err != nil {
		t.Fatalf("trash: got %s, %v", text, err)
	}
	w.document("root", "POST", "/r/-/trash/"+row.ID+"/restore", "", 200)
	w.document("reader", "POST", "/r/-/trash/"+row.ID+"/restore", "", 403)
	w.document(onTheServer, "PUT", "/r/-/quota", `{"quota":7}`, 200)
	w.call("root", "POST", "/r/-/locks/break", `{"id":"locks/x"}`)
	w.document("root", "POST", "/r/-/locks/break", `{"id":"locks/y"}`, 404)
	tomorrow := time.Now().Add(24 * time.Hour).UTC().Format(time.RFC3339)
	job := w.document("root", "POST", "/r/-/scrubs?when="+tomorrow, "", 202)["id"].(string)
	w.document("root", "DELETE", "/r/-/jobs/"+job, "", 200)
	w.call("root", "GET", "/r/-/jobs/"+job+"/events", "")
	w.document("root", "POST", "/r/-/compactions", `{"operations":[{"x":1}]}`, 400)
	w.document("root", "GET", "/-/repositories", "", 200)
	w.document("root", "GET", "/missing/-/", "", 404)
	for _, want := range []string{
		`principal=root repository=r dialect=server operation=restore method=POST key=` + row.ID + ` status=200`,
		`principal=reader repository=r dialect=server operation=restore method=POST key=` + row.ID + ` status=403 .* reason="this needs all rights in the repository.*"`,
		`principal=local repository=r dialect=server operation=set-quota method=PUT key="" status=200`,
		`principal=root repository=r dialect=server operation=break-lock method=POST key=locks/x status=204`,
		`operation=break-lock method=POST key=locks/y status=404 .* reason="lock locks/y: not found"`,
		`repository=r dialect=server operation=scrub method=POST key=` + job + ` status=202`,
		`repository=r dialect=server operation=cancel-job method=DELETE key=` + job + ` status=200`,
		`repository=r dialect=server operation=events method=GET key=` + job + ` status=200`,
		`repository=r dialect=server operation=compact method=POST key="" status=400 .* reason=".*operation 0`,
		`principal=root repository="" dialect=server operation=repositories method=GET`,
		`repository=missing dialect=server operation=admin method=GET key="" status=404 .* reason="no such repository"`,
	} {
		w.log.Await(t, 0, "^.*msg=request .*"+want)
	}
	_, metrics := w.call("root", "GET", "/metrics", "")
	for _, want := range []string{
		`packhouse_request_seconds_count{dialect="server",operation="events"} 1`,
		`packhouse_requests_total{dialect="server",operation="restore",status="403"} 1`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics have no %s", want)
		}
	}
	if t.Failed() {
		t.Log(w.log.String())
	}
}

func TestTrash(t *testing.T) {
	w := newWorld(t, nil)
	w.put("dir/a", "first")
	if err := w.access().Delete(context.Background(), "dir/a"); err != nil {
		t.Fatal(err)
	}
	_, text := w.call("root", "GET", "/r/-/trash", "")
	var row map[string]any
	if err := json.Unmarshal([]byte(text), &row); err != nil || row["key"] != "dir/a" || row["size"] != 5.0 {
		t.Fatalf("trash: got %s, %v", text, err)
	}
	w.put("dir/a", "second")
	path := fmt.Sprintf("/r/-/trash/%s/restore", row["id"])
	w.document("reader", "POST", path, "", 403)
	w.document("root", "POST", path, "", 409)
	if back := w.document("root", "POST", path, `{"key":"back"}`, 200); back["key"] != "back" || back["size"] != 5.0 {
		t.Errorf("restore: got %v", back)
	}
	w.want("back", "first")
	w.document("root", "POST", path, `{"key":"back2"}`, 404)
}

func TestLiftGuard(t *testing.T) {
	w := newWorld(t, nil)
	for _, user := range []string{"reader", "writer", "root"} {
		w.document(user, "PUT", "/r/-/guard/lift", `{"seconds": 60}`, 403)
	}
	for _, bad := range []string{"", "{}", `{"seconds": -1}`, `{"seconds": 604801}`, `{"seconds": 1.5}`, `{"seconds": "1h"}`, `{"until": 1}`} {
		w.document(onTheServer, "PUT", "/r/-/guard/lift", bad, 400)
	}
	if got := w.document("reader", "GET", "/r/-/guard", "", 200); got["lifted_until"] != nil || got["guard"] != "keep" || got["max_removed"] != nil {
		t.Errorf("before: got %v", got)
	}
	if got := w.document(onTheServer, "PUT", "/r/-/guard/lift", `{"seconds": 60}`, 200); got["lifted_until"] == nil {
		t.Errorf("lifted: got %v", got)
	}
	if got := w.document(onTheServer, "PUT", "/r/-/guard/lift", `{"seconds": 0}`, 200); got["lifted_until"] != nil {
		t.Errorf("ended: got %v", got)
	}
}

// A restore takes as many IDs as the trash of a large repository has, and not more than fit into memory.
func TestRestoreOfManyIDs(t *testing.T) {
	w := newWorld(t, nil)
	w.put("dir/a", "first")
	if err := w.access().Delete(context.Background(), "dir/a"); err != nil {
		t.Fatal(err)
	}
	_, text := w.call("root", "GET", "/r/-/trash", "")
	var row struct{ ID string }
	if err := json.Unmarshal([]byte(text), &row); err != nil {
		t.Fatal(err)
	}
	unknown := strings.Repeat(`"`+strings.Repeat("0", 32)+`", `, 200_000)
	w.document("root", "POST", "/r/-/trash/restore", `{"ids": [`+unknown+unknown+`"`+row.ID+`"]}`, 413)
	if done := w.document("root", "POST", "/r/-/trash/restore", `{"ids": [`+unknown+`"`+row.ID+`"]}`, 200); done["items"] != 1.0 {
		t.Errorf("got %v", done)
	}
	w.want("dir/a", "first")
}

func TestEmptyTrash(t *testing.T) {
	w := newWorld(t, nil)
	remove := func(key string) {
		t.Helper()
		w.put(key, "12345")
		if err := w.access().Delete(context.Background(), key); err != nil {
			t.Fatal(err)
		}
	}
	remove("a")
	w.put("kept", "live")
	for _, user := range []string{"reader", "writer", "root"} {
		w.document(user, "DELETE", "/r/-/trash", "", 403)
	}
	for _, bad := range []string{"?removed_before=yesterday", "?removed_before=", "?before=2026-11-25T18:00:00Z"} {
		w.document(onTheServer, "DELETE", "/r/-/trash"+bad, "", 400)
	}
	if got := w.document(onTheServer, "DELETE", "/r/-/trash?removed_before=2020-01-01T00:00:00Z", "", 200); got["items"] != 0.0 {
		t.Errorf("before there was anything: got %v", got)
	}
	if got := w.document(onTheServer, "DELETE", "/r/-/trash", "", 200); got["items"] != 1.0 || got["bytes"] != 5.0 {
		t.Errorf("all: got %v", got)
	}
	if _, text := w.call("root", "GET", "/r/-/trash", ""); text != "" {
		t.Errorf("trash: got %s", text)
	}
	w.want("kept", "live")
}

// What was seen of who took a lock stands beside it.
func TestLocksTellOfSilence(t *testing.T) {
	ago := func(d time.Duration) time.Time { return time.Now().Add(-d).UTC().Truncate(time.Second) }
	started, request, change := ago(5*time.Hour), ago(12*time.Minute+30*time.Second), ago(40*time.Minute+30*time.Second)
	w := newWorld(t, func(o *admin.Options) {
		o.Locks = func(context.Context, *repo.Access, *api.LockWindow) ([]api.LockInfo, error) {
			return []api.LockInfo{
				{Kind: api.LockTTL, ID: "repo-lock", Principal: "alice", Address: "10.0.0.7"},
				{Kind: api.LockTTL, ID: "silent", Principal: "bob", Address: "10.0.0.7"},
				{Kind: api.LockTTL, ID: "old"},
			}, nil
		}
		o.Activity = func(repository, principal, address string) api.Activity {
			a := api.Activity{Since: started, Started: true}
			if repository == "r" && principal == "alice" && address == "10.0.0.7" {
				a.Request, a.Change = request, change
			}
			return a
		}
	})
	_, text := w.call("reader", "GET", "/r/-/locks", "")
	var got api.LockList
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatalf("got %s, %v", text, err)
	}
	want := []api.LockInfo{
		{Kind: "ttl", ID: "repo-lock", Principal: "alice", Address: "10.0.0.7", LastRequest: &request, LastChange: &change, SeenSince: &started,
			Silence: "no request for 12 min; nothing stored or removed for 40 min"},
		{Kind: "ttl", ID: "silent", Principal: "bob", Address: "10.0.0.7", SeenSince: &started, Silence: "no request since the server started, 5 h ago"},
		{Kind: "ttl", ID: "old", Silence: "not known who took it"},
	}
	if !reflect.DeepEqual(got.Locks, want) {
		t.Errorf("got %s", text)
	}
}

func TestLocks(t *testing.T) {
	broken := ""
	w := newWorld(t, func(o *admin.Options) {
		o.Locks = func(context.Context, *repo.Access, *api.LockWindow) ([]api.LockInfo, error) {
			return []api.LockInfo{{Kind: api.LockObject, ID: "locks/x y"}}, nil
		}
		o.Break = func(_ context.Context, _ *repo.Access, l api.LockInfo) error {
			broken = l.ID
			return nil
		}
	})
	if locks := w.document("reader", "GET", "/r/-/locks", "", 200)["locks"].([]any); len(locks) != 1 {
		t.Errorf("locks: got %v", locks)
	} else if lock := locks[0].(map[string]any); lock["break"] != "packhouse lock break r 'locks/x y'" || lock["silence"] != nil {
		t.Errorf("a lock of which nothing is known: got %v", lock)
	}
	w.document("reader", "POST", "/r/-/locks/break", `{"id":"locks/x y"}`, 403)
	w.document("root", "POST", "/r/-/locks/break", `{"id":"other"}`, 404)
	if resp, text := w.call("root", "POST", "/r/-/locks/break", `{"id":"locks/x y"}`); resp.StatusCode != 204 || broken != "locks/x y" {
		t.Errorf("break: got %d %s, broken %q", resp.StatusCode, text, broken)
	}
}
