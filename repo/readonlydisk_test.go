package repo_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/digest"
	"packhouse/repo/policy"
)

// readOnlyFS is a file system that says that it takes no writes, and counts those that are tried nevertheless.
type readOnlyFS struct {
	*vfstest.Failing
	writes bool
}

func (f *readOnlyFS) ReadOnly(string) (bool, error) { return !f.writes, nil }

// state is all that lies below a directory, with times and bytes.
func state(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %d %s", path, info.Size(), info.ModTime().Format(time.RFC3339Nano))
		if info.Mode().IsRegular() {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %x", text)
		}
		b.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// preserved makes a repository as a server leaves it that was killed: with a pack, a lock of a client, a TTL lock, something in the trash
// that has expired, and an upload under way. Items of up to small bytes lie in the log.
func preserved(t *testing.T, small int64) (dir string) {
	t.Helper()
	dir = t.TempDir()
	s := datadir.Open(datadir.Options{Dir: dir, Environment: repo.Environment{Small: small}, Settings: func(string) repo.Settings {
		return repo.Settings{Quota: -1, Grace: 500 * time.Millisecond}
	}})
	a := create(t, s, "r").As(repo.Principal{Name: "tester"})
	for _, key := range []string{"packs/a", "config", "zzz", "locks/old.json", "locks/sub/x", "sessions/s.json", "loc", "locks-are/not"} {
		mustPut(t, a, key, key)
	}
	mustPut(t, a, "gone", "gone")
	if err := a.Delete(ctx, "gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.AcquireLock(ctx, "ttl", "holder", []byte("data"), time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := a.AcquireLock(ctx, "ttl", "holder", []byte("data"), time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "r", "incoming", strings.Repeat("0", 32)), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(600 * time.Millisecond)
	return dir
}

// readOnlyStory is what clients do with a repository on a read-only file system: they read, and what they must store for that goes
// to memory.
func readOnlyStory(t *testing.T, s *datadir.Set) {
	t.Helper()
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	if !r.ReadOnlyDisk() || !r.Health().ReadOnly || !strings.Contains(r.Health().Reason, "file system is read-only") {
		t.Errorf("health: got %+v", r.Health())
	}
	a := r.As(repo.Principal{Name: "tester"})
	wantContent(t, a, "packs/a", "packs/a")
	wantContent(t, a, "locks/old.json", "locks/old.json")
	want := []string{"config", "loc", "locks/old.json", "locks/sub/x", "locks-are/not", "packs/a", "sessions/s.json", "zzz"}
	if got := list(t, a, "", true); !slices.Equal(got, want) {
		t.Errorf("all items: got %q, want %q", got, want)
	}
	if got := list(t, a, "", false); !slices.Equal(got, []string{"config", "loc", "locks/", "locks-are/", "packs/", "sessions/", "zzz"}) {
		t.Errorf("root: got %q", got)
	}

	// A client takes its lock, finds it, and frees it; the stale one of another it removes.
	before, err := a.Stat(ctx, "locks/old.json")
	if err != nil {
		t.Fatal(err)
	}
	if age := time.Since(before.Item.Modified); age < 500*time.Millisecond || age > time.Hour {
		t.Errorf("a lock from the disk is %v old, want as old as it is", age)
	}
	mustPut(t, a, "locks/new.json", "mine")
	mustPut(t, a, "locks/new.json", "mine, refreshed")
	wantContent(t, a, "locks/new.json", "mine, refreshed")
	mustPut(t, a, "sessions/mine.json", "here")
	if err := a.Delete(ctx, "locks/old.json"); err != nil {
		t.Errorf("delete of a stale lock: %v", err)
	}
	if _, err := get(a, "locks/old.json"); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("a lock that was removed: got %v, want ErrNotFound", err)
	}
	if n, err := a.DeleteAll(ctx, []string{"locks/sub/x", "locks/none"}); err != nil || n != 1 {
		t.Errorf("delete of two: got %d, %v; want the one there is", n, err)
	}
	if err := a.Move(ctx, "locks/new.json", "locks/new.json.del"); err != nil {
		t.Errorf("move: %v", err)
	}
	if got := list(t, a, "locks", true); !slices.Equal(got, []string{"locks/new.json.del"}) {
		t.Errorf("locks: got %q", got)
	}
	if got := list(t, a, "", true); !slices.Equal(got, []string{"config", "loc", "locks/new.json.del", "locks-are/not", "packs/a", "sessions/mine.json", "sessions/s.json", "zzz"}) {
		t.Errorf("all items: got %q", got)
	}
	var keys []string
	if err := a.Each(ctx, index.ListOptions{Recursive: true, After: "locks-are/not"}, func(e index.Entry) error { keys = append(keys, e.Key); return nil }); err != nil || len(keys) != 4 {
		t.Errorf("items after one: got %q, %v", keys, err)
	}
	algorithm, err := digest.Lookup("sha256")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"packs/a", "sessions/mine.json"} {
		if _, err := a.Hash(ctx, key, algorithm); err != nil {
			t.Errorf("hash of %s: %v", key, err)
		}
	}
	// Who may only add does.
	permissions, err := policy.New(map[string]string{"": "lr", "locks": "lrwD"})
	if err != nil {
		t.Fatal(err)
	}
	reader := r.As(repo.Principal{Name: "reader", Permissions: permissions})
	mustPut(t, reader, "locks/r", "r")
	if _, err := put(reader, "locks/r", "other"); !errors.Is(err, repo.ErrDenied) {
		t.Errorf("overwriting without the right: got %v, want ErrDenied", err)
	}
	if err := reader.Delete(ctx, "locks/r"); err != nil {
		t.Error(err)
	}

	locks, err := a.Locks(ctx)
	if err != nil || len(locks) != 1 || locks[0].ID != "ttl" || locks[0].TTL != time.Hour || !locks[0].Acquired.After(locks[0].Since) {
		t.Errorf("TTL locks: got %+v, %v", locks, err)
	}
	if _, err := a.AcquireLock(ctx, "ttl", "another", nil, time.Hour); !errors.Is(err, repo.ErrLocked) {
		t.Errorf("a TTL lock that is held: got %v, want ErrLocked", err)
	}
	if err := a.ReleaseLock(ctx, "ttl", ""); err != nil {
		t.Error(err)
	}
	if _, err := a.AcquireLock(ctx, "ttl", "another", nil, time.Hour); err != nil {
		t.Error(err)
	}

	// Everything else is refused, before a byte is read.
	for what, do := range map[string]func() error{
		"put":         func() error { _, err := put(a, "packs/b", "b"); return err },
		"overwrite":   func() error { _, err := put(a, "config", "b"); return err },
		"delete":      func() error { return a.Delete(ctx, "packs/a") },
		"delete both": func() error { _, err := a.DeleteAll(ctx, []string{"packs/a", "locks/new.json.del"}); return err },
		"move out":    func() error { return a.Move(ctx, "locks/new.json.del", "packs/c") },
		"move in":     func() error { return a.Move(ctx, "packs/a", "locks/c") },
		"mkdir":       func() error { return a.MakeDir(ctx, "data") },
		"rmdir":       func() error { return a.RemoveDir(ctx, "packs") },
		"upload":      func() error { _, err := a.NewUpload(ctx, repo.UploadOptions{Key: "packs/b", Size: 1}); return err },
		"quota":       func() error { return r.SetQuota(ctx, 1) },
		"snapshot":    func() error { _, err := r.Snapshot(ctx, 1); return err },
		"empty trash": func() error { _, err := r.EmptyTrash(ctx, time.Now()); return err },
		"job":         func() error { return r.PutJob(ctx, index.Job{ID: "j", Record: []byte("x")}) },
		"destroy":     func() error { return s.Destroy(ctx, "r") },
		"create":      func() error { _, err := s.Create(ctx, "new", "test"); return err },
		"expire":      func() error { return errors.Join(r.ExpireLocks(ctx), repo.ErrReadOnlyDisk) },
		"file":        func() error { return r.WriteFile(repo.JobsFolder, "x", nil) },
		"reclaim":     func() error { return errors.Join(r.ReclaimSome(ctx), repo.ErrReadOnlyDisk) },
		"a large lock": func() error {
			_, err := put(a, "locks/large", strings.Repeat("x", 1<<20))
			return asReadOnly(err, repo.ErrQuota)
		},
		"get afterward": func() error { _, err := get(a, "packs/a"); return errors.Join(err, repo.ErrReadOnlyDisk) },
	} {
		if err := do(); !errors.Is(err, repo.ErrReadOnlyDisk) && what != "reclaim" {
			t.Errorf("%s: got %v, want ErrReadOnlyDisk", what, err)
		}
	}
	if _, err := s.Create(ctx, "r", "test"); !errors.Is(err, repo.ErrExists) {
		t.Errorf("create of one that is there: got %v, want ErrExists", err)
	}

	// A check finds damage, says so, and marks nothing.
	report, err := repo.IndexOf(r).Check(ctx)
	if err != nil || len(report.Problems) > 0 {
		t.Errorf("check: %+v, %v", report, err)
	}
	entry, err := a.Stat(ctx, "packs/a")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(ctx, entry, nil); err != nil {
		t.Errorf("verify: %v", err)
	}
	entry.Item.BLAKE3[0]++
	if err := r.Verify(ctx, entry, nil); !errors.Is(err, repo.ErrCorrupt) || err.Error() != "stored bytes are damaged" {
		t.Errorf("verify of damage: got %v", err)
	}
	if u := a.Usage(); u.Items != report.Counted.Items || u.Reserved != 0 {
		t.Errorf("usage: %+v", u)
	}
}

