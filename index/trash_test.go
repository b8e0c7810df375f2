package index_test

import (
	"testing"
	"time"

	"packhouse/index"
)

func trashOf(t testing.TB, x *index.Index, before time.Time) []index.Removed {
	t.Helper()
	var rows []index.Removed
	if err := x.Trash(before, func(r index.Removed) error { rows = append(rows, r); return nil }); err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestDeleteRestorePurge(t *testing.T) {
	x := create(t)
	apply(t, x, put("a/x", 5), put("y", 3))
	original, _ := x.Get("a/x")
	if _, ok, err := x.NextExpiry(); ok || err != nil {
		t.Errorf("next expiry of an empty trash: got %v, %v", ok, err)
	}

	removed, expires := clock.Add(time.Hour), clock.Add(2*time.Hour)
	r := apply(t, x, index.Delete{Key: "a/x", Now: removed, TrashUntil: expires})[0]
	equal(t, "previous", r.Previous, &original.Item)
	want := index.Removed{ID: r.TrashID, Key: "a/x", Item: original.Item, At: removed, Expires: expires}
	equal(t, "trash", trashOf(t, x, time.Time{}), []index.Removed{want})
	equal(t, "trash that expires before then", len(trashOf(t, x, expires)), 0)
	equal(t, "trash that expires before later", len(trashOf(t, x, expires.Add(1))), 1)
	if at, ok, err := x.NextExpiry(); !ok || err != nil || !at.Equal(expires) {
		t.Errorf("next expiry: got %v, %v, %v, want %v", at, ok, err, expires)
	}
	equal(t, "counters", x.Counters(), index.Counters{Items: 1, Bytes: 3, TrashItems: 1, TrashBytes: 5})
	if key, ok, err := x.HasRef("ref-a/x"); key != "a/x" || !ok || err != nil {
		t.Errorf("ref in the trash: got %q, %v, %v", key, ok, err)
	}
	refuse(t, x, index.ErrRefUsed, 0, putRef("z", "ref-a/x", 1))

	// All that may stand in the way of a restore.
	refuse(t, x, index.ErrQuota, 0, index.Restore{ID: r.TrashID, Limit: 7, Now: clock})
	refuse(t, x, index.ErrNotDir, 0, index.Restore{ID: r.TrashID, Key: "y/x", Limit: -1, Now: clock})
	refuse(t, x, index.ErrExists, 0, index.Restore{ID: r.TrashID, Key: "y", Limit: -1, Now: clock})
	apply(t, x, put("dir/item", 0))
	refuse(t, x, index.ErrIsDir, 0, index.Restore{ID: r.TrashID, Key: "dir", Limit: -1, Now: clock})
	apply(t, x, index.PurgeTrash{IDs: []string{apply(t, x, index.Delete{Key: "dir/item"})[0].TrashID}})
	refuse(t, x, index.ErrInvalid, 0, index.Restore{ID: r.TrashID, Key: "a/", Limit: -1, Now: clock})

	apply(t, x, index.RemoveDir{Key: "a"})
	restored := apply(t, x, index.Restore{ID: r.TrashID, Limit: 8, Now: clock})[0]
	equal(t, "restored", restored, index.Result{Moved: &original.Item})
	got, err := x.Get("a/x")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "item", got, original)
	refuse(t, x, index.ErrNotFound, 0, index.Restore{ID: r.TrashID, Limit: -1, Now: clock})

	second := apply(t, x, index.Delete{Key: "a/x", Now: removed, TrashUntil: expires})[0]
	if second.TrashID == r.TrashID {
		t.Error("a trash ID was used twice")
	}
	elsewhere := apply(t, x, index.Restore{ID: second.TrashID, Key: "b/c/z", Limit: -1, Now: clock})[0]
	equal(t, "restored elsewhere", elsewhere.Moved.Ref, "ref-a/x")
	third := apply(t, x, index.Delete{Key: "b/c/z", Now: removed, TrashUntil: expires})[0]
	apply(t, x, index.PurgeTrash{IDs: []string{"unknown", third.TrashID, third.TrashID}})
	equal(t, "counters", x.Counters(), index.Counters{Items: 1, Bytes: 3})
	if _, ok, err := x.HasRef("ref-a/x"); ok || err != nil {
		t.Errorf("purged ref: got %v, %v", ok, err)
	}
	apply(t, x, putRef("z", "ref-a/x", 1))
}

// An expiry before 1970, as the zero time, is one that is over.
func TestTrashOfZeroTime(t *testing.T) {
	x := create(t)
	apply(t, x, put("a", 1), put("b", 1), index.Delete{Key: "a", TrashUntil: clock}, index.Delete{Key: "b"})
	rows := trashOf(t, x, time.Unix(1, 0))
	if len(rows) != 1 || rows[0].Key != "b" || !rows[0].Expires.Equal(time.Unix(0, 0)) {
		t.Errorf("got %+v, want b, expired in 1970", rows)
	}
}

// What would put more into the trash than it may hold is refused, or, where it may not be, expires at once if it is young.
func TestTrashBound(t *testing.T) {
	x := create(t)
	until := clock.Add(time.Hour)
	old := put("old", 4)
	old.Now = clock.Add(-time.Hour)
	apply(t, x, put("a", 6), put("b", 5), put("c", 5), old)
	replace := func(key string, bound *index.TrashBound) index.Mutation {
		m := putRef(key, "new-"+key, 1)
		m.TrashUntil, m.TrashBound = until, bound
		return m
	}
	bound := &index.TrashBound{Bytes: 10}
	apply(t, x, replace("a", bound))
	before := everything(t, x)
	refuse(t, x, index.ErrTrash, 0, replace("b", bound))
	refuse(t, x, index.ErrQuota, 0, replace("b", bound))
	refuse(t, x, index.ErrTrash, 0, index.Move{From: "a", To: "b", Now: clock, TrashUntil: until, TrashBound: bound})
	refuse(t, x, index.ErrTrash, 1, replace("old", bound), replace("b", bound))
	equal(t, "after what was refused", everything(t, x), before)

	spare := &index.TrashBound{Bytes: 10, Spare: clock}
	kept := func(key string, r index.Result) bool {
		t.Helper()
		removed, err := x.Removed(r.TrashID)
		if err != nil {
			t.Fatal(err)
		}
		return removed.Expires.Equal(until)
	}
	if kept("b", apply(t, x, replace("b", spare))[0]) {
		t.Error("a young item beyond the bound is kept")
	}
	if !kept("old", apply(t, x, index.Delete{Key: "old", Now: clock, TrashUntil: until, TrashBound: spare})[0]) {
		t.Error("an old item beyond the bound is not kept")
	}
	if !kept("c", apply(t, x, index.Delete{Key: "c", Now: clock, TrashUntil: until})[0]) {
		t.Error("an item without a bound is not kept")
	}
	m := replace("a", bound).(index.Put)
	m.Item.Ref, m.TrashUntil = "newest-a", clock // it expires at once anyway
	apply(t, x, m)
}
