package repo_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"packhouse/repo"
	"packhouse/repo/datadir"
)

// TestRestoreMany: what is selected comes back, of each key what was removed last, and what has a key now stays unless it is to be replaced.
func TestRestoreMany(t *testing.T) {
	clock := fixedClock(time.UnixMilli(1_790_000_000_000))
	s := newSet(t, func(o *datadir.Options) { withHistory(clock.Now)(o); o.TableMemory = 200 })
	r := create(t, s, "r")
	alice, bob := r.As(repo.Principal{Name: "alice"}), r.As(repo.Principal{Name: "bob"})
	remove := func(a *repo.Access, key string) {
		t.Helper()
		clock.Advance(time.Minute)
		if err := a.Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
	}
	mustPut(t, alice, "index/a", "old")
	remove(alice, "index/a")
	mustPut(t, alice, "index/a", "a")
	mustPut(t, bob, "index/b", "b")
	mustPut(t, bob, "packs/c", "c")
	mustPut(t, bob, "index/d", "d")
	remove(alice, "index/a")
	remove(alice, "packs/c")
	clock.Advance(time.Minute)
	since := clock.Now()
	remove(alice, "index/b")
	remove(alice, "index/d")
	mustPut(t, alice, "index/d", "new")
	mustPut(t, alice, "locks/l", "lock")
	remove(alice, "locks/l")
	restore := func(what string, sel repo.RestoreSelection, items, skipped int64, want map[string]string) {
		t.Helper()
		clock.Advance(time.Minute)
		done, err := r.RestoreMany(ctx, sel)
		if err != nil || done.Items != items || done.Skipped != skipped || len(done.Failed) > 0 {
			t.Errorf("%s: got %+v, %v; want %d items, %d skipped", what, done, err, items, skipped)
		}
		wantContents(t, what, alice, want)
	}
	restore("nothing", repo.RestoreSelection{IDs: []string{"x"}}, 0, 0, map[string]string{"index/d": "new"})
	restore("since", repo.RestoreSelection{Since: since}, 1, 1, map[string]string{"index/d": "new", "index/b": "b"})
	name := "alice"
	restore("of one", repo.RestoreSelection{Principal: &name}, 1, 0, map[string]string{"index/d": "new", "index/b": "b", "index/a": "a"})
	restore("in place", repo.RestoreSelection{Prefix: "index/d", Replace: true}, 1, 0, map[string]string{"index/d": "d", "index/b": "b", "index/a": "a"})
	var ids []string
	for _, row := range trash(t, r) {
		ids = append(ids, row.ID)
	}
	restore("by IDs", repo.RestoreSelection{IDs: ids}, 1, 2, map[string]string{"index/d": "d", "index/b": "b", "index/a": "a", "packs/c": "c"})
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := r.RestoreMany(canceled, repo.RestoreSelection{Prefix: "i"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	checkAll(t, s)
	if fmt.Sprint(ids) == "[]" {
		t.Error("the trash was empty")
	}
}
