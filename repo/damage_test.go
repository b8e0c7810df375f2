package repo_test

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"packhouse/blobstore/vfs"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/recovery"
)

const rebuildHint = "packhouse repo rebuild r --replace builds a new one"

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
