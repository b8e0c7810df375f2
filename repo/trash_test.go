package repo_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// One file that cannot be unlinked does not keep the others.
func TestReclaimPassesOverWhatCannotBeRemoved(t *testing.T) {
	stuck := &stuckFS{FS: vfs.OS()}
	a := newAccess(t, func(o *datadir.Options) {
		o.FS = stuck
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: time.Nanosecond} }
	})
	r := a.Repository()
	mustPut(t, a, "x", "")
	found := blobPaths(t, repo.Dir(r))
	if len(found) != 1 {
		t.Fatal(found)
	}
	stuck.name.Store(&found[0])
	for _, key := range []string{"y", "z"} {
		mustPut(t, a, key, "")
	}
	if _, err := a.DeleteAll(ctx, []string{"x", "y", "z"}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the others to go", func() bool { return r.Usage().TrashItems == 1 })
	if rows := trash(t, r); len(rows) != 1 || rows[0].Key != "x" {
		t.Errorf("trash has %v, want x", rows)
	}
	stuck.name.Store(nil)
	if err := r.ReclaimSome(ctx); err != nil {
		t.Fatal(err)
	}
	if placed, _ := blobFiles(t, repo.Dir(r)); placed != 0 || r.Usage().TrashItems != 0 {
		t.Errorf("%d blobs are left, %d rows", placed, r.Usage().TrashItems)
	}
}

// TestReclaimGathers: who deletes one item after the other does not share the log with a reclaimer that forgets them one by one.
func TestReclaimGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccess(t, func(o *datadir.Options) {
			o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: time.Nanosecond} }
		})
		remove := func(keys ...string) {
			t.Helper()
			for _, key := range keys {
				mustPut(t, a, key, "")
				if err := a.Delete(ctx, key); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
		}
		items := func() int64 { return a.Repository().Usage().TrashItems }
		if remove("x"); items() != 0 {
			t.Errorf("after the first: %d rows are left", items())
		}
		if remove("y", "z"); items() != 2 {
			t.Errorf("right after it: %d rows are left, want 2", items())
		}
		time.Sleep(repo.ReclaimPause)
		if synctest.Wait(); items() != 0 {
			t.Errorf("after a pause: %d rows are left", items())
		}
	})
}

// stuckFS refuses to remove one file.
type stuckFS struct {
	vfs.FS
	name atomic.Pointer[string]
}

func (s *stuckFS) Remove(name string) error {
	if stuck := s.name.Load(); stuck != nil && *stuck == name {
		return &os.PathError{Op: "remove", Path: name, Err: syscall.EPERM}
	}
	return s.FS.Remove(name)
}

// Locks are removed for good at once, but a pack that was given the name of one is not.
func TestRenameIsNoWayAroundTheGrace(t *testing.T) {
	a := newAccess(t, func(o *datadir.Options) {
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: time.Hour} }
	})
	mustPut(t, a, "packs/p", "a pack")
	mustPut(t, a, "locks/mine", "a lock")
	if err := a.Move(ctx, "packs/p", "locks/p"); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"locks/p", "locks/mine"} {
		if err := a.Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
	}
	r := a.Repository()
	waitFor(t, "the lock to go", func() bool { return r.Usage().TrashItems == 1 })
	var id string
	if err := r.Trash(func(row index.Removed) error { id = row.ID; return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Restore(ctx, id, "packs/p"); err != nil {
		t.Fatal(err)
	}
	wantContent(t, a, "packs/p", "a pack")
}

func TestTrashRestoresWithinGrace(t *testing.T) {
	now := time.Now()
	var mu sync.Mutex
	a := newAccess(t, func(o *datadir.Options) {
		o.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: time.Hour} }
	})
	r := a.Repository()
	mustPut(t, a, "x", "first")
	mustPut(t, a, "x", "second")
	if err := a.Delete(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	removed := map[string]index.Removed{}
	if err := r.Trash(func(row index.Removed) error { removed[fmt.Sprint(row.Item.Size)] = row; return nil }); err != nil {
		t.Fatal(err)
	}
	if len(removed) != 2 {
		t.Fatalf("trash has %d rows, want 2", len(removed))
	}
	if _, err := r.Restore(ctx, removed["5"].ID, "x"); err != nil {
		t.Fatal(err)
	}
	wantContent(t, a, "x", "first")
	if _, err := r.Restore(ctx, removed["6"].ID, ""); !errors.Is(err, repo.ErrExists) {
		t.Errorf("restore over an item: got %v", err)
	}
	if _, err := r.Restore(ctx, removed["6"].ID, "y/z"); err != nil {
		t.Fatal(err)
	}
	wantContent(t, a, "y/z", "second")
	if _, err := r.Restore(ctx, removed["6"].ID, "again"); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("restore twice: got %v", err)
	}

	if err := a.Delete(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	now = now.Add(2 * time.Hour)
	mu.Unlock()
	mustPut(t, a, "other", "") // a change of the trash wakes the reclaimer
	if err := a.Delete(ctx, "other"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the expired rows to go", func() bool { return r.Usage().TrashItems == 1 })
	wantContent(t, a, "y/z", "second")
}

// The reclaimer died between blob and row, and the clock went back: the row looks as if it could be restored.
func TestRestoreNeedsTheBytes(t *testing.T) {
	a := newAccess(t, func(o *datadir.Options) {
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: time.Hour} }
	})
	r := a.Repository()
	mustPut(t, a, "x", "body")
	if err := a.Delete(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	found := blobPaths(t, repo.Dir(r))
	if len(found) != 1 {
		t.Fatal(found)
	}
	if err := os.Remove(found[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Restore(ctx, trash(t, r)[0].ID, ""); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("restore: got %v, want ErrNotFound", err)
	}
	if _, err := get(a, "x"); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("get: got %v, want ErrNotFound", err)
	}
}

