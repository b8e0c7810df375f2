package repo_test

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// kinds are the recorded changes as kind, key and principal.
func kinds(t *testing.T, r *repo.Repository) (all []string) {
	t.Helper()
	err := r.Changes(ctx, func(c index.Change) error {
		all = append(all, c.Kind.String()+" "+c.Key+" "+c.Cause.Principal+"@"+c.Cause.Address)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func wantKinds(t *testing.T, what string, r *repo.Repository, want []string) {
	t.Helper()
	if got := kinds(t, r); !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// Who changed what is recorded for the grace time, and then forgotten.
func TestHistoryIsKeptForTheGrace(t *testing.T) {
	now := new(atomic.Int64)
	now.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	a := newAccess(t, func(o *datadir.Options) {
		o.Now = func() time.Time { return time.Unix(0, now.Load()) }
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: time.Hour} }
	})
	r := a.Repository()
	a = r.As(repo.Principal{Name: "alice", Address: "192.0.2.1"})
	mustPut(t, a, "packs/a", "one")
	mustPut(t, a, "packs/a", "two")
	mustPut(t, a, "locks/l", "a lock")
	now.Add(int64(30 * time.Minute))
	if err := errors.Join(a.Move(ctx, "packs/a", "packs/b"), a.Delete(ctx, "packs/b"), a.Delete(ctx, "locks/l")); err != nil {
		t.Fatal(err)
	}
	rows := trash(t, r)
	if _, err := r.Restore(ctx, rows[len(rows)-1].ID, ""); err != nil {
		t.Fatal(err)
	}
	late := []string{"move packs/b alice@192.0.2.1", "delete packs/b alice@192.0.2.1", "restore packs/b @"}
	wantKinds(t, "history", r, append([]string{"store packs/a alice@192.0.2.1", "overwrite packs/a alice@192.0.2.1"}, late...))

	now.Add(int64(45 * time.Minute))
	if err := repo.ForgetChanges(r); err != nil {
		t.Fatal(err)
	}
	wantKinds(t, "history an hour after the first changes", r, late)

	// A grace time of none forgets all, and records nothing.
	r.Configure(repo.Settings{Quota: -1})
	mustPut(t, a, "packs/c", "three")
	if err := repo.ForgetChanges(r); err != nil {
		t.Fatal(err)
	}
	wantKinds(t, "history without a grace time", r, nil)
}
