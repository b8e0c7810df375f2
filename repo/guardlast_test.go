package repo_test

import (
	"testing"
	"time"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// A snapshot that is removed between the looks at the items and at the trash is seen twice: it takes the place of no other.
func TestASnapshotSeenTwiceCountsOnce(t *testing.T) {
	seen := func(key string, came, removed int64) index.Removed {
		s := index.Removed{Key: key, Item: index.Item{Ref: key, Modified: time.UnixMilli(came)}}
		if removed != 0 {
			s.At = time.UnixMilli(removed)
		}
		return s
	}
	rows := []index.Removed{seen("a", 30, 0), seen("b", 20, 0), seen("old", 5, 0), seen("c", 10, 40), seen("old", 5, 41), seen("a", 30, 50), seen("b", 20, 51)}
	if got := repo.FirstOfTheLast(3, rows); got != "c" {
		t.Errorf("the first that was removed of the last three is %q, want c", got)
	}
	if got := repo.FirstOfTheLast(2, rows); got != "a" {
		t.Errorf("of the last two: %q, want a", got)
	}
	if got := repo.FirstOfTheLast(3, rows[:3]); got != "" {
		t.Errorf("of those that are there: %q, want none", got)
	}
}

// A look at all snapshots and the trash that took long is not repeated at once by whoever asks again.
func TestLongLooksAreNotRepeated(t *testing.T) {
	clock, slow := newClock(), time.Duration(0)
	a := newDialect(t, "borgstore", func(o *datadir.Options) {
		o.Now = func() time.Time { clock.Advance(slow); return clock.Now() }
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Guard: repo.Guard{KeepLast: 1}} }
	})
	held := func() bool {
		since, err := a.Repository().HeldSince(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return !since.IsZero()
	}
	mustPut(t, a, "archives/a", "")
	clock.Advance(time.Hour)
	slow = time.Minute
	if held() {
		t.Error("held although nothing was removed")
	}
	slow = 0
	if err := a.Delete(ctx, "archives/a"); err != nil {
		t.Fatal(err)
	}
	clock.Advance(2 * time.Minute)
	if held() {
		t.Error("another look two minutes after one that took a minute")
	}
	clock.Advance(time.Hour)
	if !held() {
		t.Error("no look an hour later")
	}
}