// A long grace time must not keep a full disk full.
func TestEmptyTrash(t *testing.T) {
	clock := newClock()
	a := newAccess(t, func(o *datadir.Options) {
		o.Now = clock.Now
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: 365 * 24 * time.Hour} }
	})
	r := a.Repository()
	remove := func(prefix string, n int) {
		t.Helper()
		var keys []string
		for i := range n {
			keys = append(keys, fmt.Sprintf("%s%d", prefix, i))
			mustPut(t, a, keys[i], "12345")
		}
		if _, err := a.DeleteAll(ctx, keys); err != nil {
			t.Fatal(err)
		}
	}
	remove("old", 1001) // more than one transaction takes
	mustPut(t, a, "kept", "live")
	clock.Advance(time.Hour)
	border := clock.Now()
	clock.Advance(time.Hour)
	remove("new", 2)

	if got, err := r.EmptyTrash(ctx, border); err != nil || got != (repo.Emptied{Items: 1001, Bytes: 5005}) {
		t.Errorf("older: got %+v, %v", got, err)
	}
	if rows := trash(t, r); len(rows) != 2 || rows[0].Key != "new0" {
		t.Errorf("trash has %d rows, want the 2 new ones", len(rows))
	}
	if placed, _ := blobFiles(t, repo.Dir(r)); placed != 3 {
		t.Errorf("%d blobs are left, want 3", placed)
	}
	if got, err := r.EmptyTrash(ctx, clock.Now().Add(time.Hour)); err != nil || got != (repo.Emptied{Items: 2, Bytes: 10}) {
		t.Errorf("all: got %+v, %v", got, err)
	}
	if got, err := r.EmptyTrash(ctx, clock.Now().Add(time.Hour)); err != nil || got != (repo.Emptied{}) {
		t.Errorf("again: got %+v, %v", got, err)
	}
	if placed, _ := blobFiles(t, repo.Dir(r)); placed != 1 || r.Usage().TrashItems != 0 {
		t.Errorf("%d blobs are left, %d rows", placed, r.Usage().TrashItems)
	}
	wantContent(t, a, "kept", "live")
}

// What no longer fits stays in the trash until there is space.
func TestRestoreMeetsTheQuota(t *testing.T) {
	a := newAccess(t, func(o *datadir.Options) {
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: 100, Grace: time.Hour} }
	})
	r := a.Repository()
	mustPut(t, a, "x", strings.Repeat("x", 60))
	if err := a.Delete(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	mustPut(t, a, "y", strings.Repeat("y", 60))
	id := trash(t, r)[0].ID
	var quota *repo.QuotaError
	if _, err := r.Restore(ctx, id, ""); !errors.As(err, &quota) || quota.Wanted != 120 || quota.Limit != 100 {
		t.Errorf("restore into a full repository: got %v, want a QuotaError", err)
	}
	if err := r.SetQuota(ctx, 120); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Restore(ctx, id, ""); err != nil {
		t.Error(err)
	}
	wantContent(t, a, "x", strings.Repeat("x", 60))
	if u := r.Usage(); u.Used != 120 || u.TrashItems != 0 || u.TrashBytes != 0 {
		t.Errorf("usage: %+v", u)
	}
}

// An upload that has been admitted is sure of its bytes, also of those that a restore would take.
func TestRestoreLeavesWhatIsReserved(t *testing.T) {
	a := newAccess(t, func(o *datadir.Options) {
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: 100, Grace: time.Hour} }
	})
	r := a.Repository()
	mustPut(t, a, "x", strings.Repeat("x", 60))
	if err := a.Delete(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	u, err := a.NewUpload(ctx, repo.UploadOptions{Key: "y", Size: 60})
	if err != nil {
		t.Fatal(err)
	}
	id := trash(t, r)[0].ID
	var quota *repo.QuotaError
	if _, err := r.Restore(ctx, id, ""); !errors.As(err, &quota) || quota.Wanted != 120 {
		t.Errorf("restore beside an upload: got %v, want a QuotaError", err)
	}
	u.Discard()
	if _, err := r.Restore(ctx, id, ""); err != nil {
		t.Error(err)
	}
	if u := r.Usage(); u.Used != 60 || u.Reserved != 0 {
		t.Errorf("usage: %+v", u)
	}
}

// What is removed while the clock is a year ahead goes when its grace time has passed after the correction, not a year later.
func TestTrashOfAWrongClock(t *testing.T) {
	now := new(atomic.Int64)
	right := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	now.Store(right.Add(365 * 24 * time.Hour).UnixNano())
	a := newAccess(t, func(o *datadir.Options) {
		o.Now = func() time.Time { return time.Unix(0, now.Load()) }
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: 24 * time.Hour} }
	})
	r := a.Repository()
	mustPut(t, a, "packs/a", "one")
	if err := a.Delete(ctx, "packs/a"); err != nil {
		t.Fatal(err)
	}
	now.Store(right.UnixNano())
	if err := repo.Redate(r); err != nil {
		t.Fatal(err)
	}
	if rows := trash(t, r); len(rows) != 1 || !rows[0].Expires.Equal(right.Add(24*time.Hour)) {
		t.Fatalf("got %+v, want one that expires a day after the correction", rows)
	}
	now.Store(right.Add(25 * time.Hour).UnixNano())
	if err := r.ReclaimSome(ctx); err != nil {
		t.Fatal(err)
	}
	if rows := trash(t, r); len(rows) != 0 {
		t.Errorf("got %+v after the grace time, want none", rows)
	}
}
