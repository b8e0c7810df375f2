package repo_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/repotest"
)

const day = 24 * time.Hour

// newTrash makes a repository whose trash is kept for a month. No two changes have the same time.
func newTrash(t *testing.T, dialect string, quota, trash int64) (*repo.Access, *repotest.Clock) {
	t.Helper()
	clock := newClock()
	a := newDialect(t, dialect, func(o *datadir.Options) {
		o.Now = clock.Now
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: quota, TrashQuota: trash, Grace: 30 * day} }
	})
	return a, clock
}

func refusedForTrash(t *testing.T, what string, err error) {
	t.Helper()
	var full *repo.TrashError
	if !errors.As(err, &full) || !errors.Is(err, repo.ErrQuota) {
		t.Errorf("%s: got %v, want a TrashError", what, err)
	}
}

func body(letter string, n int) string { return strings.Repeat(letter, n) }

// Overwriting fills the trash up to its bound. What is older than the protected time gives way then, and nothing else.
func TestOverwritesFillTheTrashToItsBound(t *testing.T) {
	for _, tt := range []struct{ quota, trash, holds int64 }{{100, 0, 100}, {100, 50, 50}, {100, 150, 150}, {-1, 50, 50}} {
		a, clock := newTrash(t, "test", tt.quota, tt.trash)
		r := a.Repository()
		for i := range tt.holds / 10 {
			mustPut(t, a, fmt.Sprint(i), body(string(rune('a'+i)), 10))
			mustPut(t, a, fmt.Sprint(i), "b")
		}
		mustPut(t, a, "x", body("x", 10))
		oldest := trash(t, r)[0]
		_, err := put(a, "x", body("z", 10))
		refusedForTrash(t, "announced", err)
		_, err = a.Put(ctx, repo.PutRequest{Key: "x", Body: strings.NewReader("z"), Size: -1})
		refusedForTrash(t, "of unknown length", err)
		mustPut(t, a, "y", "y")
		refusedForTrash(t, "moved over it", a.Move(ctx, "y", "x"))
		wantContent(t, a, "x", body("x", 10))
		if u := r.Usage(); u.TrashBytes != tt.holds || u.Used != 11+tt.holds/10 || u.TrashLimit != tt.holds {
			t.Errorf("%+v: got %+v", tt, u)
		}
		clock.Advance(49 * time.Hour)
		mustPut(t, a, "x", "z")
		for _, row := range trash(t, r) {
			if row.ID == oldest.ID {
				t.Errorf("%+v: the oldest did not give way", tt)
			}
		}
		if u := r.Usage(); u.TrashBytes != tt.holds {
			t.Errorf("%+v: %d bytes in the trash, want %d: no more than needed gives way", tt, u.TrashBytes, tt.holds)
		}
	}
}

// Clients that overwrite one item at once do not get past the bound together.
func TestOverwritesAtOnceKeepToTheBound(t *testing.T) {
	a, _ := newTrash(t, "test", 1<<20, 100)
	r := a.Repository()
	mustPut(t, a, "x", "x")
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			key := []string{"x", "new"}[i%2]
			if _, err := put(a, key, body("y", 30)); err != nil && !errors.As(err, new(*repo.TrashError)) {
				t.Error(err)
			}
			if u := r.Usage(); u.TrashBytes > 100 {
				t.Errorf("the trash holds %d bytes", u.TrashBytes)
			}
		})
	}
	wg.Wait()
}