// asReadOnly makes an error that is want ErrReadOnlyDisk.
func asReadOnly(err, want error) error {
	if errors.Is(err, want) {
		return repo.ErrReadOnlyDisk
	}
	return err
}

func TestReadOnlyDisk(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) { readOnlyDisk(t, mode.small) })
	}
}

func readOnlyDisk(t *testing.T, small int64) {
	dir := preserved(t, small)
	before := state(t, dir)
	fsys := &readOnlyFS{Failing: vfstest.NewFailing(vfs.OS())}
	o := datadir.Options{Dir: dir, Environment: repo.Environment{FS: fsys}}
	s := datadir.Open(o)
	readOnlyStory(t, s)
	// Another process reads as well. What clients store in the one is not in the other.
	other := datadir.Open(o)
	r, err := other.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	wantContent(t, r.As(repo.Principal{}), "locks/old.json", "locks/old.json")
	if err := errors.Join(s.Close(), other.Close()); err != nil {
		t.Errorf("close: %v", err)
	}
	if calls := fsys.Calls(); len(calls) > 0 {
		t.Errorf("the disk was written to: %v", calls)
	}
	if after := state(t, dir); after != before {
		t.Errorf("the directory was changed:\n%s\nbefore:\n%s", after, before)
	}
}

// Locks in memory are bounded, and what is removed makes place again.
func TestOverlayIsBounded(t *testing.T) {
	s := datadir.Open(datadir.Options{Dir: preserved(t, 0), Environment: repo.Environment{FS: &readOnlyFS{Failing: vfstest.NewFailing(vfs.OS())}}})
	defer s.Close()
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	a := r.As(repo.Principal{})
	body := string(bytes.Repeat([]byte("x"), 64<<10))
	stored := 0
	for ; stored < 1000; stored++ {
		if _, err = put(a, fmt.Sprintf("locks/%d", stored), body); err != nil {
			break
		}
	}
	if !errors.Is(err, repo.ErrQuota) && !errors.Is(err, repo.ErrNoSpace) || stored < 200 || stored > 300 {
		t.Fatalf("%d locks of 64 KiB were stored, then %v; want about 16 MiB, and then a refusal", stored, err)
	}
	for n := range stored {
		if err := a.Delete(ctx, fmt.Sprintf("locks/%d", n)); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "place", func() bool { _, err := put(a, "locks/again", body); return err == nil })
	// Many small ones, too.
	for stored = 0; stored < 20_000; stored++ {
		if _, err = put(a, fmt.Sprintf("sessions/%d", stored), ""); err != nil {
			break
		}
	}
	if !errors.Is(err, repo.ErrNoSpace) || stored > 10_000 {
		t.Errorf("%d sessions were stored, then %v", stored, err)
	}
}

