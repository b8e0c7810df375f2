package index_test

import (
	"strings"
	"testing"

	"packhouse/index"
)

// Items and directories are charged, whatever their sizes, and long keys more.
func TestCharges(t *testing.T) {
	x := create(t)
	want := func(what string, n int64) {
		t.Helper()
		equal(t, what, x.Charges(), n)
		checkWhole(t, x)
	}
	apply(t, x, put("a/b/c", 0))
	want("an item in two directories", 3)
	apply(t, x, putRef("a/b/c", "again", 5))
	want("overwritten", 3)
	apply(t, x, index.MakeDir{Key: "d/e", Now: clock}, index.MakeDir{Key: "d/e", Now: clock})
	want("two more", 5)
	exempt := put("locks/l", 3)
	exempt.Exempt = true
	apply(t, x, exempt)
	want("an exempt item, and its directory", 6)
	apply(t, x, index.Move{From: "locks/l", To: "l", Limit: -1, Now: clock})
	want("exempt no more", 7)
	apply(t, x, putRef(strings.Repeat("k", 1030), "long", 0))
	want("a long key", 10)
	id := apply(t, x, index.Delete{Key: "a/b/c", Now: clock, TrashUntil: clock.Add(1e9)})[0].TrashID
	want("removed", 9)
	apply(t, x, index.RemoveDir{Key: "a/b"})
	want("and its directory", 8)
	apply(t, x, index.Restore{ID: id, Limit: -1, Now: clock})
	want("restored", 10)
	apply(t, x, index.Delete{Key: "l", Keep: true, Now: clock, TrashUntil: clock.Add(1e9)})
	want("kept", 9)
	apply(t, x, index.ReturnKept{Key: "l", Now: clock})
	want("back", 10)
	refuse(t, x, index.ErrExists, 1, put("n/n/n", 0), index.Put{Key: "l", IfAbsent: true, Item: index.Item{Ref: "x"}, Limit: -1})
	want("a group that failed", 10)
}

// Charges beyond their limit are refused, but not to who adds none, takes a lock or completes an operation.
func TestChargesLimit(t *testing.T) {
	x := create(t)
	class := index.CommitClass{Keys: []string{"manifest"}, Dirs: []string{"index", "locks", "sessions"}}
	limited := func(key string, change func(*index.Put)) index.Put {
		m := put(key, 0)
		m.MaxCharges = 5
		if change != nil {
			change(&m)
		}
		return m
	}
	exempt := func(m *index.Put) { m.Exempt = true }
	commit := func(m *index.Put) { m.Commit = &class }
	apply(t, x, limited("a/1", nil), limited("a/2", nil), limited("a/3", nil), limited("b", nil))
	refuse(t, x, index.ErrCharges, 0, limited("c", nil))
	refuse(t, x, index.ErrQuota, 0, limited("c", nil))
	refuse(t, x, index.ErrCharges, 0, index.MakeDir{Key: "d", MaxCharges: 5, Now: clock})
	refuse(t, x, index.ErrCharges, 0, index.Move{From: "b", To: "d/b", Limit: -1, MaxCharges: 5, Now: clock})
	apply(t, x, index.Move{From: "b", To: "c", Limit: -1, MaxCharges: 5, Now: clock})
	apply(t, x, index.MakeDir{Key: "a", MaxCharges: 5, Now: clock})
	apply(t, x, limited("c", func(m *index.Put) { m.Item.Ref = "overwritten" }))
	apply(t, x, index.Delete{Key: "a/1", Now: clock}, limited("a/4", nil))
	id := apply(t, x, index.Delete{Key: "c", Now: clock, TrashUntil: clock.Add(1e9)}, limited("a/5", nil))[0].TrashID
	refuse(t, x, index.ErrCharges, 0, index.Restore{ID: id, Limit: -1, MaxCharges: 5, Now: clock})

	apply(t, x, limited("locks/l", exempt), limited("index/i", commit), limited("manifest", commit))
	refuse(t, x, index.ErrCharges, 0, limited("locks/x/l", exempt))
	refuse(t, x, index.ErrCharges, 0, limited("index/x/i", commit))
	refuse(t, x, index.ErrCharges, 0, limited("c", nil))
	checkWhole(t, x)
}

// An index of an older format has no charges. They are counted when it is opened, with what the log alone has.
func TestChargesOfOlderFormats(t *testing.T) {
	for _, old := range oldFormats() {
		want := create(t)
		apply(t, want, old.group...)
		path := old.writeTo(t, t.TempDir())
		for range 2 { // they are not stored by opening it
			x := mustOpen(t, path, index.Options{})
			equal(t, old.name, x.Charges(), want.Charges())
			mustClose(t, x)
		}
		x := mustOpen(t, path, index.Options{})
		apply(t, x, put("one/more", 1))
		equal(t, old.name+", changed", x.Charges(), want.Charges()+2)
		mustClose(t, x)
		x = open(t, path, index.Options{})
		equal(t, old.name+", opened again", x.Charges(), want.Charges()+2)
		checkWhole(t, x)
	}
}
