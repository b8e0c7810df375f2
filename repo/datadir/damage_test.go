package datadir_test

import (
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

const rebuildHint = "packhouse repo rebuild r --replace builds a new one"

// TestDamagedIndexIsRefusedAtOnce: an index that would be dear to look at is not looked at with every request; one that
// was replaced, or that a disk could not read for a while, is.
func TestDamagedIndexIsRefusedAtOnce(t *testing.T) {
	dir, clock := t.TempDir(), newClock()
	o := datadir.Options{Dir: dir, Environment: repo.Environment{Now: clock.Now}}
	s := datadir.Open(o)
	fill(t, create(t, s, "r").As(repo.Principal{}))
	create(t, s, "other")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	restore := changePages(t, filepath.Join(dir, "r", "index.db"), circle)
	s = datadir.Open(o)
	defer func() { s.Close() }()
	_, first := s.Get(ctx, "r")
	if !errors.Is(first, repo.ErrCorrupt) || !strings.Contains(first.Error(), rebuildHint) {
		t.Fatalf("got %v, want ErrCorrupt and %q", first, rebuildHint)
	}
	if damage, ok := errors.AsType[*repo.IndexError](first); !ok || !strings.Contains(damage.Err.Error(), "bucket ") || strings.Contains(damage.Err.Error(), dir) {
		t.Errorf("what is wrong: %v", first)
	}
	if _, err := s.Get(ctx, "r"); err != first {
		t.Errorf("it was looked at again: %v", err)
	}
	clock.Advance(11 * time.Second)
	_, second := s.Get(ctx, "r")
	if second == first || !errors.Is(second, repo.ErrCorrupt) {
		t.Errorf("after a while: got %v", second)
	}
	if _, err := s.Get(ctx, "other"); err != nil {
		t.Errorf("another repository: %v", err)
	}
	if unusable := s.Unusable(); len(unusable) != 1 || unusable["r"] != second {
		t.Errorf("unusable: %v", unusable)
	}
	restore()
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatalf("after it was mended: %v", err)
	}
	wantContent(t, r.As(repo.Principal{}), "packs/00"+strings.Repeat("x", 60), "content")
}

// TestLostIndexIsOpenedAgain: an index that was given up, as bbolt met a page that cannot be read in the midst of a checkpoint, is
// refused while it is so, and opened again when it can be.
func TestLostIndexIsOpenedAgain(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "r", "index.db")
	var restore func()
	var armed atomic.Bool
	s := datadir.Open(datadir.Options{Dir: dir, Environment: repo.Environment{Index: index.Options{AfterWrite: func() error {
		if armed.CompareAndSwap(true, false) {
			restore = changePages(t, path, func(n int, page []byte) bool { clear(page); return n < 2 })
		}
		return nil
	}}}})
	defer func() { s.Close() }()
	r := create(t, s, "r")
	create(t, s, "other")
	armed.Store(true)
	mustPut(t, r.As(repo.Principal{}), "packs/a", "in the log")
	waitFor(t, "the checkpoint", func() bool { return r.Health().IndexDamaged })
	begin := time.Now()
	for range 50 {
		if _, err := get(r.As(repo.Principal{}), "packs/a"); !errors.Is(err, repo.ErrCorrupt) {
			t.Fatalf("get: got %v, want ErrCorrupt", err)
		}
		if _, err := s.Get(ctx, "r"); !errors.Is(err, repo.ErrCorrupt) || !strings.Contains(err.Error(), rebuildHint) {
			t.Fatalf("got %v, want ErrCorrupt and %q", err, rebuildHint)
		}
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("100 requests took %v", took)
	}
	if _, err := s.Get(ctx, "other"); err != nil || len(s.Unusable()) != 1 {
		t.Errorf("other: %v, unusable: %v", err, s.Unusable())
	}
	restore()
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	wantContent(t, r.As(repo.Principal{}), "packs/a", "in the log")
	mustPut(t, r.As(repo.Principal{}), "packs/b", "goes on")
	if len(s.Unusable()) != 0 {
		t.Errorf("unusable: %v", s.Unusable())
	}
}