// When the file system takes writes again, the repository does, without a restart; and the other way round.
func TestRemounted(t *testing.T) {
	dir := preserved(t, 0)
	fsys := &readOnlyFS{Failing: vfstest.NewFailing(vfs.OS())}
	s := newSet(t, func(o *datadir.Options) { o.Dir, o.FS = dir, fsys })
	for _, writes := range []bool{false, true, false, true} {
		fsys.writes = writes
		if err := s.Refresh(); err != nil {
			t.Fatal(err)
		}
		var r *repo.Repository
		waitFor(t, "the repository", func() (ok bool) {
			var err error
			r, err = s.Get(ctx, "r")
			return err == nil
		})
		_, err := put(r.As(repo.Principal{}), "packs/b", "b")
		if r.ReadOnlyDisk() == writes || errors.Is(err, repo.ErrReadOnlyDisk) == writes || err == nil != writes {
			t.Errorf("file system with writes %v: read-only %v, put: %v", writes, r.ReadOnlyDisk(), err)
		}
	}
}

// A disk that has failed is not written to again because it is mounted again: whoever runs the server looks first, and restarts it.
func TestRemountAfterFailure(t *testing.T) {
	dir := preserved(t, 0)
	fsys := &readOnlyFS{Failing: vfstest.NewFailing(vfs.OS()), writes: true}
	failing := true
	s := newSet(t, func(o *datadir.Options) {
		o.Dir, o.FS = dir, fsys
		o.Index = index.Options{BeforeCommit: func() error {
			if failing {
				return errors.New("input/output error")
			}
			return nil
		}}
	})
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := put(r.As(repo.Principal{}), "packs/b", "b"); !errors.Is(err, repo.ErrReadOnly) {
		t.Fatalf("put: got %v, want ErrReadOnly", err)
	}
	failing = false
	fsys.writes = false // as errors=remount-ro does it
	if err := s.Refresh(); err != nil {
		t.Fatal(err)
	}
	again := func() *repo.Repository {
		t.Helper()
		var r *repo.Repository
		waitFor(t, "the repository", func() (ok bool) { r, err = s.Get(ctx, "r"); return err == nil })
		return r
	}
	r = again()
	wantContent(t, r.As(repo.Principal{}), "packs/a", "packs/a")
	mustPut(t, r.As(repo.Principal{}), "locks/restore", "now")
	fsys.writes = true
	if err := s.Refresh(); err != nil {
		t.Fatal(err)
	}
	if r = again(); !r.ReadOnlyDisk() {
		t.Error("a disk that failed takes writes again without a restart")
	}
}

