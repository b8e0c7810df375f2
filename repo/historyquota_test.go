package repo_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"packhouse/index"
	"packhouse/repo"
)

// addChanges makes a history of so many charges more, by moves of an item from one long key to another, without a bound.
func addChanges(t *testing.T, a *repo.Access, now time.Time, charges int64) {
	t.Helper()
	x := repo.IndexOf(a.Repository())
	keys := [2]string{strings.Repeat("a", 1024), strings.Repeat("b", 1024)}
	if _, err := x.Apply(ctx, index.Put{Key: keys[0], Item: index.Item{Size: 1, BLAKE3: blake3.Sum256([]byte("x"))}, Payload: []byte("x"), Limit: -1, Now: now}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := x.Apply(ctx, index.Delete{Key: keys[0], Now: now, TrashUntil: now}); err != nil {
			t.Fatal(err)
		}
	}()
	began, err := x.HistoryCharges()
	if err != nil {
		t.Fatal(err)
	}
	cause := &index.Cause{Principal: "alice", Job: strings.Repeat("j", 1024)}
	for n := began; n-began < charges; {
		var muts []index.Mutation
		for i := range 100 {
			muts = append(muts, index.Move{From: keys[i%2], To: keys[1-i%2], Limit: -1, Now: now, Cause: cause})
		}
		if _, err := x.Apply(ctx, muts...); err != nil {
			t.Fatal(err)
		}
		if n, err = x.HistoryCharges(); err != nil {
			t.Fatal(err)
		}
	}
}

func refusedForHistory(t *testing.T, what string, err error) {
	t.Helper()
	var full *repo.HistoryError
	if !errors.As(err, &full) || !errors.Is(err, repo.ErrQuota) || full.Charges < full.Limit {
		t.Errorf("%s: got %v, want a HistoryError", what, err)
	}
}

// historyBound is that of a repository with small quotas, beside what items and directories cost.
const historyBound = 16 << 10

// TestHistoryHasABound: who makes changes that leave nothing in the trash cannot make the history grow without end. What is not refused is
// what removes, locks and, for some more, what completes and moves. When the rows are older than the protected time the oldest go, no more
// than needed, and the repository says that the history begins later.
func TestHistoryHasABound(t *testing.T) {
	a, clock := newTrash(t, "borgstore", 10_000, 0)
	r := a.Repository()
	mustPut(t, a, "packs/old", "old")
	mustPut(t, a, "config/manifest", "m")
	since, err := r.HistorySince()
	if err != nil {
		t.Fatal(err)
	}
	clock.Advance(time.Hour)
	first := clock.Now()
	addChanges(t, a, first, historyBound)
	_, err = put(a, "packs/new", "new")
	refusedForHistory(t, "a new item", err)
	_, err = put(a, "packs/old", "other")
	refusedForHistory(t, "an overwrite", err)
	mustPut(t, a, "config/manifest", "completes")
	mustPut(t, a, "locks/l", "a lock")
	if err := errors.Join(a.Move(ctx, "packs/old", "packs/old.del"), a.Delete(ctx, "packs/old.del"), a.Delete(ctx, "locks/l")); err != nil {
		t.Error(err)
	}
	if short := r.Short(); len(short) != 1 || short[0].Of != repo.ShortQuota {
		t.Errorf("short: got %+v", short)
	}

	addChanges(t, a, clock.Now(), historyBound)
	for range 200 {
		_, err = put(a, "config/manifest", "again and again")
	}
	refusedForHistory(t, "what completes, again and again", err)
	refusedForHistory(t, "a move", a.Move(ctx, "config/manifest", "config/other"))
	mustPut(t, a, "locks/l", "a lock")
	for _, row := range trash(t, r) {
		if row.Key == "packs/old.del" {
			if _, err := r.Restore(ctx, row.ID, ""); err != nil {
				t.Errorf("a restore: %v", err)
			}
		}
	}
	if err := a.Delete(ctx, "config/manifest"); err != nil {
		t.Errorf("a deletion: %v", err)
	}
	if now, err := r.HistorySince(); err != nil || !now.Equal(since) {
		t.Errorf("the history begins at %s (%v), want %s: nothing of the protected time is forgotten", now, err, since)
	}

	clock.Advance(47 * time.Hour)
	_, err = put(a, "packs/new", "new")
	refusedForHistory(t, "while the rows are protected", err)
	clock.Advance(2 * time.Hour)
	mustPut(t, a, "packs/new", "new")
	x := repo.IndexOf(r)
	charges, err := x.HistoryCharges()
	if most := historyBound + x.Charges(); err != nil || charges > most || charges < most-2000*index.MaxChangeCharge {
		t.Errorf("the history has %d charges (%v), want no more than %d and not much less", charges, err, most)
	}
	begins, err := r.HistorySince()
	oldest, _, oldestErr := x.OldestChange()
	if err := errors.Join(err, oldestErr); err != nil || !begins.After(first) || begins.After(clock.Now().Add(-48*time.Hour)) || oldest.At.Before(first) {
		t.Errorf("the history begins at %s (%v), the oldest row is of %s", begins, err, oldest.At)
	}
	if _, err := r.PlanRollback(ctx, repo.RollbackRequest{To: first.Add(-time.Minute)}); !errors.Is(err, repo.ErrInvalid) {
		t.Errorf("a rollback to before the history: got %v", err)
	}
	if _, err := r.PlanRollback(ctx, repo.RollbackRequest{To: begins}); err != nil {
		t.Errorf("a rollback to where it begins: %v", err)
	}
	if err := repo.ForgetChanges(r); err != nil {
		t.Fatal(err)
	}
	if now, err := r.HistorySince(); err != nil || now.Before(begins) {
		t.Errorf("the history begins at %s (%v), and did at %s", now, err, begins)
	}
}

// TestHistoryOfManyItems: as many items as the quota admits are not refused because of the history.
func TestHistoryOfManyItems(t *testing.T) {
	a, clock := newTrash(t, "test", 10_000, 0)
	addChanges(t, a, clock.Now(), historyBound-1000)
	for i := range 2000 {
		mustPut(t, a, fmt.Sprint("packs/", i), "x")
	}
}

// TestHistoryBoundOfACeiling: a principal with a quota of its own is refused what is beyond that, and nothing is forgotten because of it.
func TestHistoryBoundOfACeiling(t *testing.T) {
	a, clock := newTrash(t, "test", 1<<30, 0)
	r := a.Repository()
	ceiling := int64(10_000)
	bounded := r.As(repo.Principal{Name: "bounded", Ceiling: &ceiling})
	addChanges(t, a, clock.Now(), historyBound)
	clock.Advance(72 * time.Hour)
	before := r.Usage().Changes
	_, err := put(bounded, "packs/x", "x")
	refusedForHistory(t, "of who has a quota", err)
	mustPut(t, a, "packs/x", "x")
	if now := r.Usage().Changes; now != before+1 {
		t.Errorf("%d changes are recorded, want %d", now, before+1)
	}
}

// TestHistoryWithoutABound: where there is no quota, or nothing is recorded, nothing is refused.
func TestHistoryWithoutABound(t *testing.T) {
	a, clock := newTrash(t, "test", -1, -1)
	addChanges(t, a, clock.Now(), historyBound)
	mustPut(t, a, "packs/x", "x")
	a, clock = newTrash(t, "test", 10_000, 0)
	addChanges(t, a, clock.Now(), historyBound)
	a.Repository().Configure(repo.Settings{Quota: 10_000})
	mustPut(t, a, "packs/x", "x")
}
