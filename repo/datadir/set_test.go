package datadir_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/recovery"
)

// A process that waits for a repository which its holder destroys finds none.
func TestDestroyedWhileAnotherWaits(t *testing.T) {
	dir := newRepository(t)
	holder, other := datadir.Open(datadir.Options{Dir: dir}), datadir.Open(datadir.Options{Dir: dir})
	defer holder.Close()
	defer other.Close()
	if _, err := holder.Get(ctx, "r"); err != nil {
		t.Fatal(err)
	}
	got := make(chan error)
	go func() { _, err := other.Get(ctx, "r"); got <- err }()
	time.Sleep(100 * time.Millisecond) // waits for the lock by now, for half a second
	if err := holder.Destroy(ctx, "r"); err != nil {
		t.Fatal(err)
	}
	if err := <-got; !errors.Is(err, repo.ErrNoRepository) {
		t.Errorf("get: got %v, want ErrNoRepository", err)
	}
	waitFor(t, "the files to go", func() bool { files, err := os.ReadDir(dir); return err == nil && len(files) == 0 })
}

// Two processes that make a repository while a third clears away the one before it: what one of them acknowledged stays.
func TestCreateWhileAnotherClears(t *testing.T) {
	dir := newRepository(t)
	for round := range 20 {
		holder, other := datadir.Open(datadir.Options{Dir: dir}), datadir.Open(datadir.Options{Dir: dir})
		done := make(chan error)
		go func() { done <- holder.Destroy(ctx, "r") }()
		var r *repo.Repository
		var err error
		for range 1000 {
			if r, err = other.Create(ctx, "r", "test"); err == nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if err != nil {
			t.Fatalf("round %d: create: %v", round, err)
		}
		mustPut(t, r.As(repo.Principal{}), "x", "acknowledged")
		if err := <-done; err != nil {
			t.Errorf("round %d: destroy: %v", round, err)
		}
		wantContent(t, r.As(repo.Principal{}), "x", "acknowledged")
		if err := errors.Join(holder.Close(), other.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// A damaged index is the repository's fault, not the client's nor an unnamed one, and is left alone.
func TestDamagedIndexIsNamed(t *testing.T) {
	dir := newRepository(t)
	path := filepath.Join(dir, "r", "index.db")
	if err := os.WriteFile(path, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	s := newSet(t, func(o *datadir.Options) { o.Dir, o.Logger = dir, slog.New(slog.NewTextHandler(&text, nil)) })
	if _, err := s.Get(ctx, "r"); !errors.Is(err, repo.ErrCorrupt) || err.Error() != "the index of the repository is damaged; packhouse repo rebuild r --replace builds a new one" {
		t.Errorf("get: got %v, want ErrCorrupt, once, and what to do", err)
	}
	if !strings.Contains(text.String(), "not a database file") {
		t.Errorf("the log does not say how it is damaged: %q", text.String())
	}
	// Maintenance asks every minute: once is enough.
	if _, err := s.Get(ctx, "r"); !errors.Is(err, repo.ErrCorrupt) || strings.Count(text.String(), "level=ERROR") != 1 {
		t.Errorf("second get: %v, log %q", err, text.String())
	}
	if _, err := s.Create(ctx, "r", "test"); !errors.Is(err, repo.ErrExists) {
		t.Errorf("create: got %v, want ErrExists", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "garbage" {
		t.Errorf("the index was changed: %q, %v", text, err)
	}

	dir = t.TempDir()
	s = datadir.Open(datadir.Options{Dir: dir})
	a := create(t, s, "r").As(repo.Principal{})
	mustPut(t, a, "packs/a", "1")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	damageIndex(t, filepath.Join(dir, "r", "index.db"))
	s = datadir.Open(datadir.Options{Dir: dir})
	defer s.Close()
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := get(r.As(repo.Principal{}), "packs/a"); !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("get of a damaged row: got %v, want ErrCorrupt", err)
	}
}

// What the index takes for malformed is malformed here.
func TestMalformedLockIsInvalid(t *testing.T) {
	a := newAccess(t, nil)
	if _, err := a.AcquireLock(ctx, strings.Repeat("x", 5000), "h", nil, time.Hour); !errors.Is(err, repo.ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
}

// A crash between the two names of a new index leaves the first, one during a rebuild an index without its place.
func TestLeftoversOfAnIndexAreSwept(t *testing.T) {
	dir := newRepository(t)
	for _, name := range []string{"index.db.new-123", "index.db.rebuilt", "index.db.rebuilt.new-45", "index.db.lost"} {
		if err := os.Link(filepath.Join(dir, "r", "index.db"), filepath.Join(dir, "r", name)); err != nil {
			t.Fatal(err)
		}
	}
	s := newSet(t, func(o *datadir.Options) { o.Dir = dir })
	if _, err := s.Get(ctx, "r"); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "r", "index.db*"))
	if want := []string{filepath.Join(dir, "r", "index.db"), filepath.Join(dir, "r", "index.db.lost")}; err != nil || !slices.Equal(left, want) {
		t.Errorf("left are %q, want %q: %v", left, want, err)
	}
}

// Who gave up while waiting opens nothing.
func TestGetOfOneWhoGaveUp(t *testing.T) {
	dir := newRepository(t)
	s := newSet(t, func(o *datadir.Options) { o.Dir = dir })
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.Get(gone, "r"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if n := len(s.Opened()); n != 0 {
		t.Errorf("%d repositories are open", n)
	}
}

func TestClosedSetCreatesNothing(t *testing.T) {
	dir := t.TempDir()
	s := datadir.Open(datadir.Options{Dir: dir})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(ctx, "r", "test"); !errors.Is(err, repo.ErrBusy) {
		t.Errorf("create: got %v, want ErrBusy", err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
		t.Errorf("left: %v, %v", files, err)
	}
}

// TestDestroySurvivesEveryFailure: whichever file call fails, and whatever of that a power cut loses, the repository is whole
// or gone, and then its files go with the next request for it.
func TestDestroySurvivesEveryFailure(t *testing.T) {
	for n, hit := 1, true; hit; n++ {
		for _, lose := range losses {
			t.Run(fmt.Sprintf("%d/lose=%s", n, lose.name), func(t *testing.T) {
				dir := newRepository(t)
				disk := vfstest.NewLossy(t, dir)
				fsys := vfstest.NewFailing(disk)
				s := datadir.Open(datadir.Options{Dir: dir, Environment: failingEnvironment(t, fsys)})
				r, err := s.Get(ctx, "r")
				if err != nil {
					t.Fatal(err)
				}
				mustPut(t, r.As(repo.Principal{}), "x", "body")
				fsys.Reset()
				fsys.StopAt(n, vfstest.Before, syscall.EIO)
				destroyed := s.Destroy(ctx, "r")
				if hit = fsys.Hit(); !hit && destroyed != nil {
					t.Errorf("destroy: %v", destroyed)
				}
				if err := s.Close(); err != nil && !hit {
					t.Fatal(err)
				}
				lose.crash(t, disk, n)
				s = newSet(t, func(o *datadir.Options) { o.Dir = dir })
				r, err = s.Get(ctx, "r")
				if err == nil {
					if destroyed == nil {
						t.Error("it was destroyed, and is there")
					}
					wantContent(t, r.As(repo.Principal{}), "x", "body")
					return
				}
				if !errors.Is(err, repo.ErrNoRepository) {
					t.Fatalf("get: got %v, want a repository or ErrNoRepository", err)
				}
				// An empty directory may stay: it is in nobody's way.
				waitFor(t, "the files to go", func() bool { files, _ := os.ReadDir(filepath.Join(dir, "r")); return len(files) == 0 })
				mustPut(t, create(t, s, "r").As(repo.Principal{}), "y", "new")
			})
		}
	}
}

// losses are what becomes of what was not synced.
var losses = []struct {
	name  string
	crash func(t *testing.T, disk *vfstest.Lossy, seed int)
}{
	{"nothing", func(*testing.T, *vfstest.Lossy, int) {}},
	{"all", func(t *testing.T, disk *vfstest.Lossy, _ int) { crash(t, disk, nil) }},
	{"some", func(t *testing.T, disk *vfstest.Lossy, seed int) {
		crash(t, disk, rand.New(rand.NewPCG(uint64(seed), 0)))
	}},
}

func crash(t *testing.T, disk *vfstest.Lossy, random *rand.Rand) {
	t.Helper()
	if err := disk.Crash(random); err != nil {
		t.Fatal(err)
	}
}

// failingEnvironment lets all that repositories do with the disk go through fsys.
func failingEnvironment(t *testing.T, fsys vfs.FS) repo.Environment {
	return repo.Environment{FS: fsys, Small: index.MaxPayload, Index: index.Options{Database: vfstest.Bolt(t, fsys)}}
}

// stuckSweep holds up the removal of directories until it is let go.
type stuckSweep struct {
	vfs.FS
	begun, free chan struct{}
	once        sync.Once
}

func (s *stuckSweep) RemoveAll(name string) error {
	s.once.Do(func() { close(s.begun) })
	<-s.free
	return s.FS.RemoveAll(name)
}

// Destroying answers before the files are gone, however many they are; the name can be used again at once, and what
// a crash leaves goes with the next look, whether there is a new repository or not.
func TestDestroyDoesNotWaitForTheFiles(t *testing.T) {
	for _, anew := range []bool{false, true} {
		t.Run(fmt.Sprintf("anew=%v", anew), func(t *testing.T) {
			dir := newRepository(t)
			stuck := &stuckSweep{FS: vfs.OS(), begun: make(chan struct{}), free: make(chan struct{})}
			s := datadir.Open(datadir.Options{Dir: dir, Environment: repo.Environment{FS: stuck}})
			r, err := s.Get(ctx, "r")
			if err != nil {
				t.Fatal(err)
			}
			mustPut(t, r.As(repo.Principal{}), "x", "old")
			if err := s.Destroy(ctx, "r"); err != nil {
				t.Fatal(err)
			}
			<-stuck.begun
			if names, err := s.Names(); err != nil || len(names) != 0 {
				t.Errorf("names: got %q, %v", names, err)
			}
			if _, err := s.Get(ctx, "r"); !errors.Is(err, repo.ErrNoRepository) {
				t.Errorf("get: got %v, want ErrNoRepository", err)
			}
			if anew {
				mustPut(t, create(t, s, "r").As(repo.Principal{}), "x", "new")
			}
			// What a process that is killed now leaves.
			left := filepath.Join(t.TempDir(), "left")
			if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			close(stuck.free)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if files, err := os.ReadDir(filepath.Join(dir, "r", ".destroyed")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("close did not wait: left are %v, %v", files, err)
			}

			s = newSet(t, func(o *datadir.Options) { o.Dir = left })
			names, err := s.Names()
			if err != nil || len(names) == 1 != anew {
				t.Errorf("names: got %q, %v", names, err)
			}
			if anew {
				if r, err = s.Get(ctx, "r"); err != nil {
					t.Fatal(err)
				}
				wantContent(t, r.As(repo.Principal{}), "x", "new")
			}
			waitFor(t, "the rest to go", func() bool {
				_, err := os.Stat(filepath.Join(left, "r", ".destroyed"))
				return errors.Is(err, os.ErrNotExist)
			})
			if _, err := os.Stat(filepath.Join(left, "r")); !anew {
				waitFor(t, "the directory to go", func() bool { _, err = os.Stat(filepath.Join(left, "r")); return errors.Is(err, os.ErrNotExist) })
			}
		})
	}
}

// A lost index beside the rest of a repository that was destroyed is a lost index.
func TestGravesHideNoLostIndex(t *testing.T) {
	dir := newRepository(t)
	s := datadir.Open(datadir.Options{Dir: dir})
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, r.As(repo.Principal{}), "x", "precious")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "r", ".destroyed"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "r", "index.db")); err != nil {
		t.Fatal(err)
	}
	s = newSet(t, func(o *datadir.Options) { o.Dir = dir })
	if _, err := s.Create(ctx, "r", "test"); !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("create: got %v, want ErrCorrupt", err)
	}
}

// TestCreateSurvivesEveryFailure: whichever file call fails, and whatever of that a power cut loses, there is a whole repository or none,
// and creating it again works.
func TestCreateSurvivesEveryFailure(t *testing.T) {
	for _, when := range []vfstest.When{vfstest.Before, vfstest.After} {
		// Nearly all calls make the directories of shards: some of them will do.
		for n, hit := 1, true; hit; n++ {
			if n == 20 {
				n = 255
			}
			for _, lose := range losses {
				t.Run(fmt.Sprintf("%s/%d/lose=%s", when, n, lose.name), func(t *testing.T) {
					dir := memoryDir(t)
					disk := vfstest.NewLossy(t, dir)
					fsys := vfstest.NewFailing(disk)
					s := datadir.Open(datadir.Options{Dir: dir, Environment: failingEnvironment(t, fsys)})
					fsys.StopAt(n, when, syscall.EIO)
					_, created := s.Create(ctx, "r", "test")
					if hit = fsys.Hit(); !hit && created != nil {
						t.Errorf("create: %v, and no call failed", created)
					}
					if err := s.Close(); err != nil && !fsys.Hit() {
						t.Fatal(err)
					}
					lose.crash(t, disk, n)
					s = newSet(t, func(o *datadir.Options) { o.Dir = dir })
					r, err := s.Get(ctx, "r")
					if errors.Is(err, repo.ErrNoRepository) && created != nil {
						r, err = s.Create(ctx, "r", "test")
					}
					if err != nil {
						t.Fatalf("%v, and created: %v", err, created)
					}
					mustPut(t, r.As(repo.Principal{}), "x", "1")
				})
			}
		}
	}
}

// TestCloseDuringUploads: what was acknowledged before a server stops is there when it starts, and nothing is left of the rest.
func TestCloseDuringUploads(t *testing.T) {
	dir := newRepository(t)
	var mu sync.Mutex
	acknowledged := map[string]string{}
	for round := range 5 {
		s := datadir.Open(datadir.Options{Dir: dir})
		r, err := s.Get(ctx, "r")
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for worker := range 8 {
			wg.Go(func() {
				for i := 0; ; i++ {
					key := fmt.Sprintf("%d/%d/%d", round, worker, i)
					if _, err := put(r.As(repo.Principal{}), key, "body of "+key); err != nil {
						if !errors.Is(err, repo.ErrBusy) {
							t.Errorf("put: got %v, want ErrBusy", err)
						}
						return
					}
					mu.Lock()
					acknowledged[key] = "body of " + key
					mu.Unlock()
				}
			})
		}
		time.Sleep(10 * time.Millisecond)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	}
	s := newSet(t, func(o *datadir.Options) { o.Dir = dir })
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	got := contents(t, r.As(repo.Principal{}))
	for key, body := range acknowledged {
		if got[key] != body {
			t.Errorf("%s is acknowledged, and reads %q", key, got[key])
		}
	}
	if placed, incoming := blobFiles(t, filepath.Join(dir, "r")); placed != len(got) || incoming != 0 {
		t.Errorf("%d blobs and %d unfinished for %d items", placed, incoming, len(got))
	}
}

// Uploads under way neither hold up a destroy nor come back with the repository of the same name that follows at once.
func TestDestroyDuringUploads(t *testing.T) {
	s := newSet(t, func(o *datadir.Options) { o.Dir = memoryDir(t) })
	var wg sync.WaitGroup
	for round := range 10 {
		a := create(t, s, "r").As(repo.Principal{})
		for worker := range 8 {
			wg.Go(func() {
				for i := 0; ; i++ {
					if _, err := put(a, fmt.Sprintf("%d/%d", worker, i), "body"); err != nil {
						if !errors.Is(err, repo.ErrNoRepository) {
							t.Errorf("put: got %v, want ErrNoRepository", err)
						}
						return
					}
				}
			})
		}
		time.Sleep(5 * time.Millisecond)
		if err := s.Destroy(ctx, "r"); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
	}
	a := create(t, s, "r").As(repo.Principal{})
	wg.Wait()
	if got := list(t, a, "", true); len(got) != 0 {
		t.Errorf("the new repository has %q", got)
	}
}

// One repository by two names is opened once.
func TestTwoNamesOfOneRepository(t *testing.T) {
	dir := newRepository(t)
	if err := os.Symlink("r", filepath.Join(dir, "alias")); err != nil {
		t.Fatal(err)
	}
	s := newSet(t, func(o *datadir.Options) { o.Dir = dir })
	if _, err := s.Get(ctx, "alias"); err != nil {
		t.Fatalf("get by a link: %v", err)
	}
	if _, err := s.Get(ctx, "r"); !errors.Is(err, repo.ErrBusy) {
		t.Errorf("get by the other name: got %v, want ErrBusy", err)
	}
}

func TestSetLifeCycle(t *testing.T) {
	s := newSet(t, nil)
	if _, err := s.Get(ctx, "r"); !errors.Is(err, repo.ErrNoRepository) {
		t.Errorf("get before create: got %v", err)
	}
	for range 3 { // create, destroy and create again in quick succession
		r := create(t, s, "r")
		if _, err := s.Create(ctx, "r", "test"); !errors.Is(err, repo.ErrExists) {
			t.Errorf("create twice: got %v", err)
		}
		a := r.As(repo.Principal{})
		mustPut(t, a, "x", "1")
		if err := s.Destroy(ctx, "r"); err != nil {
			t.Fatal(err)
		}
		if _, err := put(a, "y", "2"); !errors.Is(err, repo.ErrNoRepository) {
			t.Errorf("put into a destroyed repository: got %v", err)
		}
		if err := s.Destroy(ctx, "r"); !errors.Is(err, repo.ErrNoRepository) {
			t.Errorf("destroy twice: got %v", err)
		}
	}
	for _, name := range []string{"", ".", "..", ".hidden", "a/", "/a", "a/b/c", "a/.b", "a/..", "a/-", "a b ", "a%2Fb", "a\\b", "a\x00", "a\u202e", "a\xff", "-", strings.Repeat("x", 129), strings.Repeat("ü", 64)} {
		if _, err := s.Create(ctx, name, "test"); !errors.Is(err, repo.ErrInvalid) {
			t.Errorf("create %q: got %v, want ErrInvalid", name, err)
		}
	}
	create(t, s, "b")
	create(t, s, "a")
	if names, err := s.Names(); err != nil || fmt.Sprint(names) != "[a b]" {
		t.Errorf("names: got %q, %v", names, err)
	}
}

// TestLostIndexIsNotOverwritten: without its index a repository looks like one whose creation was interrupted, but for
// its blobs. Creating it anew would be deleting it.
func TestLostIndexIsNotOverwritten(t *testing.T) {
	dir := newRepository(t)
	s := datadir.Open(datadir.Options{Dir: dir})
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, r.As(repo.Principal{}), "x", "precious")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "r")
	if err := os.Remove(filepath.Join(path, "index.db")); err != nil {
		t.Fatal(err)
	}
	s = newSet(t, func(o *datadir.Options) { o.Dir = dir })
	if _, err := s.Get(ctx, "r"); !errors.Is(err, repo.ErrCorrupt) || !strings.Contains(err.Error(), "packhouse repo rebuild r") {
		t.Errorf("get: got %v, want ErrCorrupt and what to do", err)
	}
	if names, err := s.Names(); err != nil || !slices.Equal(names, []string{"r"}) {
		t.Errorf("names: got %q, %v, want the one that is lost too", names, err)
	}
	if _, err := s.Create(ctx, "r", "test"); !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("create: got %v, want ErrCorrupt", err)
	}
	if _, err := recovery.Rebuild(ctx, path, recovery.RebuildOptions{}); err != nil {
		t.Fatal(err)
	}
	if r, err = s.Get(ctx, "r"); err != nil {
		t.Fatal(err)
	}
	wantContent(t, r.As(repo.Principal{}), "x", "precious")
}

func TestForeignDirectoryIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		files []string
		want  string
	}{
		"a store of borg":     {[]string{"config/manifest", "packs/x"}, "packhouse adopt"},
		"a python-made store": {[]string{"config/readme", "keys/x", "packs/x"}, "packhouse adopt"},
		"vykar's":             {[]string{"config", "index", "snapshots/x"}, "vykar-server"},
		"rest-server's":       {[]string{"config", "data/ab/x", "index/x", "keys/x", "locks/x", "snapshots/x"}, "a repository of rest-server"},
		"anything":            {[]string{"thesis.tex"}, "thesis.tex"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, file := range test.files {
				path := filepath.Join(dir, file)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s := newSet(t, func(o *datadir.Options) { o.Dir, o.Single = dir, true })
			for op, do := range map[string]func() error{
				"get":    func() error { _, err := s.Get(ctx, ""); return err },
				"create": func() error { _, err := s.Create(ctx, "", "test"); return err },
			} {
				err := do()
				if !errors.Is(err, repo.ErrForeign) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), dir) {
					t.Errorf("%s: got %v, want ErrForeign that mentions %q", op, err, test.want)
				}
			}
			for _, file := range test.files {
				if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Whoever remembers something of a repository hears that it was destroyed.
func TestDestroyedIsTold(t *testing.T) {
	var told []*repo.Repository
	set := datadir.Open(datadir.Options{Dir: t.TempDir(), Destroyed: func(r *repo.Repository) { told = append(told, r) }})
	defer set.Close()
	r, err := set.Create(context.Background(), "r", "test")
	if err != nil {
		t.Fatal(err)
	}
	if err := set.Destroy(context.Background(), "r"); err != nil {
		t.Fatal(err)
	}
	if len(told) != 1 || told[0] != r {
		t.Errorf("got %v, want the one that was destroyed", told)
	}
}
