//go:build e2e

package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"packhouse/internal/sampling"
)

// restic is one restic client with its own caches.
type restic struct {
	t       testing.TB
	program string
	flags   []string // before each command
	env     []string
}

// resticPassword opens the key in testdata/restic.
const resticPassword = "e2e"

// newestRestic is the program of the restic that scripts/install-clients.sh builds.
func newestRestic(t testing.TB) string {
	t.Helper()
	program := filepath.Join(venv(), "bin", "restic")
	if !exists(program) {
		lack(t, "the newest restic is not installed; scripts/install-clients.sh installs it")
	}
	return program
}

// oldRestic is the program that Debian packages: it repeats requests that are answered with 403 or 404, and takes 404 of a listing for an error.
func oldRestic(t testing.TB) string {
	t.Helper()
	const program = "/usr/bin/restic"
	if !exists(program) {
		lack(t, "Debian's restic is not installed; scripts/install-clients.sh installs it")
	}
	return program
}

func newRestic(t testing.TB, program, url string, env ...string) *restic {
	t.Helper()
	home := t.TempDir()
	return &restic{t: t, program: program, env: append([]string{
		"RESTIC_REPOSITORY=rest:" + url + "/",
		"RESTIC_PASSWORD=" + resticPassword,
		"RESTIC_CACHE_DIR=" + filepath.Join(home, "cache"),
		"RESTIC_PACK_SIZE=4", // the least, in MiB: so that small trees have several packs
		"HOME=" + home,
		"LC_ALL=C.UTF-8",
	}, env...)}
}

// with is the same client with more in its environment.
func (r *restic) with(env ...string) *restic {
	other := *r
	other.env = append(append([]string(nil), r.env...), env...)
	return &other
}

// run demands success, and returns what restic printed.
func (r *restic) run(args ...string) string {
	r.t.Helper()
	return run(r.t, r.env, r.program, append(append([]string(nil), r.flags...), args...)...)
}

// try returns what restic printed and its exit code.
func (r *restic) try(args ...string) (string, int) {
	r.t.Helper()
	return try(r.t, r.env, r.program, append(append([]string(nil), r.flags...), args...)...)
}

// tryIn is try in a directory.
func (r *restic) tryIn(dir string, args ...string) (string, int) {
	r.t.Helper()
	return try(r.t, r.env, "sh", append(append([]string{"-c", `cd "$0" && exec "$@"`, dir, r.program}, r.flags...), args...)...)
}

// backup stores a tree under the path /tree, and returns the ID of the snapshot.
func (r *restic) backup(tr *tree, args ...string) (id string) {
	r.t.Helper()
	out, code := r.tryIn(filepath.Dir(tr.dir), append([]string{"backup", "--json", "tree"}, args...)...)
	id = savedSnapshot(out)
	if code != 0 || id == "" {
		r.t.Fatalf("backup: exit code %d, want 0\n%s", code, lastLines(out, 30))
	}
	return id
}

// savedSnapshot is the ID in the summary of `restic backup --json`, as short as all versions of it have.
func savedSnapshot(out string) string {
	var summary struct {
		Type string `json:"message_type"`
		ID   string `json:"snapshot_id"`
	}
	for line := range strings.Lines(out) {
		if json.Unmarshal([]byte(line), &summary) == nil && summary.Type == "summary" && len(summary.ID) >= shortID {
			return summary.ID[:shortID]
		}
	}
	return ""
}

// shortID is how many digits of the ID of a snapshot restic shows.
const shortID = 8

// snapshots are the IDs of the snapshots, oldest first.
func (r *restic) snapshots(args ...string) []string {
	r.t.Helper()
	out := r.run(append([]string{"snapshots", "--json"}, args...)...)
	var list []struct{ ID string }
	if err := json.Unmarshal([]byte(out[max(strings.Index(out, "["), 0):]), &list); err != nil {
		r.t.Fatalf("snapshots: %v\n%s", err, out)
	}
	ids := make([]string, 0, len(list))
	for _, snapshot := range list {
		ids = append(ids, snapshot.ID[:shortID])
	}
	return ids
}

