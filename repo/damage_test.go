package repo_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/recovery"
)

const rebuildHint = "packhouse repo rebuild r --replace builds a new one"

// changePages lets fn change the pages of an index file in place, and returns what writes them back as they were. fn tells whether
// it changed the page.
func changePages(t testing.TB, path string, fn func(n int, page []byte) bool) (restore func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	size, changed := os.Getpagesize(), []int{}
	for n := range len(sound) / size {
		page := bytes.Clone(sound[n*size : (n+1)*size])
		if fn(n, page) {
			changed = append(changed, n)
			if _, err := f.WriteAt(page, int64(n*size)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(changed) == 0 {
		t.Fatal("no page was changed")
	}
	return func() {
		for _, n := range changed {
			if _, err := f.WriteAt(sound[n*size:(n+1)*size], int64(n*size)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// zeroPagesOf makes the pages unreadable that have some bytes, of this and of former versions.
func zeroPagesOf(what string) func(int, []byte) bool {
	return func(_ int, page []byte) bool {
		has := bytes.Contains(page, []byte(what))
		if has {
			clear(page)
		}
		return has
	}
}

// circle makes each branch its own child.
func circle(n int, page []byte) bool {
	branch := page[8] == 1 && page[9] == 0
	if branch {
		for i := range int(binary.NativeEndian.Uint16(page[10:])) {
			binary.NativeEndian.PutUint64(page[16+16*i+8:], uint64(n))
		}
	}
	return branch
}

// fill stores items whose rows take many pages.
func fill(t testing.TB, a *repo.Access) {
	t.Helper()
	for i := range 60 {
		mustPut(t, a, fmt.Sprintf("packs/%02d%s", i, strings.Repeat("x", 60)), "content")
	}
}

// TestDamageInUse: what does not need a damaged page is served, what does is refused with what mends it. Nothing is removed
// meanwhile, no sound copy of the index either, and all ends when the page can be read again.
func TestDamageInUse(t *testing.T) {
	clock := newClock()
	s := newSet(t, func(o *datadir.Options) {
		o.Now = clock.Now
		// No commit in the background comes between the damage and its end.
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: 30 * time.Minute} }
	})
	r := create(t, s, "r")
	a := r.As(repo.Principal{})
	fill(t, a)
	mustPut(t, a, "packs/gone", "gone")
	if err := a.Delete(ctx, "packs/gone"); err != nil {
		t.Fatal(err)
	}
	sound, err := r.Snapshot(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	bad, good := "packs/30"+strings.Repeat("x", 60), "packs/00"+strings.Repeat("x", 60)
	restore := changePages(t, filepath.Join(repo.Dir(r), "index.db"), zeroPagesOf(strings.ReplaceAll(bad, "/", "\x00")))
	if h := r.Health(); h != (repo.Health{}) {
		t.Errorf("health before it is known: %+v", h)
	}
	if _, err := get(a, bad); !errors.Is(err, repo.ErrCorrupt) || !strings.Contains(err.Error(), rebuildHint) {
		t.Errorf("get: got %v, want ErrCorrupt and %q", err, rebuildHint)
	}
	wantContent(t, a, good, "content")
	if h := r.Health(); !h.IndexDamaged || h.ReadOnly || !strings.Contains(h.Reason, "repo rebuild") || strings.Contains(h.Reason, " r ") {
		t.Errorf("health: %+v", h)
	}
	if _, err := r.Snapshot(ctx, 1); !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("snapshot: got %v, want ErrCorrupt", err)
	}
	if kept, err := recovery.Snapshots(vfs.OS(), repo.Dir(r)); err != nil || len(kept) != 1 || kept[0].Name != sound.Name {
		t.Errorf("kept %v, %v; want %s", kept, err, sound.Name)
	}
	clock.Advance(time.Hour)
	before, _ := blobFiles(t, repo.Dir(r))
	if err := r.ReclaimSome(ctx); !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("reclaim: got %v, want ErrCorrupt", err)
	}
	if after, _ := blobFiles(t, repo.Dir(r)); after != before {
		t.Errorf("%d blobs were removed", before-after)
	}
	restore()
	wantContent(t, a, bad, "content")
	if report, err := repo.IndexOf(r).Check(ctx); err != nil || len(report.Problems) > 0 {
		t.Errorf("check: %q, %v", report.Problems, err)
	}
	if h := r.Health(); h != (repo.Health{}) {
		t.Errorf("health afterwards: %+v", h)
	}
	if err := r.ReclaimSome(ctx); err != nil {
		t.Errorf("reclaim afterwards: %v", err)
	}
}

// TestStaleTrashRemovesNothing: a row of the trash that came back, as with a page that the disk did not write, does not cost
// an item its bytes.
func TestStaleTrashRemovesNothing(t *testing.T) {
	dir, clock := t.TempDir(), newClock()
	o := datadir.Options{
		Dir: dir, Environment: repo.Environment{Now: clock.Now},
		Settings: func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: time.Hour} },
	}
	s := datadir.Open(o)
	r := create(t, s, "r")
	a := r.As(repo.Principal{})
	mustPut(t, a, "packs/a", "restored")
	if err := a.Delete(ctx, "packs/a"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "r", "index.db")
	rows := make(map[string][]byte)
	inBolt := func(fn func(b *bolt.Bucket) error) {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		db, err := bolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bolt.Tx) error { return fn(tx.Bucket([]byte("trash"))) })
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		s = datadir.Open(o)
		if r, err = s.Get(ctx, "r"); err != nil {
			t.Fatal(err)
		}
		a = r.As(repo.Principal{})
	}
	inBolt(func(b *bolt.Bucket) error {
		return b.ForEach(func(key, value []byte) error {
			rows[string(key)] = bytes.Clone(value)
			return nil
		})
	})
	for id := range rows {
		if _, err := r.Restore(ctx, fmt.Sprintf("%x", id), ""); err != nil {
			t.Fatal(err)
		}
	}
	inBolt(func(b *bolt.Bucket) error {
		for key, value := range rows {
			if err := b.Put([]byte(key), value); err != nil {
				return err
			}
		}
		return nil
	})
	defer func() { s.Close() }()
	clock.Advance(2 * time.Hour)
	if err := r.ReclaimSome(ctx); !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("reclaim: got %v, want ErrCorrupt", err)
	}
	if _, err := r.EmptyTrash(ctx, clock.Now().Add(time.Hour)); !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("empty trash: got %v, want ErrCorrupt", err)
	}
	wantContent(t, a, "packs/a", "restored")
}

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

