package repo_test

import (
	"context"
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
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// blobFile is the file of an item.
func blobFile(t testing.TB, r *repo.Repository, key string) string {
	t.Helper()
	entry, err := repo.IndexOf(r).Get(key)
	if err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprintf("%x", entry.Item.Ref[1:])
	return filepath.Join(repo.Dir(r), "blobs", id[len(id)-2:], id)
}

// filled makes a repository with so many items packs/000…
func filled(t testing.TB, s *datadir.Set, name string, items int) (*repo.Repository, *repo.Access) {
	t.Helper()
	r := create(t, s, name)
	a := r.As(repo.Principal{})
	for i := range items {
		mustPut(t, a, fmt.Sprintf("packs/%03d", i), fmt.Sprint("content ", i))
	}
	return r, a
}

func loseFiles(t testing.TB, r *repo.Repository, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		path := blobFile(t, r, fmt.Sprintf("packs/%03d", i))
		if err := os.Rename(path, filepath.Join(repo.Dir(r), filepath.Base(path))); err != nil {
			t.Fatal(err)
		}
	}
}

func bringBack(t testing.TB, r *repo.Repository, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		path := blobFile(t, r, fmt.Sprintf("packs/%03d", i))
		if err := os.Rename(filepath.Join(repo.Dir(r), filepath.Base(path)), path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLossIsBelieved: up to which loss items are marked, and beyond which somebody must say that they are lost.
func TestLossIsBelieved(t *testing.T) {
	for _, c := range []struct {
		items, lost int
		believed    bool
	}{
		{1, 1, true}, {4, 4, true}, {5, 2, true}, {5, 3, false}, {30, 15, true}, {30, 16, false}, {100, 16, true}, {100, 17, false},
	} {
		t.Run(fmt.Sprintf("%d of %d", c.lost, c.items), func(t *testing.T) {
			s := newSet(t, nil)
			r, a := filled(t, s, "r", c.items)
			used := r.Usage().Used
			loseFiles(t, r, 0, c.lost)
			// By the request that happens to come upon it.
			_, err := get(a, "packs/000")
			want := repo.ErrNotFound
			if !c.believed {
				want = repo.ErrLoss
			}
			if !errors.Is(err, want) {
				t.Fatalf("get of a lost item: got %v, want %v", err, want)
			}
			listed := 0
			err = a.List(ctx, index.ListOptions{Dir: "packs"}, func(index.Entry) error { listed++; return nil })
			if c.believed {
				if err != nil || listed != c.items-c.lost || r.Usage().MissingItems != int64(c.lost) {
					t.Errorf("list: got %d items, %v, %d marked, want %d, %d marked", listed, err, r.Usage().MissingItems, c.items-c.lost, c.lost)
				}
				if r.Usage().Used >= used {
					t.Errorf("what is missing counts: used %d of %d", r.Usage().Used, used)
				}
				bringBack(t, r, 0, c.lost)
				if report, err := r.Sweep(ctx); err != nil || report.Returned != int64(c.lost) || r.Usage().MissingItems != 0 || r.Usage().Used != used {
					t.Errorf("after all came back: %+v, %v, usage %+v", report, err, r.Usage())
				}
				return
			}
			if !errors.Is(err, repo.ErrLoss) || r.Usage().MissingItems != 0 {
				t.Errorf("list: got %d items, %v, %d marked", listed, err, r.Usage().MissingItems)
			}
			if c.items > c.lost {
				if _, err := get(a, fmt.Sprintf("packs/%03d", c.items-1)); err != nil {
					t.Errorf("get of an item that is there: %v", err)
				}
			}
			if _, err := put(a, "packs/new", "new"); !errors.Is(err, repo.ErrLoss) {
				t.Errorf("put: got %v, want ErrLoss", err)
			}
			if err := a.Delete(ctx, "packs/000"); !errors.Is(err, repo.ErrLoss) {
				t.Errorf("delete: got %v, want ErrLoss", err)
			}
			if h := r.Health(); !h.ReadOnly || !strings.Contains(h.Reason, "accept-loss") {
				t.Errorf("health: %+v", h)
			}
			dry, err := r.AcceptLoss(ctx, false, true)
			if err != nil || dry.Items != int64(c.lost) || len(dry.Keys) != c.lost || r.Usage().MissingItems != 0 {
				t.Errorf("dry run: %+v, %v, %d marked", dry, err, r.Usage().MissingItems)
			}
			// When the files are back all is as before.
			bringBack(t, r, 0, c.lost)
			if _, err := r.Sweep(ctx); err != nil {
				t.Fatal(err)
			}
			mustPut(t, a, "packs/new", "new")
			if err := a.Delete(ctx, "packs/new"); err != nil {
				t.Fatal(err)
			}
			loseFiles(t, r, 0, c.lost)
			if _, err := r.AcceptLoss(ctx, true, false); err != nil {
				t.Fatal(err)
			}
			if got := list(t, a, "packs", true); len(got) != c.items-c.lost || r.Usage().MissingItems != 0 || r.Health().Degraded() {
				t.Errorf("after the loss was accepted: %d items, usage %+v, health %+v", len(got), r.Usage(), r.Health())
			}
		})
	}
}

// TestMissingShard: of what lies in a directory that is not there nothing is said, not even of one item.
func TestMissingShard(t *testing.T) {
	dir := t.TempDir()
	o := datadir.Options{Dir: dir}
	s := datadir.Open(o)
	r, a := filled(t, s, "r", 40)
	path := blobFile(t, r, "packs/007")
	shard := filepath.Dir(path)
	aside := filepath.Join(dir, "aside")
	if err := os.Rename(shard, aside); err != nil {
		t.Fatal(err)
	}
	if _, err := get(a, "packs/007"); !errors.Is(err, repo.ErrLoss) || !strings.Contains(err.Error(), "blobs/"+filepath.Base(shard)) {
		t.Errorf("get: got %v, want ErrLoss that names the directory", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// So it is after a restart, before anything was looked for.
	s = datadir.Open(o)
	defer func() { s.Close() }()
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	a = r.As(repo.Principal{})
	if _, err := put(a, "packs/new", "new"); !errors.Is(err, repo.ErrLoss) {
		t.Errorf("put: got %v, want ErrLoss", err)
	}
	// It ends by itself, and what a crash left is settled then.
	if err := os.Rename(aside, shard); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	wantContent(t, a, "packs/007", "content 7")
	mustPut(t, a, "packs/new", "new")

	if err := os.RemoveAll(shard); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Sweep(ctx); !errors.Is(err, repo.ErrLoss) {
		t.Errorf("sweep: got %v, want ErrLoss", err)
	}
	report, err := r.AcceptLoss(ctx, false, false)
	if err != nil || len(report.Shards) != 1 || report.Items == 0 {
		t.Errorf("accept: %+v, %v", report, err)
	}
	if _, err := get(a, "packs/007"); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("get of what was lost: %v", err)
	}
	for i := range 300 { // into all shards
		mustPut(t, a, fmt.Sprintf("again/%d", i), "again")
	}
	checkAll(t, s)
}

// TestLossEnds: a repository serves again by itself when its files are back, also one that found itself so at its
// opening within the time of the last sweep.
func TestLossEnds(t *testing.T) {
	o := datadir.Options{Dir: t.TempDir()}
	s := datadir.Open(o)
	r, _ := filled(t, s, "r", 40)
	loseFiles(t, r, 0, 30)
	reopen := func() {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = datadir.Open(o)
		var err error
		if r, err = s.Get(ctx, "r"); err != nil {
			t.Fatal(err)
		}
	}
	defer func() { s.Close() }()
	o.Sweep = 50 * time.Millisecond
	reopen()
	waitFor(t, "the loss to be noticed", func() bool { return r.Health().ReadOnly })
	bringBack(t, r, 0, 30)
	waitFor(t, "the loss to end", func() bool { return !r.Health().Degraded() })
	wantContent(t, r.As(repo.Principal{}), "packs/000", "content 0")

	shard := filepath.Dir(blobFile(t, r, "packs/007"))
	aside := filepath.Join(o.Dir, "aside")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(shard, aside); err != nil {
		t.Fatal(err)
	}
	reopen()
	if !r.Health().ReadOnly {
		t.Errorf("open without a shard: %+v", r.Health())
	}
	if err := os.Rename(aside, shard); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the loss to end", func() bool { return !r.Health().ReadOnly })
	wantContent(t, r.As(repo.Principal{}), "packs/007", "content 7")
}

// TestAway: while the volume is another one nothing is called missing.
func TestAway(t *testing.T) {
	away := errors.New("another volume")
	var here error
	s := newSet(t, func(o *datadir.Options) { o.Here = func() error { return here } })
	r, a := filled(t, s, "r", 3)
	loseFiles(t, r, 0, 1)
	here = away
	if _, err := get(a, "packs/000"); !errors.Is(err, away) {
		t.Errorf("get: got %v, want that the volume is away", err)
	}
	if _, err := a.Stat(ctx, "packs/000"); !errors.Is(err, away) {
		t.Errorf("stat: got %v, want that the volume is away", err)
	}
	if _, err := r.Sweep(ctx); !errors.Is(err, away) || r.Usage().MissingItems != 0 {
		t.Errorf("sweep: got %v, %d marked", err, r.Usage().MissingItems)
	}
	here = nil
	if _, err := get(a, "packs/000"); !errors.Is(err, repo.ErrNotFound) || r.Usage().MissingItems != 1 {
		t.Errorf("get: got %v, %d marked", err, r.Usage().MissingItems)
	}
}

// TestFirstListWaits: a list of packs after the opening shows what is there, one of locks does not wait; and a
// repository that is opened again within the interval is not swept again.
func TestFirstListWaits(t *testing.T) {
	dir := t.TempDir()
	o := datadir.Options{Dir: dir}
	s := datadir.Open(o)
	r, a := filled(t, s, "r", 40)
	mustPut(t, a, "locks/l", "lock")
	loseFiles(t, r, 0, 3)
	reopen := func() {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = datadir.Open(o)
		var err error
		if r, err = s.Get(ctx, "r"); err != nil {
			t.Fatal(err)
		}
		a = r.As(repo.Principal{})
	}
	defer func() { s.Close() }()
	o.Sweep = time.Hour
	reopen()
	if got := list(t, a, "packs", false); len(got) != 37 || slices.Contains(got, "packs/001") {
		t.Errorf("the first list has %d items: %q", len(got), got)
	}
	if n := r.Usage().MissingItems; n != 3 {
		t.Errorf("%d are marked, want 3", n)
	}
	loseFiles(t, r, 3, 4)
	// The stored time makes the next sweep wait for its hour.
	waitFor(t, "the time of the sweep", func() bool { v, err := repo.IndexOf(r).Meta("names swept"); return err == nil && v != nil })
	reopen()
	if got := list(t, a, "packs", false); len(got) != 37 {
		t.Errorf("within the hour: %d items, want 37", len(got))
	}
	if _, err := get(a, "packs/003"); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("get of a lost item: %v", err)
	}
	if got := list(t, a, "packs", false); len(got) != 36 {
		t.Errorf("after a request noticed: %d items, want 36", len(got))
	}
}

// TestLocksDoNotWait: a sweep that takes its time holds up no lock.
func TestLocksDoNotWait(t *testing.T) {
	block := make(chan struct{})
	s := newSet(t, func(o *datadir.Options) { o.FS, o.Sweep = &slowDirs{vfs.OS(), block}, time.Hour })
	r, err := s.Create(ctx, "r", "test")
	if err != nil {
		t.Fatal(err)
	}
	a := r.As(repo.Principal{})
	mustPut(t, a, "locks/l", "lock")
	if got := list(t, a, "locks", true); !slices.Equal(got, []string{"locks/l"}) {
		t.Errorf("locks: %q", got)
	}
	listed := make(chan error)
	go func() {
		listed <- a.List(ctx, index.ListOptions{Recursive: true}, func(index.Entry) error { return nil })
	}()
	select {
	case err := <-listed:
		t.Errorf("a list of everything did not wait for the first sweep: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if err := a.List(short, index.ListOptions{Dir: "packs"}, func(index.Entry) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a list that was given up: got %v", err)
	}
	close(block)
	if err := <-listed; err != nil {
		t.Error(err)
	}
}

// slowDirs lists no directory of blobs before block is closed.
type slowDirs struct {
	vfs.FS
	block chan struct{}
}

func (s *slowDirs) ReadDir(name string) ([]fs.DirEntry, error) {
	if filepath.Base(filepath.Dir(name)) == "blobs" {
		<-s.block
	}
	return s.FS.ReadDir(name)
}

// TestMending: the same bytes mend what is lost or damaged without the right to overwrite, other bytes need it.
func TestMending(t *testing.T) {
	s := newSet(t, nil)
	r := create(t, s, "r")
	a := r.As(repo.Principal{Permissions: permissions(t, `{"": "lrw"}`)})
	mustPut(t, a, "packs/000", "content 0")
	loseFiles(t, r, 0, 1)
	// Nobody has noticed yet: what is stored is there, or it is no success.
	if _, err := put(a, "packs/000", "other"); !errors.Is(err, repo.ErrDenied) {
		t.Errorf("other bytes: got %v, want ErrDenied", err)
	}
	mustPut(t, a, "packs/000", "content 0")
	wantContent(t, a, "packs/000", "content 0")
	if u := r.Usage(); u.MissingItems != 0 || u.Used != 9 {
		t.Errorf("usage: %+v", u)
	}
}

// TestCutFile: a file that is shorter than it was is damage, and what is left of it can be salvaged.
func TestCutFile(t *testing.T) {
	s := newSet(t, nil)
	r := create(t, s, "r")
	a := r.As(repo.Principal{})
	mustPut(t, a, "x", "precious")
	if err := os.Truncate(blobFile(t, r, "x"), 4); err != nil {
		t.Fatal(err)
	}
	if _, err := get(a, "x"); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("get: got %v, want ErrDamaged", err)
	}
	if u := r.Usage(); u.DamagedItems != 1 || !r.Health().Degraded() {
		t.Errorf("usage: %+v, health %+v", u, r.Health())
	}
	if _, err := a.Hash(ctx, "x", algorithm(t, "sha256")); err != nil {
		t.Errorf("hash: %v", err)
	}
	if _, err := r.Salvage(ctx, time.Hour); err != nil {
		t.Fatal(err)
	}
	wantContent(t, a, "x", "prec")
	if h := r.Health(); !strings.Contains(h.Reason, "with wrong bytes until") {
		t.Errorf("health: %+v", h)
	}
	if _, err := r.Salvage(ctx, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := get(a, "x"); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("get after the salvage: got %v, want ErrDamaged", err)
	}
}

// TestSalvageEnds: it survives a restart, and no more than its time.
func TestSalvageEnds(t *testing.T) {
	clock := fixedClock(time.UnixMilli(1_800_000_000_000))
	o := datadir.Options{Dir: t.TempDir(), Environment: repo.Environment{Now: clock.Now}}
	s := datadir.Open(o)
	r := create(t, s, "r")
	if _, err := r.Salvage(ctx, 8*24*time.Hour); !errors.Is(err, repo.ErrInvalid) {
		t.Errorf("salvage for ever: got %v, want ErrInvalid", err)
	}
	if until, err := r.Salvage(ctx, 2*time.Hour); err != nil || !until.Equal(clock.Now().Add(2*time.Hour)) {
		t.Fatal(until, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = datadir.Open(o)
	defer s.Close()
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	if !r.Salvaging() {
		t.Error("it ended with the restart")
	}
	clock.Advance(2 * time.Hour)
	if r.Salvaging() || r.Health().Degraded() {
		t.Errorf("it does not end: %+v", r.Health())
	}
}

// TestLostTrash: a removed item whose file is gone cannot be restored, and is said to be so.
func TestLostTrash(t *testing.T) {
	s := newSet(t, func(o *datadir.Options) {
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: time.Hour} }
	})
	r, a := filled(t, s, "r", 2)
	loseFiles(t, r, 0, 1)
	path := filepath.Join(repo.Dir(r), filepath.Base(blobFile(t, r, "packs/000")))
	back := blobFile(t, r, "packs/000")
	if err := a.Delete(ctx, "packs/000"); err != nil {
		t.Fatal(err)
	}
	id := ""
	if err := r.Trash(func(row index.Removed) error { id = row.ID; return nil }); err != nil || id == "" {
		t.Fatal(id, err)
	}
	if _, err := r.Restore(ctx, id, ""); !errors.Is(err, repo.ErrNotFound) || !strings.Contains(err.Error(), "gone") {
		t.Errorf("restore: got %v, want that its bytes are gone", err)
	}
	if err := os.Rename(path, back); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Restore(ctx, id, ""); err != nil {
		t.Fatal(err)
	}
	wantContent(t, a, "packs/000", "content 0")
}
