package restic_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"packhouse/api"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/layout"
)

// files are those of blobs that contain a text.
func files(t *testing.T, dir, text string) (paths []string) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "*", "blobs", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		content, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // what an item had before it was mended goes behind the answer
			t.Fatal(err)
		}
		if strings.Contains(string(content), text) {
			paths = append(paths, path)
		}
	}
	return paths
}

// TestLostObjects: the name of a snapshot, index or key whose file is lost stays in the listing, as clients take what is not listed for
// unused; a pack's does not, so that clients see that it is gone. Source: restic-rest 1.4.
func TestLostObjects(t *testing.T) {
	dir := t.TempDir()
	w := start(t, api.Options{}, datadir.Options{Dir: dir})
	w.create("r")
	for _, kind := range []string{"snapshots", "index", "keys", "data"} {
		for _, content := range []string{"sound ", "lost "} {
			w.store("all", "r", kind, content+kind)
		}
		found := files(t, dir, "lost "+kind)
		if len(found) != 1 {
			t.Fatalf("files of a lost object: %q", found)
		}
		if err := os.Remove(found[0]); err != nil {
			t.Fatal(err)
		}
		lost := "/r/" + kind + "/" + id("lost "+kind)
		w.want(404, "all", "GET", lost, "")
		a := w.want(200, "all", "GET", "/r/"+kind+"/", "")
		if got, want := strings.Contains(a.body, id("lost "+kind)), kind != "data"; got != want {
			t.Errorf("%s: the lost one is listed: %v", kind, got)
		}
		if !strings.Contains(a.body, id("sound "+kind)) {
			t.Errorf("%s: %s", kind, a.body)
		}
		w.want(200, "backup", "POST", lost, "lost "+kind) // the same bytes mend it, for a client that may not overwrite, too
		w.want(200, "all", "GET", lost, "")
	}
}

// TestDamagedObject: wrong bytes are 403, which clients do not repeat, stay listed, and are mended by the right ones.
func TestDamagedObject(t *testing.T) {
	dir := t.TempDir()
	w := start(t, api.Options{}, datadir.Options{Dir: dir})
	w.create("r")
	content := "a snapshot " + strings.Repeat("x", 200_000)
	path := w.store("all", "r", "snapshots", content)
	found := files(t, dir, "a snapshot")
	if len(found) != 1 {
		t.Fatalf("files: %q", found)
	}
	if err := os.WriteFile(found[0], []byte(strings.ToUpper(content)), 0o600); err != nil {
		t.Fatal(err)
	}
	if a := w.want(403, "all", "GET", path, ""); !strings.Contains(a.body, "damaged") {
		t.Errorf("body: %q", a.body)
	}
	w.want(403, "all", "GET", path, "", "Range", "bytes=0-")
	w.want(403, "all", "GET", path, "", "Range", "bytes=5-50")
	if a := w.want(200, "all", "GET", "/r/snapshots/", ""); !strings.Contains(a.body, id(content)) {
		t.Errorf("listing: %s", a.body)
	}
	w.want(200, "backup", "POST", path, content)
	if a := w.want(200, "all", "GET", path, ""); a.body != content {
		t.Error("the object was not mended")
	}
}

// TestVanishedRepository: one that was there and is missing is no empty repository, also after a restart, until it is back, or created again, or an
// administrator has destroyed it.
func TestVanishedRepository(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, layout.OwnDir), 0o700); err != nil { // as a server has it
		t.Fatal(err)
	}
	place, away := filepath.Join(dir, "alice%2Fr"), filepath.Join(t.TempDir(), "away")
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	lists := func(w *world, status int) {
		t.Helper()
		for _, path := range []string{"snapshots/", "locks/", "data/", "config"} {
			w.want(status, "all", "GET", "/alice/r/"+path, "")
		}
	}
	// restarted runs fn with a server that was started anew.
	restarted := func(name string, fn func(w *world)) {
		t.Run(name, func(t *testing.T) { fn(start(t, api.Options{}, datadir.Options{Dir: dir})) })
	}
	restarted("while it is served", func(w *world) {
		lists(w, 404)
		w.create("alice/r")
		w.store("all", "alice/r", "snapshots", "one")
		w.want(200, "all", "POST", "/alice/r/config", "config")
		move(place, away)
		lists(w, 500)
		w.want(404, "all", "GET", "/alice/other/snapshots/", "")
	})
	restarted("after a restart", func(w *world) {
		lists(w, 500)
		if err := os.Mkdir(place, 0o700); err != nil { // the directory on which its volume was mounted
			t.Fatal(err)
		}
		lists(w, 500)
		if err := os.Remove(place); err != nil {
			t.Fatal(err)
		}
		move(away, place)
		lists(w, 200)
		move(place, away)
	})
	restarted("created again", func(w *world) {
		w.create("alice/r")
		w.want(200, "all", "GET", "/alice/r/snapshots/", "")
		if err := w.Set.Destroy(context.Background(), "alice/r"); err != nil {
			t.Fatal(err)
		}
		lists(w, 404)
	})
	restarted("destroyed", func(w *world) { lists(w, 404) })
}

