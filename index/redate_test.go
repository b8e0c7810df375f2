package index_test

import (
	"testing"
	"time"

	"packhouse/index"
)

// TestRedate: what was removed while the clock was a year ahead expires as long after the correction as it would have. What was
// removed before it, and what may expire so late, stays as it is.
func TestRedate(t *testing.T) {
	x := create(t)
	ahead := clock.Add(365 * 24 * time.Hour)
	apply(t, x, put("a", 1), put("b", 2), put("c", 3), put("d", 4), put("e", 5))
	apply(t, x,
		index.Delete{Key: "a", Now: clock.Add(-time.Hour), TrashUntil: ahead.Add(time.Hour)}, // of a long grace time
		index.Delete{Key: "b", Now: ahead, TrashUntil: ahead.Add(time.Hour)},
		index.Delete{Key: "c", Now: ahead, TrashUntil: ahead.Add(2 * time.Hour), Keep: true, By: "bob"},
		index.Delete{Key: "d", Now: clock.Add(time.Minute), TrashUntil: clock.Add(time.Hour)}, // soon enough
	)
	before := x.Counters()
	redate := func(most int) int64 {
		return apply(t, x, index.Redate{Now: clock, Beyond: clock.Add(24 * time.Hour), Most: most})[0].Items
	}
	if n := redate(1); n != 1 {
		t.Errorf("one at most: %d rows", n)
	}
	if n := redate(100); n != 1 {
		t.Errorf("the rest: %d rows, want 1", n)
	}
	if n := redate(100); n != 0 {
		t.Errorf("again: %d rows, want none", n)
	}
	want := map[string]time.Time{"a": ahead.Add(time.Hour), "b": clock.Add(time.Hour), "d": clock.Add(time.Hour)}
	for _, r := range trashOf(t, x, time.Time{}) {
		if !r.Expires.Equal(want[r.Key]) || r.Key == "b" && !r.At.Equal(clock) {
			t.Errorf("%s was removed at %v and expires at %v, want %v", r.Key, r.At, r.Expires, want[r.Key])
		}
		delete(want, r.Key)
	}
	if len(want) > 0 {
		t.Errorf("not in the trash: %v", want)
	}
	if kept, err := x.Kept("c"); err != nil || !kept.At.Equal(clock) || !kept.Expires.Equal(clock.Add(2*time.Hour)) || kept.By != "bob" {
		t.Errorf("kept: %+v, %v", kept, err)
	}
	equal(t, "counters", x.Counters(), before)
}
