package repo_test

import (
	"testing"
	"time"

	"packhouse/index"
	"packhouse/repo"
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
