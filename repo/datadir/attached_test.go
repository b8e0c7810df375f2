package datadir_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// copyTree is cp -a.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func mustRename(t testing.TB, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// tree lists all that lies below a directory.
func tree(t testing.TB, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && path != dir {
			names = append(names, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// contentOf are the items of a repository that nobody has open.
func contentOf(t testing.TB, dataDir, name string) map[string]bool {
	t.Helper()
	s := datadir.Open(datadir.Options{Dir: dataDir})
	defer s.Close()
	r, err := s.Get(ctx, name)
	if err != nil {
		t.Fatalf("open %s: %v", name, err)
	}
	found := make(map[string]bool)
	for _, key := range list(t, r.As(repo.Principal{}), "", true) {
		wantContent(t, r.As(repo.Principal{}), key, key)
		found[key] = true
	}
	checkAll(t, s)
	return found
}

// What is done to a repository's directory below a running server, while clients write.
var displacements = []struct {
	name  string
	moved string // where what was acknowledged before is then; "": it is gone
	there bool   // a repository is under the name afterwards
	do    func(t *testing.T, dir string)
}{
	{"renamed", "away", false, func(t *testing.T, dir string) { mustRename(t, dir, filepath.Join(filepath.Dir(dir), "away")) }},
	{"removed", "", false, func(t *testing.T, dir string) {
		// Someone may make a file in it while it is removed.
		for range 100 {
			if err := os.RemoveAll(dir); err == nil {
				return
			}
		}
		t.Fatal("the directory cannot be removed")
	}},
	{"emptied", "", false, func(t *testing.T, dir string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			for range 100 {
				if err = os.RemoveAll(filepath.Join(dir, entry.Name())); err == nil {
					break
				}
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}},
	{"replaced", "away", true, func(t *testing.T, dir string) {
		// In one step: between two a client would make a new repository.
		older := filepath.Join(filepath.Dir(dir), "older")
		if err := unix.Renameat2(unix.AT_FDCWD, older, unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE); err != nil {
			t.Fatal(err)
		}
		mustRename(t, older, filepath.Join(filepath.Dir(dir), "away"))
	}},
}

// No acknowledged write is lost: what was acknowledged before the move is in the moved directory, what was acknowledged
// after it is in what lies under the name, and the server goes on with that.
func TestDisplacedUnderLoad(t *testing.T) {
	for _, c := range displacements {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			s := datadir.Open(datadir.Options{Dir: dir})
			defer s.Close()
			create(t, s, "older")
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			var gaveUp atomic.Int32
			s = datadir.Open(datadir.Options{Dir: dir, GaveUp: func(*repo.Repository) { gaveUp.Add(1) }})
			defer s.Close()
			create(t, s, "r")

			type ack struct {
				key      string
				from, to time.Time
			}
			var mu sync.Mutex
			var acks []ack
			var stop atomic.Bool
			var writers sync.WaitGroup
			for w := range 4 {
				writers.Go(func() {
					for n := 0; !stop.Load(); n++ {
						key, from := fmt.Sprintf("data/%d-%d", w, n), time.Now()
						r, err := s.Get(ctx, "r")
						if err == nil {
							_, err = put(r.As(repo.Principal{}), key, key)
						}
						switch {
						case err == nil:
							mu.Lock()
							acks = append(acks, ack{key, from, time.Now()})
							mu.Unlock()
						case errors.Is(err, repo.ErrNoRepository):
							_, err := s.Create(ctx, "r", "test")
							if err != nil && !errors.Is(err, repo.ErrExists) && !errors.Is(err, repo.ErrDetached) && c.name != "removed" && c.name != "emptied" {
								t.Errorf("create: %v", err)
							}
						case errors.Is(err, repo.ErrDetached), errors.Is(err, repo.ErrBusy):
						case c.name == "removed", c.name == "emptied": // files go under its hands
						default:
							t.Errorf("put: %v", err)
						}
					}
				})
			}
			counted := func() int { mu.Lock(); defer mu.Unlock(); return len(acks) }
			waitFor(t, "writes", func() bool { return counted() >= 40 })
			began := time.Now()
			c.do(t, filepath.Join(dir, "r"))
			ended, before := time.Now(), counted()
			waitFor(t, "writes after it", func() bool { return counted() >= before+40 })
			stop.Store(true)
			writers.Wait()
			if gaveUp.Load() == 0 {
				t.Error("no repository was given up")
			}
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}

			now := contentOf(t, dir, "r")
			var moved map[string]bool
			if c.moved != "" {
				moved = contentOf(t, dir, c.moved)
			}
			for _, a := range acks {
				switch {
				case a.to.Before(began):
					if moved != nil && !moved[a.key] {
						t.Errorf("%s was acknowledged before, and is not in the directory that was moved", a.key)
					}
				case a.from.After(ended):
					if !now[a.key] {
						t.Errorf("%s was acknowledged after, and is not in what lies under the name", a.key)
					}
				case !now[a.key] && moved != nil && !moved[a.key]:
					t.Errorf("%s was acknowledged meanwhile, and is nowhere", a.key)
				}
			}
		})
	}
}

// An upload that was under way when its directory was moved puts nothing into what took its place, and is not
// acknowledged.
func TestUploadLandsNowhereElse(t *testing.T) {
	dir := t.TempDir()
	s := newSet(t, func(o *datadir.Options) { o.Dir = dir })
	r := create(t, s, "r")
	mustPut(t, r.As(repo.Principal{}), "a", "a")
	u, err := r.As(repo.Principal{}).NewUpload(ctx, repo.UploadOptions{Key: "b", Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Discard()
	here := filepath.Join(dir, "r")
	mustRename(t, here, here+".away")
	copyTree(t, here+".away", here)
	if err := os.RemoveAll(filepath.Join(here, "incoming")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(here, "incoming"), 0o700); err != nil {
		t.Fatal(err)
	}
	before := tree(t, here)
	if _, err := u.Write([]byte("b")); err != nil {
		t.Fatal(err)
	}
	if err := u.Finish(ctx, "b", repo.Verified{}); err != nil {
		t.Fatalf("finish: %v", err)
	}
	_, err = r.As(repo.Principal{}).Commit(ctx, repo.Batch{Puts: []repo.BatchPut{{Upload: u}}})
	if !errors.Is(err, repo.ErrDetached) {
		t.Errorf("commit: got %v, want ErrDetached", err)
	}
	if strings.Contains(fmt.Sprint(err), dir) {
		t.Errorf("the error names the directory: %v", err)
	}
	if after := tree(t, here); !slices.Equal(before, after) {
		t.Errorf("what took the directory's place was changed: %v, before %v", after, before)
	}
	again, err := s.Get(ctx, "r")
	if err != nil || again == r {
		t.Fatalf("get: got the same handle, or %v", err)
	}
	if keys := list(t, again.As(repo.Principal{}), "", true); !slices.Equal(keys, []string{"a"}) {
		t.Errorf("items under the name: %q, want the copy's", keys)
	}
	if got := contentOf(t, dir, "r.away"); !got["a"] {
		t.Errorf("the directory that was moved: %v", got)
	}
}

// What a repository that was moved has in its trash is not unlinked in what took its place, where it is an item.
func TestReclaimerLeavesTheReplacementAlone(t *testing.T) {
	dir := t.TempDir()
	s := newSet(t, func(o *datadir.Options) {
		o.Dir = dir
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: 200 * time.Millisecond} }
	})
	r := create(t, s, "r")
	mustPut(t, r.As(repo.Principal{}), "a", "a")
	here := filepath.Join(dir, "r")
	copyTree(t, here, here+".copy")
	if err := r.As(repo.Principal{}).Delete(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	mustRename(t, here, here+".away")
	mustRename(t, here+".copy", here)
	time.Sleep(300 * time.Millisecond)
	_, _ = r.EmptyTrash(ctx, time.Now()) // refused, or done where the repository is
	again, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	wantContent(t, again.As(repo.Principal{}), "a", "a")
}

// What the server keeps beside the blobs is not there any more either, and no disk error.
func TestFilesOfWhatWasGivenUp(t *testing.T) {
	dir := t.TempDir()
	s := datadir.Open(datadir.Options{Dir: dir})
	r := create(t, s, "r")
	mustRename(t, filepath.Join(dir, "r"), filepath.Join(dir, "away"))
	if err := s.Refresh(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil { // waits until it is closed
		t.Fatal(err)
	}
	if _, err := r.Files(repo.JobsFolder); !errors.Is(err, repo.ErrDetached) {
		t.Errorf("list: got %v, want ErrDetached", err)
	}
	if f, err := r.OpenFile(repo.JobsFolder, "any"); !errors.Is(err, repo.ErrDetached) {
		t.Errorf("open: got %v, %v, want ErrDetached", f, err)
	}
}

// Renaming a repository and asking for it under its new name works at once, although it is open under the old one.
func TestRenamedRepositoryIsFoundAtOnce(t *testing.T) {
	dir := t.TempDir()
	s := newSet(t, func(o *datadir.Options) { o.Dir = dir })
	mustPut(t, create(t, s, "a").As(repo.Principal{}), "x", "1")
	mustRename(t, filepath.Join(dir, "a"), filepath.Join(dir, "b"))
	r, err := s.Get(ctx, "b")
	if err != nil {
		t.Fatalf("get under the new name: %v", err)
	}
	wantContent(t, r.As(repo.Principal{}), "x", "1")
	if _, err := s.Get(ctx, "a"); !errors.Is(err, repo.ErrNoRepository) {
		t.Errorf("get under the old name: got %v, want ErrNoRepository", err)
	}
	mustPut(t, create(t, s, "a").As(repo.Principal{}), "y", "2")
	wantContent(t, r.As(repo.Principal{}), "x", "1")
	if opened := s.Opened(); len(opened) != 2 {
		t.Errorf("open: %v, want a and b", opened)
	}
}

// A directory that is made of links to the files of another one has the same index. It is another directory.
func TestLinkedCopyIsAnotherDirectory(t *testing.T) {
	dir := t.TempDir()
	s := datadir.Open(datadir.Options{Dir: dir})
	defer s.Close()
	r := create(t, s, "r")
	here := filepath.Join(dir, "r")
	mustRename(t, here, here+".away")
	if err := os.Mkdir(here, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(here+".away", "index.db"), filepath.Join(here, "index.db")); err != nil {
		t.Fatal(err)
	}
	if err := r.Attached(); !errors.Is(err, repo.ErrDetached) {
		t.Errorf("attached: got %v, want ErrDetached", err)
	}
}

// detach puts an empty directory in the place of the data directory, as a volume that is unmounted leaves it.
func detach(t *testing.T, dir string) (back func()) {
	t.Helper()
	mustRename(t, dir, dir+".away")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if left := tree(t, dir); len(left) > 0 {
			t.Errorf("something was made in the empty directory: %v", left)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		mustRename(t, dir+".away", dir)
	}
}

func identified(t *testing.T, dir string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, ".packhouse"), 0o700); err != nil {
		t.Fatal(err)
	}
	id, err := datadir.MakeIdentity(vfs.OS(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestClosedIsNotDetached: who looks at the data directory while the process ends, or after it has given the directory up, finds no directory missing:
// that would be an error in the log, and a volume to look for.
func TestClosedIsNotDetached(t *testing.T) {
	var text syncedBuffer
	given := false
	s := newSet(t, func(o *datadir.Options) {
		o.Logger = slog.New(slog.NewTextHandler(&text, nil))
		o.InPlace = func() error {
			if given {
				return &repo.DetachedError{Path: o.Dir, Found: "it was given up"}
			}
			return nil
		}
	})
	create(t, s, "r")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	given = true
	if err := s.Attached(); !errors.Is(err, repo.ErrBusy) || errors.Is(err, repo.ErrDetached) {
		t.Errorf("got %v", err)
	}
	if strings.Contains(text.String(), "missing") {
		t.Errorf("the log says: %s", text.String())
	}
}

// While the data directory is not the one that was opened every request is refused, nothing is created or marked, and one line is
// logged.
func TestDetachedDataDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	id := identified(t, dir)
	var text syncedBuffer
	var lost []*repo.Repository
	s := newSet(t, func(o *datadir.Options) {
		o.Dir, o.Identity, o.Logger = dir, id, slog.New(slog.NewTextHandler(&text, nil))
		o.GaveUp = func(r *repo.Repository) { lost = append(lost, r) }
	})
	r := create(t, s, "r")
	a := r.As(repo.Principal{})
	mustPut(t, a, "packs/a", "bytes")
	entry, err := a.Stat(ctx, "packs/a")
	if err != nil {
		t.Fatal(err)
	}
	u, err := a.NewUpload(ctx, repo.UploadOptions{Key: "packs/b", Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Discard()

	back := detach(t, dir)
	for what, do := range map[string]func() error{
		"get":           func() error { _, err := s.Get(ctx, "r"); return err },
		"get of none":   func() error { _, err := s.Get(ctx, "none"); return err },
		"create":        func() error { _, err := s.Create(ctx, "new", "test"); return err },
		"create anew":   func() error { _, err := s.Create(ctx, "r", "test"); return err },
		"names":         func() error { _, err := s.Names(); return err },
		"destroy":       func() error { return s.Destroy(ctx, "r") },
		"space":         func() error { _, _, err := s.Space(); return err },
		"inodes":        func() error { _, _, err := s.Inodes(); return err },
		"attached":      s.Attached,
		"refresh":       s.Refresh,
		"attach":        s.Attach,
		"verify":        func() error { return r.Verify(ctx, entry, nil) },
		"put":           func() error { _, err := put(a, "packs/c", "c"); return err },
		"ttl lock":      func() error { _, err := a.AcquireLock(ctx, "l", "h", nil, time.Hour); return err },
		"of repository": r.Attached,
	} {
		if err := do(); !errors.Is(err, repo.ErrDetached) && !(what == "verify" && err == nil) {
			t.Errorf("%s: got %v, want ErrDetached", what, err)
		}
	}
	if len(lost) != 1 || lost[0] != r || len(s.Opened()) != 0 {
		t.Errorf("given up: %v, open: %v; want the repository, once", lost, s.Opened())
	}
	if unusable := s.Unusable(); len(unusable) > 0 {
		t.Errorf("unusable: %v, want none: of a directory that is away nothing is known", unusable)
	}
	if n := strings.Count(text.String(), "level=ERROR"); n != 1 || !strings.Contains(text.String(), dir+": the data directory is not the one that was opened: it has no identity; expected the data directory with the identity "+id) {
		t.Errorf("the log has %d errors, want one with path, identity and what to do:\n%s", n, text.String())
	}

	back()
	// Who has the right to it says so, not the look.
	if _, err := s.Get(ctx, "r"); !errors.Is(err, repo.ErrDetached) {
		t.Errorf("get before it is attached: got %v, want ErrDetached", err)
	}
	if err := s.Attach(); err != nil {
		t.Fatal(err)
	}
	r, err = s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	a = r.As(repo.Principal{})
	wantContent(t, a, "packs/a", "bytes")
	if entry, err := a.Stat(ctx, "packs/a"); err != nil || entry.Item.Flags&index.FlagDamaged != 0 {
		t.Errorf("an intact item was marked: %+v, %v", entry, err)
	}
	mustPut(t, a, "packs/c", "c")
	if err := s.Refresh(); err != nil {
		t.Error(err)
	}
}

// Nothing but the data directory with the identity is attached.
func TestForeignDataDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	id := identified(t, dir)
	s := newSet(t, func(o *datadir.Options) { o.Dir, o.Identity = dir, id })
	create(t, s, "r")
	for _, c := range []struct {
		name, want string
		make       func()
	}{
		{"another", "its identity is ", func() { identified(t, dir) }},
		{"garbage", "is not the identity of a data directory", func() {
			identified(t, dir)
			if err := os.WriteFile(filepath.Join(dir, ".packhouse", "id"), []byte("x\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"gone", "the data directory is missing", func() {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := s.Refresh(); err != nil {
				t.Fatal(err)
			}
			mustRename(t, dir, dir+".away")
			c.make()
			err := s.Refresh()
			var detached *repo.DetachedError
			if !errors.As(err, &detached) || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), dir+": ") {
				t.Errorf("refresh: got %v, want %q and the path", err, c.want)
			}
			if err := s.Attach(); !errors.Is(err, repo.ErrDetached) {
				t.Errorf("attach: got %v, want ErrDetached", err)
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			mustRename(t, dir+".away", dir)
			if err := s.Attach(); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Get(ctx, "r"); err != nil {
				t.Error(err)
			}
		})
	}
	// A device and an inode can come again with another volume; the identity does not.
	if err := os.Rename(filepath.Join(dir, ".packhouse", "id"), filepath.Join(dir, ".packhouse", "id.away")); err != nil {
		t.Fatal(err)
	}
	if err := s.Attached(); err != nil {
		t.Errorf("a short look: %v", err)
	}
	if err := s.Refresh(); !errors.Is(err, repo.ErrDetached) {
		t.Errorf("the same directory without its identity: got %v, want ErrDetached", err)
	}
}

// exhausted is a file system of a process that has as many files open as it may.
type exhausted struct {
	vfs.FS
	now atomic.Bool
}

func (e *exhausted) Open(name string) (vfs.File, error) {
	if e.now.Load() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: unix.EMFILE}
	}
	return e.FS.Open(name)
}

// TestNoDescriptorIsNoLoss: that the identity cannot be read for want of a descriptor does not detach the data directory.
func TestNoDescriptorIsNoLoss(t *testing.T) {
	dir := memoryDir(t)
	id := identified(t, dir)
	fsys := &exhausted{FS: vfs.OS()}
	s := newSet(t, func(o *datadir.Options) { o.Dir, o.Identity, o.FS = dir, id, fsys })
	create(t, s, "r")
	fsys.now.Store(true)
	if err := s.Refresh(); err != nil {
		t.Errorf("refresh without descriptors: %v", err)
	}
	fsys.now.Store(false)
	if err := s.Refresh(); err != nil {
		t.Errorf("refresh with descriptors: %v", err)
	}
}

func TestIdentity(t *testing.T) {
	dir := t.TempDir()
	if _, err := datadir.Identity(vfs.OS(), dir); !errors.Is(err, datadir.ErrNoIdentity) {
		t.Errorf("of an empty directory: got %v, want ErrNoIdentity", err)
	}
	if err := os.Mkdir(filepath.Join(dir, ".packhouse"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".packhouse", "id.new"), nil, 0o600); err != nil { // of a crash
		t.Fatal(err)
	}
	id, err := datadir.MakeIdentity(vfs.OS(), dir)
	if err != nil || datadir.CheckIdentity(id) != nil {
		t.Fatalf("make: got %q, %v", id, err)
	}
	if again, err := datadir.MakeIdentity(vfs.OS(), dir); err != nil || again != id {
		t.Errorf("make again: got %q, %v; want %q", again, err, id)
	}
	if read, err := datadir.Identity(vfs.OS(), dir); err != nil || read != id {
		t.Errorf("read: got %q, %v; want %q", read, err, id)
	}
	other := t.TempDir()
	if err := os.Mkdir(filepath.Join(other, ".packhouse"), 0o700); err != nil {
		t.Fatal(err)
	}
	if second, err := datadir.MakeIdentity(vfs.OS(), other); err != nil || second == id {
		t.Errorf("of another directory: got %q, %v", second, err)
	}
	for _, bad := range []string{"", "x", strings.ToUpper(id), id + "0", id[:31]} {
		if datadir.CheckIdentity(bad) == nil && bad != id {
			t.Errorf("%q passes for an identity", bad)
		}
	}
}

// A symbolic link whose volume is not mounted is no place for a new repository.
func TestLinkToNothing(t *testing.T) {
	dir := t.TempDir()
	s := newSet(t, func(o *datadir.Options) { o.Dir = dir })
	volume := filepath.Join(t.TempDir(), "volume")
	if err := os.Symlink(volume, filepath.Join(dir, "r")); err != nil {
		t.Fatal(err)
	}
	for what, do := range map[string]func() error{
		"get":    func() error { _, err := s.Get(ctx, "r"); return err },
		"create": func() error { _, err := s.Create(ctx, "r", "test"); return err },
	} {
		if err := do(); !errors.Is(err, repo.ErrDetached) {
			t.Errorf("%s: got %v, want ErrDetached", what, err)
		}
	}
	if err := os.Mkdir(volume, 0o700); err != nil {
		t.Fatal(err)
	}
	mustPut(t, create(t, s, "r").As(repo.Principal{}), "a", "a")
}

// syncedBuffer may be written while it is read.
type syncedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// BenchmarkGet is what the look at a repository that is open costs each request.
func BenchmarkGet(b *testing.B) {
	s := newSet(b, nil)
	create(b, s, "r")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Get(context.Background(), "r"); err != nil {
			b.Fatal(err)
		}
	}
}

// A directory of the blob store that is missing, or may not be read, says where it is and what to do: to those who run the server.
// It is no damage: nothing is known of what lies in it.
func TestUnusableShard(t *testing.T) {
	dir := newRepository(t)
	for _, part := range []string{"blobs", "incoming"} { // of a shard see LossError
		path := filepath.Join(dir, "r", part)
		mustRename(t, path, path+".away")
		s := datadir.Open(datadir.Options{Dir: dir})
		_, err := s.Get(ctx, "r")
		want := "open repository: " + path + ": the directory is missing; expected the directory that the repository was made with; put it back, or mount what belongs there"
		if !errors.Is(err, repo.ErrDetached) || err.Error() != want {
			t.Errorf("without %s: got %v, want %s", part, err, want)
		}
		if s.Unusable()["r"] == nil {
			t.Errorf("without %s: the repository is not among those that cannot be used", part)
		}
		mustRename(t, path+".away", path)
		if _, err := s.Get(ctx, "r"); err != nil {
			t.Errorf("with %s again: %v", part, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}

	fsys := &forbidding{FS: vfs.OS()}
	s := newSet(t, func(o *datadir.Options) { o.Dir, o.FS = dir, fsys })
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	a := r.As(repo.Principal{})
	mustPut(t, a, "packs/a", "a")
	entry, err := a.Stat(ctx, "packs/a")
	if err != nil {
		t.Fatal(err)
	}
	fsys.below = filepath.Join(dir, "r", "blobs")
	for what, do := range map[string]func() error{
		"read":   func() error { _, err := get(a, "packs/a"); return err },
		"verify": func() error { return r.Verify(ctx, entry, nil) },
		"write":  func() error { _, err := put(a, "packs/b", "b"); return err },
	} {
		err := do()
		var detached *repo.DetachedError
		if !errors.As(err, &detached) || !strings.HasPrefix(detached.Path, fsys.below+"/") || !strings.Contains(err.Error(), "permission denied") || !strings.Contains(err.Error(), "give that user the right") {
			t.Errorf("%s: got %v, want the path and what to do", what, err)
		}
	}
	fsys.below = ""
	wantContent(t, a, "packs/a", "a")
	mustPut(t, a, "packs/b", "b") // it was no disk error
	if entry, err := a.Stat(ctx, "packs/a"); err != nil || entry.Item.Flags != 0 {
		t.Errorf("an item was marked: %+v, %v", entry, err)
	}
}

// forbidding refuses what lies below a directory, as the system does to a user without the right.
type forbidding struct {
	vfs.FS
	below string
}

func (f *forbidding) refuse(op, name string) error {
	if f.below != "" && strings.HasPrefix(name, f.below+"/") {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrPermission}
	}
	return nil
}

func (f *forbidding) Open(name string) (vfs.File, error) {
	if err := f.refuse("open", name); err != nil {
		return nil, err
	}
	return f.FS.Open(name)
}

func (f *forbidding) Link(from, to string) error {
	if err := f.refuse("link", to); err != nil {
		return err
	}
	return f.FS.Link(from, to)
}