// What borg stores below cache/ to be faster the next time lies over what the disk has there.
func TestOverlayOfTheCache(t *testing.T) {
	dir := t.TempDir()
	s := datadir.Open(datadir.Options{Dir: dir})
	r, err := s.Create(ctx, "r", "borgstore")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"archives/a", "cache/a", "cache/b", "cache/sub/c", "packs/a"} {
		mustPut(t, r.As(repo.Principal{}), key, "disk")
	}
	if r, err = s.Create(ctx, "without", "borgstore"); err != nil {
		t.Fatal(err)
	}
	mustPut(t, r.As(repo.Principal{}), "packs/a", "disk")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	before := state(t, dir)
	fsys := &readOnlyFS{Failing: vfstest.NewFailing(vfs.OS())}
	s = datadir.Open(datadir.Options{Dir: dir, Environment: repo.Environment{FS: fsys}})
	defer s.Close()
	if r, err = s.Get(ctx, "r"); err != nil {
		t.Fatal(err)
	}
	a := r.As(repo.Principal{})
	wantList := func(dir string, recursive bool, want ...string) {
		t.Helper()
		if got := list(t, a, dir, recursive); !slices.Equal(got, want) {
			t.Errorf("list %q: got %q, want %q", dir, got, want)
		}
	}
	wantContent(t, a, "cache/a", "disk")
	wantList("cache", false, "cache/a", "cache/b", "cache/sub/")
	mustPut(t, a, "cache/b", "memory")
	mustPut(t, a, "cache/d", "memory")
	mustPut(t, a, "locks/l", "memory")
	wantContent(t, a, "cache/b", "memory")
	wantContent(t, a, "cache/d", "memory")
	wantContent(t, a, "cache/sub/c", "disk")
	wantList("cache", false, "cache/a", "cache/b", "cache/d", "cache/sub/")
	wantList("cache", true, "cache/a", "cache/b", "cache/d", "cache/sub/c")
	wantList("", true, "archives/a", "cache/a", "cache/b", "cache/d", "cache/sub/c", "locks/l", "packs/a")
	wantList("", false, "archives/", "cache/", "locks/", "packs/")
	for _, key := range []string{"cache/a", "cache/b", "cache/d"} {
		if err := a.Delete(ctx, key); err != nil {
			t.Errorf("delete %s: %v", key, err)
		}
		if _, err := get(a, key); !errors.Is(err, repo.ErrNotFound) {
			t.Errorf("get of %s, which was deleted: %v", key, err)
		}
		if err := a.Delete(ctx, key); !errors.Is(err, repo.ErrNotFound) {
			t.Errorf("delete of %s again: %v", key, err)
		}
	}
	wantList("cache", true, "cache/sub/c")
	mustPut(t, a, "cache/a", "again")
	wantContent(t, a, "cache/a", "again")
	wantList("cache", true, "cache/a", "cache/sub/c")
	if entry, err := r.Entry("cache/sub/c"); err != nil || entry.Item.Size != 4 {
		t.Errorf("entry: %+v, %v", entry, err)
	}
	permissions, err := policy.New(map[string]string{"": "lrw"})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"cache/a", "cache/sub/c"} {
		if _, err := put(r.As(repo.Principal{Permissions: permissions}), key, "other"); !errors.Is(err, repo.ErrDenied) {
			t.Errorf("overwriting %s without the right: got %v, want ErrDenied", key, err)
		}
	}
	if _, err := put(a, "cache/large", strings.Repeat("x", 65<<20)); !errors.Is(err, repo.ErrQuota) {
		t.Errorf("more than fits: got %v, want ErrQuota", err)
	}
	if _, err := put(a, "packs/b", "b"); !errors.Is(err, repo.ErrReadOnlyDisk) {
		t.Errorf("put: %v", err)
	}

	if r, err = s.Get(ctx, "without"); err != nil {
		t.Fatal(err)
	}
	a = r.As(repo.Principal{})
	if err := a.List(ctx, index.ListOptions{Dir: "cache"}, nil); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("list of a cache that is not there: %v", err)
	}
	mustPut(t, a, "cache/new", "memory")
	wantList("cache", false, "cache/new")
	if calls := fsys.Calls(); len(calls) > 0 || state(t, dir) != before {
		t.Errorf("the disk was written to: %v", calls)
	}
}