// TestLostIndexIsOpenedAgain: an index that was given up, as bbolt met a page that cannot be read in the midst of a commit, is
// refused while it is so, and opened again when it can be.
func TestLostIndexIsOpenedAgain(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "r", "index.db")
	var restore func()
	armed := false
	s := datadir.Open(datadir.Options{Dir: dir, Environment: repo.Environment{Index: index.Options{AfterCommit: func() error {
		if armed {
			armed = false
			restore = changePages(t, path, func(n int, page []byte) bool { clear(page); return n < 2 })
		}
		return nil
	}}}})
	defer func() { s.Close() }()
	r := create(t, s, "r")
	create(t, s, "other")
	armed = true
	if _, err := put(r.As(repo.Principal{}), "packs/a", "in doubt"); !errors.Is(err, repo.ErrReadOnly) {
		t.Errorf("put that the index has no more: got %v, want ErrReadOnly", err)
	}
	if h := r.Health(); !h.IndexDamaged {
		t.Errorf("health: %+v", h)
	}
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
	wantContent(t, r.As(repo.Principal{}), "packs/a", "in doubt")
	mustPut(t, r.As(repo.Principal{}), "packs/b", "goes on")
	if len(s.Unusable()) != 0 {
		t.Errorf("unusable: %v", s.Unusable())
	}
}