// slowSet has something happen before the repository that was asked for is handed on.
type slowSet struct {
	*datadir.Set
	meanwhile func()
}

func (s *slowSet) Get(ctx context.Context, name string) (*repo.Repository, error) {
	r, err := s.Set.Get(ctx, name)
	if s.meanwhile != nil {
		s.meanwhile()
	}
	return r, err
}

// TestDestroyedWhileListed: a repository that is destroyed is not one that is missing, also for a request that has opened it before.
func TestDestroyedWhileListed(t *testing.T) {
	w := start(t, api.Options{}, datadir.Options{})
	w.create("r")
	set := &slowSet{Set: w.Set}
	get := func() int {
		answer := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/r/locks/", nil)
		w.dialect.Serve(answer, r, api.Target{Set: set, Name: "r", Path: "/locks/", Log: new(api.Record)})
		return answer.Code
	}
	set.meanwhile = func() {
		if err := w.Set.Destroy(context.Background(), "r"); err != nil {
			t.Error(err)
		}
	}
	get()
	set.meanwhile = nil
	if status := get(); status != 404 {
		t.Errorf("a destroyed repository: %d", status)
	}
	w.create("r") // at once, though its first client has not initialized it
}

// TestRolesOfClients: what each role may do, by its table.
func TestRolesOfClients(t *testing.T) {
	w := start(t, api.Options{}, datadir.Options{})
	w.create("r")
	w.want(200, "all", "POST", "/r/config", "config")
	for _, tt := range []struct {
		role                         string
		lists, reads, stores, prunes bool
		locks                        bool
	}{
		{"none", false, false, false, false, false},
		{"read", true, true, false, false, true},
		{"write-only", true, false, true, false, true},
		{"backup", true, true, true, false, true},
		{"maintain", true, true, true, true, true},
		{"all", true, true, true, true, true},
	} {
		status := func(ok bool) int {
			if ok {
				return 200
			}
			return 403
		}
		there := w.store("all", "r", "data", "of "+tt.role)
		w.want(status(tt.lists), tt.role, "GET", "/r/snapshots/", "")
		w.want(status(tt.reads), tt.role, "GET", there, "")
		w.want(status(tt.stores), tt.role, "POST", there, "of "+tt.role)
		w.want(status(tt.stores), tt.role, "POST", "/r/data/"+id("new "+tt.role), "new "+tt.role)
		for _, kind := range []string{"data", "index", "snapshots"} {
			path := w.store("all", "r", kind, kind+" of "+tt.role)
			w.want(status(tt.prunes), tt.role, "DELETE", path, "")
		}
		w.want(status(tt.role == "all"), tt.role, "DELETE", w.store("all", "r", "keys", "key of "+tt.role), "")
		lock := "/r/locks/" + id("lock of "+tt.role)
		w.want(status(tt.locks), tt.role, "POST", lock, "lock of "+tt.role)
		w.want(status(tt.locks), tt.role, "DELETE", lock, "")
		w.want(status(tt.role != "none"), tt.role, "POST", "/r/?create=true", "") // it is there: nothing is changed
		w.want(status(tt.stores), tt.role, "POST", "/new-"+tt.role+"/?create=true", "")
	}
}