// restored demands that a snapshot has a tree's files, byte by byte.
func (r *restic) restored(id string, want picture) {
	r.t.Helper()
	dir, err := os.MkdirTemp(r.t.TempDir(), "")
	if err != nil {
		r.t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	r.run("restore", id, "--target", dir)
	look(r.t, filepath.Join(dir, "tree")).same(r.t, want)
}

// sound demands that the client finds nothing wrong, and that the snapshots have their files.
func (r *restic) sound(want map[string]picture) {
	r.t.Helper()
	r.run("check", "--read-data")
	for id, files := range want {
		r.restored(id, files)
	}
}

// resticTree is a tree for a backup: large if every case is to be tried.
func resticTree(t testing.TB, seed uint64) *tree {
	if sampling.All() {
		return newTree(t, seed, 5_500, 320<<20)
	}
	return newTree(t, seed, 300, 16<<20)
}

// resticHTTP speaks restic's protocol to one repository, as little of it as the tests need.
type resticHTTP struct {
	base   string // URL of the repository
	header http.Header
	http   *http.Client
}

func newResticHTTP(s *server, repository string) *resticHTTP {
	return &resticHTTP{
		base: s.scheme + "://" + s.addr + "/" + repository, header: basic("packhouse", token),
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: 2 * time.Minute},
	}
}

// basic is the header of a client that logs in.
func basic(user, password string) http.Header {
	request := http.Request{Header: make(http.Header)}
	request.SetBasicAuth(user, password)
	return request.Header
}

// do sends one request. An error that is no *statusError means that it is not known whether the server did it.
func (c *resticHTTP) do(method, target string, body []byte) ([]byte, error) {
	request, err := http.NewRequest(method, c.base+target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header = c.header.Clone()
	request.Header.Set("Accept", "application/vnd.x.restic.rest.v2")
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, &statusError{method + " " + target, response.StatusCode, string(answer)}
	}
	return answer, nil
}

// list returns the names and sizes of a type of objects.
func (c *resticHTTP) list(kind string) (map[string]int64, error) {
	answer, err := c.do("GET", "/"+kind+"/", nil)
	if err != nil {
		return nil, err
	}
	var entries []struct {
		Name string
		Size int64
	}
	if err := json.Unmarshal(answer, &entries); err != nil {
		return nil, err
	}
	sizes := make(map[string]int64, len(entries))
	for _, entry := range entries {
		sizes[entry.Name] = entry.Size
	}
	return sizes, nil
}

// everything lists all objects as "type/name".
func (c *resticHTTP) everything() (map[string]int64, error) {
	all := make(map[string]int64)
	for _, kind := range []string{"data", "index", "keys", "locks", "snapshots"} {
		some, err := c.list(kind)
		if err != nil {
			return nil, err
		}
		for name, size := range some {
			all[kind+"/"+name] = size
		}
	}
	return all, nil
}

// initialized makes a repository as restic init does, but with the key in testdata, whose password is tried in no time: init chooses one for
// which each command needs half a second of a processor.
func (s *server) initialized(repository string) *resticHTTP {
	s.t.Helper()
	c := newResticHTTP(s, repository)
	c.initialize(s.t)
	return c
}

func (c *resticHTTP) initialize(t testing.TB) {
	t.Helper()
	read := func(name string) []byte {
		body, err := os.ReadFile(filepath.Join("testdata", "restic", name))
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	key := read("key")
	for _, step := range []struct {
		target string
		body   []byte
	}{{"/?create=true", nil}, {"/keys/" + sha256Name(key), key}, {"/config", read("config")}} {
		if _, err := c.do("POST", step.target, step.body); err != nil {
			t.Fatal(err)
		}
	}
}

func sha256Name(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// resticOn is a client of a new repository, whose key is the one in testdata.
func resticOn(t testing.TB, s *server, repository string, env ...string) *restic {
	t.Helper()
	program := newestRestic(t)
	s.initialized(repository)
	return newRestic(t, program, s.url(repository), env...)
}

// resticInfo is what `packhouse repo info` says of a repository.
type resticInfo struct {
	Usage struct {
		Items        int64
		Bytes        int64
		Counted      int64     `json:"bytes_counted"`
		Exempt       int64     `json:"bytes_exempt"`
		LastBackup   time.Time `json:"last_backup"`
		MissingItems int64     `json:"missing_items"`
		DamagedItems int64     `json:"damaged_items"`
	}
}

func (s *server) info(repository string) (info resticInfo) {
	s.t.Helper()
	text := run(s.t, nil, packhouse(), "repo", "info", repository, "--json", "-d", s.data)
	if err := json.Unmarshal([]byte(text), &info); err != nil {
		s.t.Fatal(fmt.Errorf("repo info: %w", err))
	}
	return info
}
