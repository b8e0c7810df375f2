package repo_test

import (
	"errors"
	"strings"
	"testing"

	"packhouse/repo"
	"packhouse/repo/datadir"
)

// upload finishes a blob of that size for key, under a plan's reservation.
func upload(t *testing.T, a *repo.Access, key string, size int, reservation *repo.PlanReservation) *repo.Upload {
	t.Helper()
	u, err := a.NewUpload(ctx, repo.UploadOptions{Key: key, Size: int64(size), Reservation: reservation})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Discard)
	if _, err := u.Write([]byte(strings.Repeat("n", size))); err != nil {
		t.Fatal(err)
	}
	if err := u.Finish(ctx, key, repo.Verified{}); err != nil {
		t.Fatal(err)
	}
	return u
}

// A repository above its limit gets below it again by pruning and compacting: a plan that adds nothing is not refused.
func TestPlanThatShrinksAboveTheQuota(t *testing.T) {
	a := newAccess(t, nil)
	mustPut(t, a, "packs/a", strings.Repeat("x", 100))
	mustPut(t, a, "packs/b", strings.Repeat("x", 100))
	if err := a.Repository().SetQuota(ctx, 50); err != nil {
		t.Fatal(err)
	}
	reservation, err := a.Reserve(-20, 80, true)
	if err != nil {
		t.Fatalf("reserve for a plan that shrinks: %v", err)
	}
	defer reservation.Release()
	u := upload(t, a, "packs/c", 80, reservation)
	batch := repo.Batch{Puts: []repo.BatchPut{{Upload: u}}, Deletes: []repo.BatchDelete{{Key: "packs/a"}}, Reservation: reservation}
	if _, err := a.Commit(ctx, batch); err != nil {
		t.Fatal(err)
	}
	if u := a.Repository().Usage(); u.Used != 180 || u.Reserved != 0 {
		t.Errorf("usage: %+v", u)
	}
	if _, err := a.Reserve(1, 1, true); !errors.Is(err, repo.ErrQuota) {
		t.Errorf("reserve for a plan that grows: got %v, want ErrQuota", err)
	}
	// What was deleted by somebody else meanwhile is no space for the plan.
	if reservation, err = a.Reserve(0, 100, true); err != nil {
		t.Fatal(err)
	}
	defer reservation.Release()
	u = upload(t, a, "packs/d", 101, reservation)
	batch = repo.Batch{
		Puts: []repo.BatchPut{{Upload: u}}, Deletes: []repo.BatchDelete{{Key: "packs/gone", IgnoreMissing: true}}, Reservation: reservation,
	}
	if _, err := a.Commit(ctx, batch); !errors.Is(err, repo.ErrQuota) {
		t.Errorf("plan that grows after all: got %v, want ErrQuota", err)
	}
}

// A batch is held against the limit as a whole: not after each of its items.
func TestBatchMeetsTheQuotaAsAWhole(t *testing.T) {
	a := newAccess(t, func(o *datadir.Options) {
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: 200} }
	})
	mustPut(t, a, "b", strings.Repeat("x", 200))
	reservation, err := a.Reserve(0, 200, true)
	if err != nil {
		t.Fatal(err)
	}
	defer reservation.Release()
	batch := repo.Batch{Puts: []repo.BatchPut{
		{Upload: upload(t, a, "a", 100, reservation)}, {Upload: upload(t, a, "b", 100, reservation)},
	}, Reservation: reservation}
	if _, err := a.Commit(ctx, batch); err != nil {
		t.Fatal(err)
	}
	if u := a.Repository().Usage(); u.Used != 200 || u.Items != 2 {
		t.Errorf("usage: %+v", u)
	}
}

// No key gets into the index by way of a batch that would not get there by a put.
func TestBatchKeysAreChecked(t *testing.T) {
	a := newAccess(t, nil)
	u := upload(t, a, "packs/./x", 1, nil)
	if _, err := a.Commit(ctx, repo.Batch{Puts: []repo.BatchPut{{Upload: u}}}); !errors.Is(err, repo.ErrInvalid) {
		t.Errorf("put: got %v, want ErrInvalid", err)
	}
	if _, err := a.Commit(ctx, repo.Batch{Deletes: []repo.BatchDelete{{Key: "packs/../x"}}}); !errors.Is(err, repo.ErrInvalid) {
		t.Errorf("delete: got %v, want ErrInvalid", err)
	}
}