// TestFullQuota: what a client needs to prune can be stored, all else is 507, with a length and without one.
func TestFullQuota(t *testing.T) {
	w := start(t, api.Options{}, datadir.Options{Settings: func(string) repo.Settings { return repo.Settings{Quota: 50_000} }})
	w.create("r")
	full := strings.Repeat("x", 49_900)
	pack := w.store("all", "r", "data", full)
	more := strings.Repeat("y", 500)
	w.want(507, "all", "POST", "/r/data/"+id(more), more)
	w.want(507, "all", "POST", "/r/snapshots/"+id(more), more)
	type chunked struct{ *strings.Reader }
	if a := w.send("all", "POST", "/r/data/"+id(more), chunked{strings.NewReader(more)}, "Accept", "application/vnd.x.restic.rest.v2"); a.StatusCode != 507 {
		t.Errorf("in chunks: %s %s", a.Status, a.body)
	}
	w.store("all", "r", "locks", more)
	w.store("all", "r", "index", more)
	w.want(200, "all", "DELETE", pack, "")
	w.store("all", "r", "data", more)
}

// TestRewrittenSnapshotIsNoBackup: a snapshot that replaces another under the same lock leaves what was known of the last backup.
func TestRewrittenSnapshotIsNoBackup(t *testing.T) {
	var passed atomic.Int64 // nanoseconds; the repository looks at it in the background, too
	now := func() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(passed.Load())) }
	w := start(t, api.Options{}, datadir.Options{Environment: repo.Environment{Now: now}})
	w.create("r")
	last := func() time.Time {
		t.Helper()
		r, err := w.Set.Get(context.Background(), "r")
		if err != nil {
			t.Fatal(err)
		}
		return r.Usage().LastBackup
	}
	// under runs a command of a client under a lock of its own, a day later.
	under := func(user string, command func()) time.Time {
		t.Helper()
		passed.Add(int64(24 * time.Hour))
		lock := w.store(user, "r", "locks", "lock at "+now().String())
		command()
		w.want(200, user, "DELETE", lock, "")
		return now()
	}
	var first, second string
	backup := under("maintain", func() {
		first = w.store("maintain", "r", "snapshots", "first")
		second = w.store("maintain", "r", "snapshots", "second")
	})
	if got := last(); !got.Equal(backup) {
		t.Fatalf("after a backup: %v, want %v", got, backup)
	}
	under("maintain", func() { // tag of two snapshots
		w.store("maintain", "r", "snapshots", "first with a tag")
		w.want(200, "maintain", "DELETE", first, "")
		w.store("maintain", "r", "snapshots", "second with a tag")
		w.want(200, "maintain", "DELETE", second, "")
	})
	if got := last(); !got.Equal(backup) {
		t.Errorf("after tag: %v, want %v", got, backup)
	}
	backup = under("maintain", func() { w.store("maintain", "r", "snapshots", "third") })
	under("maintain", func() { w.want(200, "maintain", "DELETE", "/r/snapshots/"+id("third"), "") })
	if got := last(); !got.Equal(backup) {
		t.Errorf("after a backup and forget: %v, want %v", got, backup)
	}
	// Another client completes a backup in between: that one counts.
	under("maintain", func() {
		w.store("maintain", "r", "snapshots", "fourth")
		passed.Add(int64(time.Hour))
		backup = now()
		w.store("backup", "r", "snapshots", "of another")
		w.want(200, "maintain", "DELETE", "/r/snapshots/"+id("first with a tag"), "")
	})
	if got := last(); !got.Equal(backup) {
		t.Errorf("with another client's backup: %v, want %v", got, backup)
	}
}

// TestNothingIsReplaced: whoever stores other bytes under the name of config is told that it is there, not that a permission is missing.
func TestNothingIsReplaced(t *testing.T) {
	w := start(t, api.Options{}, datadir.Options{})
	w.create("r")
	w.want(200, "all", "POST", "/r/config", "config")
	for _, user := range []string{"all", "backup"} {
		if a := w.want(403, user, "POST", "/r/config", "another"); strings.Contains(a.body, "permission") || !strings.Contains(a.body, "not replaced") {
			t.Errorf("%s: %q", user, a.body)
		}
	}
	if a := w.want(200, "all", "GET", "/r/config", ""); a.body != "config" {
		t.Errorf("it is %q now", a.body)
	}
}