// Removals are never refused, but what is added and removed again and again finds an end.
func TestRemovalsBeyondTheBound(t *testing.T) {
	a, clock := newTrash(t, "test", 100, 0)
	r := a.Repository()
	stored := 0
	var err error
	for i := range 100 {
		if _, err = put(a, fmt.Sprint(i), body("x", 30)); err != nil {
			break
		}
		stored++
		if err := a.Delete(ctx, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	refusedForTrash(t, "added again and again", err)
	if u := r.Usage(); stored != 6 || u.TrashBytes != 180 || u.Used != 0 {
		t.Errorf("stored %d, got %+v", stored, u)
	}
	mustPut(t, a, "what fits", body("x", 20))
	mustPut(t, a, "locks/l", "a lock")
	if err := a.Delete(ctx, "what fits"); err != nil {
		t.Error(err)
	}
	clock.Advance(49 * time.Hour)
	mustPut(t, a, "later", body("x", 90))
	if u := r.Usage(); u.TrashBytes+u.Used > 200 {
		t.Errorf("got %+v", u)
	}
	// What the reclaimer finds beyond the bound goes without a request for space.
	clock.Advance(49 * time.Hour)
	if err := a.Delete(ctx, "later"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the rest to go", func() bool { return r.Usage().TrashBytes <= 100 })
	if rows := trash(t, r); len(rows) == 0 || rows[len(rows)-1].Key != "later" {
		t.Errorf("got %+v, want what was removed last among them", rows)
	}
}

// A bound that is lowered holds for what is in the trash already, but for what is protected.
func TestLoweredTrashQuota(t *testing.T) {
	a, clock := newTrash(t, "test", -1, -1)
	r := a.Repository()
	for _, key := range []string{"old", "older", "protected"} {
		mustPut(t, a, key, body("x", 10))
		if err := a.Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
		clock.Advance(25 * time.Hour)
	}
	if err := r.SetTrashQuota(ctx, 5); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the old ones to go", func() bool { return r.Usage().TrashItems == 1 })
	if rows := trash(t, r); len(rows) != 1 || rows[0].Key != "protected" {
		t.Errorf("got %+v", rows)
	}
}

// A quota that is nearly full because of the trash says so, and a restore takes from there what it adds.
func TestTrashBeyondItsBoundCounts(t *testing.T) {
	a, _ := newTrash(t, "test", 100, 10)
	r := a.Repository()
	mustPut(t, a, "x", body("x", 90))
	if err := a.Delete(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	_, err := put(a, "y", body("y", 21))
	var full *repo.TrashError
	if !errors.As(err, &full) || full.Trash != 90 || full.Limit != 10 {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(err.Error(), "packhouse trash empty") {
		t.Errorf("%v does not say what helps", err)
	}
	mustPut(t, a, "y", body("y", 10))
	if _, err := r.Restore(ctx, trash(t, r)[0].ID, ""); err != nil {
		t.Error(err)
	}
	var q *repo.QuotaError
	if _, err := put(a, "z", "z"); !errors.As(err, &q) {
		t.Errorf("got %v, want a QuotaError", err)
	}
}

// Plans and commit keys are not refused. What they replace soon after it was stored is not kept, and what was there before is.
func TestTrashRefusesNoPlanAndNoCommitKey(t *testing.T) {
	a, clock := newTrash(t, "vger", 1000, 50)
	r := a.Repository()
	mustPut(t, a, "index", body("a", 100))
	mustPut(t, a, "packs/p", body("a", 100))
	clock.Advance(49 * time.Hour)
	for i := range 20 {
		mustPut(t, a, "index", body(fmt.Sprint(i%10), 100))
		res, err := a.Reserve(0, 100, false)
		if err != nil {
			t.Fatal(err)
		}
		u := upload(t, a, "packs/p", 100, res)
		if _, err := a.Commit(ctx, repo.Batch{Puts: []repo.BatchPut{{Upload: u}}, Reservation: res}); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "what is not kept to go", func() bool { return r.Usage().TrashItems == 2 })
	for _, row := range trash(t, r) {
		if row.Item.Modified.After(clock.Now().Add(-48 * time.Hour)) {
			t.Errorf("kept %s of %s", row.Key, row.Item.Modified)
		}
	}
	_, err := put(a, "packs/p", "overwritten")
	refusedForTrash(t, "an overwrite that is no commit key's", err)
	mustPut(t, a, "packs/q", body("x", 600))
}

// TestFullTrashKeepsTheLastIndex: a client that may only overwrite commit keys fills the trash, and then overwrites the index of yesterday's
// backup. That can be brought back.
func TestFullTrashKeepsTheLastIndex(t *testing.T) {
	a, clock := newTrash(t, "vger", 1000, 1000)
	r := a.Repository()
	thief := r.As(repo.Principal{Name: "thief", Permissions: permissions(t, `{"": "lrw", "index": "lrW", "manifest": "lrW"}`)})
	mustPut(t, a, "manifest", body("m", 100))
	clock.Advance(5 * day)
	mustPut(t, a, "index", body("g", 100))
	clock.Advance(8 * time.Hour)
	to := clock.Now()
	clock.Advance(time.Second)
	for i := range 30 {
		mustPut(t, thief, []string{"manifest", "index"}[i/15], body(fmt.Sprint(i%10), 100))
	}
	clock.Advance(time.Minute)
	waitFor(t, "what is not kept to go", func() bool {
		if err := r.ReclaimSome(ctx); err != nil {
			t.Fatal(err)
		}
		return r.Usage().TrashBytes <= 1200 // its bound, and of each key what was there before
	})
	if _, err := r.Rollback(ctx, repo.RollbackRequest{To: to}, repo.Principal{}, nil); err != nil {
		t.Error(err)
	}
	wantContents(t, "afterwards", a, map[string]string{"manifest": body("m", 100), "index": body("g", 100)})
}

// Items that expire at once, and repositories without a grace time, have nothing to do with the bound.
func TestTrashWithoutGrace(t *testing.T) {
	a := newAccess(t, func(o *datadir.Options) {
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: 100, TrashQuota: 1} }
	})
	for range 50 {
		mustPut(t, a, "x", body("x", 50))
	}
	kept, _ := newTrash(t, "test", 100, 1)
	for range 50 {
		mustPut(t, kept, "locks/l", body("x", 50))
	}
}

// The limit that is stored in the repository wins over the configured one.
func TestTrashQuotaOfItsOwn(t *testing.T) {
	a, _ := newTrash(t, "test", 100, 50)
	r := a.Repository()
	want := func(what string, limit int64) {
		t.Helper()
		if got := r.Usage().TrashLimit; got != limit {
			t.Errorf("%s: got %d, want %d", what, got, limit)
		}
	}
	want("configured", 50)
	if err := r.SetTrashQuota(ctx, 70); err != nil {
		t.Fatal(err)
	}
	want("its own", 70)
	r.Configure(repo.Settings{Quota: 100, Grace: day})
	want("configured anew", 70)
	if err := r.SetQuota(ctx, 200); err != nil {
		t.Fatal(err)
	}
	want("beside a new quota", 70)
	if err := r.UnsetTrashQuota(ctx); err != nil {
		t.Fatal(err)
	}
	want("as the quota", 200)
	ceiling := int64(30)
	if u := r.As(repo.Principal{Ceiling: &ceiling}).Usage(); u.TrashLimit != 30 {
		t.Errorf("below a ceiling: got %d", u.TrashLimit)
	}
	if err := r.SetTrashQuota(ctx, -1); err != nil {
		t.Fatal(err)
	}
	want("none", -1)
}

// What a plan removes goes to the trash, for which the oldest there gives way.
func TestTrashGivesWayToPlans(t *testing.T) {
	a, clock := newTrash(t, "test", 1000, 100)
	mustPut(t, a, "old", body("x", 90))
	if err := a.Delete(ctx, "old"); err != nil {
		t.Fatal(err)
	}
	clock.Advance(49 * time.Hour)
	mustPut(t, a, "packs/p", body("x", 90))
	res, err := a.Reserve(-80, 10, false)
	if err != nil {
		t.Fatal(err)
	}
	u := upload(t, a, "packs/q", 10, res)
	if _, err := a.Commit(ctx, repo.Batch{
		Puts: []repo.BatchPut{{Upload: u}}, Deletes: []repo.BatchDelete{{Key: "packs/p"}}, Reservation: res,
	}); err != nil {
		t.Fatal(err)
	}
	if rows := trash(t, a.Repository()); len(rows) != 1 || rows[0].Key != "packs/p" || rows[0].Expires.Before(clock.Now()) {
		t.Errorf("got %+v, want what the plan removed", rows)
	}
}

// TestFullTrashSurvivesFailure: an overwrite for which old rows of the trash give way is interrupted at each call of the file system. The
// item is the old or the new one, the new one if that was acknowledged, and what is protected is still there.
func TestFullTrashSurvivesFailure(t *testing.T) {
	now := time.Now()
	settings := func(string) repo.Settings { return repo.Settings{Quota: 1000, TrashQuota: 100, Grace: 30 * day} }
	at := func(dir string, small int64, fsys vfs.FS, now time.Time) (*datadir.Set, *repo.Access, error) {
		o := datadir.Options{Dir: dir, Settings: settings}
		o.FS, o.Small, o.Now = fsys, small, func() time.Time { return now }
		s := datadir.Open(o)
		r, err := s.Get(ctx, "r")
		if err != nil {
			return s, nil, err
		}
		return s, r.As(repo.Principal{}), nil
	}
	for _, mode := range modes {
		for _, when := range []vfstest.When{vfstest.Before, vfstest.After} {
			for n, hit := 1, true; hit; n++ {
				t.Run(fmt.Sprintf("%s%s/%d", mode.name, when, n), func(t *testing.T) {
					dir := newRepository(t)
					for i, key := range []string{"old", "older", "protected"} {
						s, a, err := at(dir, mode.small, vfs.OS(), now.Add(time.Duration(i-3)*25*time.Hour))
						if err != nil {
							t.Fatal(err)
						}
						mustPut(t, a, "x", body("x", 30))
						mustPut(t, a, key, body("k", 30))
						if err := a.Delete(ctx, key); err != nil {
							t.Fatal(err)
						}
						if err := s.Close(); err != nil {
							t.Fatal(err)
						}
					}
					fsys := vfstest.NewFailing(vfs.OS())
					s, a, err := at(dir, mode.small, fsys, now)
					if err != nil {
						t.Fatal(err)
					}
					fsys.FailAt(n, when, syscall.EIO)
					_, err = put(a, "x", body("y", 30))
					hit = fsys.Hit()
					_ = s.Close() // what failed may show again
					s, a, openErr := at(dir, mode.small, vfs.OS(), now)
					if openErr != nil {
						t.Fatal(openErr)
					}
					defer s.Close()
					if got, getErr := get(a, "x"); getErr != nil || got != body("y", 30) && (err == nil || got != body("x", 30)) {
						t.Errorf("x is %.5q, %v; acknowledged: %v", got, getErr, err == nil)
					}
					for _, row := range trash(t, a.Repository()) {
						if row.Key == "protected" {
							if _, err := a.Repository().Restore(ctx, row.ID, ""); err != nil {
								t.Error(err)
							}
						}
					}
					wantContent(t, a, "protected", body("k", 30))
					checkAll(t, s)
				})
			}
		}
	}
}

// What is restored in place of another item takes from the trash what it adds: a trash that is beyond its bound does not keep it.
func TestRestoreInPlaceFromAFullTrash(t *testing.T) {
	a, _ := newTrash(t, "test", 100, 10)
	mustPut(t, a, "x", body("x", 90))
	if err := a.Delete(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	mustPut(t, a, "x", "other")
	done, err := a.Repository().RestoreMany(ctx, repo.RestoreSelection{Prefix: "x", Replace: true})
	if err != nil || done.Items != 1 {
		t.Errorf("got %+v, %v", done, err)
	}
	wantContent(t, a, "x", body("x", 90))
}

// TestCeilingKeepsTheTrashOfOthers: a principal with a quota of its own that is smaller than the repository's is refused what the trash has no
// space for within that. What it has stored itself gives way before, and nothing of what others have.
func TestCeilingKeepsTheTrashOfOthers(t *testing.T) {
	a, clock := newTrash(t, "test", 1000, 0)
	r := a.Repository()
	ceiling := int64(100)
	bounded := r.As(repo.Principal{Name: "bounded", Ceiling: &ceiling})
	mustPut(t, bounded, "x", "x")
	mustPut(t, bounded, "own", body("o", 10))
	mustPut(t, a, "others", body("x", 300))
	for _, key := range []string{"own", "others"} {
		if err := a.Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
	}
	clock.Advance(72 * time.Hour)
	_, err := put(bounded, "x", "y")
	refusedForTrash(t, "an overwrite", err)
	_, err = put(bounded, "y", body("y", 90))
	refusedForTrash(t, "a new item", err)
	_, err = put(bounded, "x", "y")
	refusedForTrash(t, "another overwrite", err)
	rows := trash(t, r)
	if len(rows) != 1 || rows[0].Key != "others" {
		t.Errorf("got %+v, want what others have stored", rows)
	}
	mustPut(t, a, "x", "y")
	// Without the others its own makes the space that it needs.
	if _, err := r.EmptyTrash(ctx, clock.Now()); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		clock.Advance(49 * time.Hour)
		mustPut(t, bounded, "z", body("z", 60))
	}
}
