package index_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"packhouse/index"
)

var background = context.Background()

// TestPreconditions applies one group to the same small tree: a directory d
// with item d/a and empty directory d/e, an item x, both with known refs, and a directory n with
// no item below it.
func TestPreconditions(t *testing.T) {
	long := strings.Repeat("k", 4097)
	item := func(change func(*index.Item)) index.Put {
		p := put("new", 1)
		change(&p.Item)
		return p
	}
	tests := []struct {
		name string
		mut  index.Mutation
		want error // nil: it succeeds
	}{
		{"put new", put("d/b", 1), nil},
		{"put over", putRef("d/a", "r2", 1), nil},
		{"put at directory", put("d", 1), index.ErrIsDir},
		{"put at empty directory", put("d/e", 1), nil},
		{"put at directories without items", put("n", 1), nil},
		{"put below item", put("x/y", 1), index.ErrNotDir},
		{"put far below item", put("x/y/z", 1), index.ErrNotDir},
		{"put if absent, present", index.Put{Key: "x", Item: index.Item{Ref: "r2"}, IfAbsent: true, Limit: -1}, index.ErrExists},
		{"put if absent, absent", index.Put{Key: "y", Item: index.Item{Ref: "r2"}, IfAbsent: true, Limit: -1}, nil},
		{"put if absent, directory", index.Put{Key: "d", Item: index.Item{Ref: "r2"}, IfAbsent: true, Limit: -1}, index.ErrIsDir},
		{"put if ref, same", index.Put{Key: "x", Item: index.Item{Ref: "r2"}, IfRef: "ref-x", Limit: -1}, nil},
		{"put if ref, other", index.Put{Key: "x", Item: index.Item{Ref: "r2"}, IfRef: "r3", Limit: -1}, index.ErrConflict},
		{"put if ref, absent", index.Put{Key: "y", Item: index.Item{Ref: "r2"}, IfRef: "ref-x", Limit: -1}, index.ErrConflict},
		{"put ref of another item", putRef("y", "ref-x", 1), index.ErrRefUsed},
		{"put ref of the item itself", putRef("x", "ref-x", 1), index.ErrRefUsed},
		{"put at limit", index.Put{Key: "y", Item: index.Item{Ref: "r2", Size: 5}, Limit: 20}, nil},
		{"put over limit", index.Put{Key: "y", Item: index.Item{Ref: "r2", Size: 6}, Limit: 20}, index.ErrQuota},
		{"put that shrinks, still over limit", index.Put{Key: "x", Item: index.Item{Ref: "r2", Size: 4}, Limit: 8}, nil},
		{"put that shrinks to the limit", index.Put{Key: "x", Item: index.Item{Ref: "r2", Size: 4}, Limit: 9}, nil},
		{"put of the same size over limit", index.Put{Key: "x", Item: index.Item{Ref: "r2", Size: 10}, Limit: 8}, nil},
		{"put that grows over limit", index.Put{Key: "x", Item: index.Item{Ref: "r2", Size: 11}, Limit: 8}, index.ErrQuota},
		{"put of nothing over limit", index.Put{Key: "y", Item: index.Item{Ref: "r2"}, Limit: 8}, nil},
		{"put exempt over limit", index.Put{Key: "y", Item: index.Item{Ref: "r2", Size: 99}, Limit: 20, Exempt: true}, nil},
		{"put more than can be counted", item(func(i *index.Item) { i.Size = math.MaxInt64 }), index.ErrQuota},
		{"put negative size", item(func(i *index.Item) { i.Size = -1 }), index.ErrInvalid},
		{"put without ref", item(func(i *index.Item) { i.Ref = "" }), index.ErrInvalid},
		{"put long ref", item(func(i *index.Item) { i.Ref = long[:65] }), index.ErrInvalid},
		{"put long algorithm", item(func(i *index.Item) { i.Algorithm = long[:33] }), index.ErrInvalid},
		{"put long digest", item(func(i *index.Item) { i.Sum = make([]byte, 65) }), index.ErrInvalid},
		{"put long writer", item(func(i *index.Item) { i.Writer = long[:129] }), index.ErrInvalid},
		{"put longest strings", item(func(i *index.Item) {
			i.Ref, i.Algorithm, i.Sum, i.Writer = long[:64], long[:32], make([]byte, 64), long[:128]
		}), nil},
		{"put empty key", put("", 1), index.ErrInvalid},
		{"put trailing slash", put("a/", 1), index.ErrInvalid},
		{"put leading slash", put("/a", 1), index.ErrInvalid},
		{"put empty name", put("a//b", 1), index.ErrInvalid},
		{"put zero byte", put("d\x00a", 1), index.ErrInvalid},
		{"put control character", put("a\x1f", 1), index.ErrInvalid},
		{"put long key", putRef(long, "r2", 1), index.ErrInvalid},
		{"put longest key", putRef(long[:4096], "r2", 1), nil},

		{"delete", index.Delete{Key: "x"}, nil},
		{"delete missing", index.Delete{Key: "y"}, index.ErrNotFound},
		{"delete below item", index.Delete{Key: "x/y"}, index.ErrNotFound},
		{"delete directory", index.Delete{Key: "d"}, index.ErrIsDir},
		{"delete if ref, same", index.Delete{Key: "x", IfRef: "ref-x"}, nil},
		{"delete if ref, other", index.Delete{Key: "x", IfRef: "r"}, index.ErrConflict},
		{"delete bad key", index.Delete{Key: "x/"}, index.ErrInvalid},

		{"move", index.Move{From: "x", To: "n/m/x"}, nil},
		{"move over", index.Move{From: "x", To: "d/a"}, nil},
		{"move missing", index.Move{From: "y", To: "z"}, index.ErrNotFound},
		{"move directory", index.Move{From: "d", To: "z"}, index.ErrIsDir},
		{"move to directory", index.Move{From: "x", To: "d"}, index.ErrIsDir},
		{"move to directories without items", index.Move{From: "x", To: "n"}, nil},
		{"move to its own directory", index.Move{From: "d/a", To: "d"}, index.ErrIsDir},
		{"move below item", index.Move{From: "d/a", To: "x/a"}, index.ErrNotDir},
		{"move below itself", index.Move{From: "x", To: "x/a"}, index.ErrNotDir},
		{"move if absent, present", index.Move{From: "x", To: "d/a", IfAbsent: true}, index.ErrExists},
		{"move if absent, absent", index.Move{From: "x", To: "d/z", IfAbsent: true}, nil},
		{"move to itself", index.Move{From: "x", To: "x", IfAbsent: true}, nil},
		{"move to itself, missing", index.Move{From: "y", To: "y"}, index.ErrNotFound},
		{"move to itself, directory", index.Move{From: "d", To: "d"}, index.ErrIsDir},
		{"move bad key", index.Move{From: "x", To: ""}, index.ErrInvalid},

		{"require", index.Require{Key: "x", Ref: "ref-x"}, nil},
		{"require other ref", index.Require{Key: "x", Ref: "r"}, index.ErrConflict},
		{"require missing", index.Require{Key: "y", Ref: "r"}, index.ErrNotFound},
		{"require directory", index.Require{Key: "d", Ref: "r"}, index.ErrNotFound},

		{"make directory", index.MakeDir{Key: "p/q/r"}, nil},
		{"make existing directory", index.MakeDir{Key: "d"}, nil},
		{"make root", index.MakeDir{Key: ""}, nil},
		{"make directory at item", index.MakeDir{Key: "x"}, index.ErrNotDir},
		{"make directory below item", index.MakeDir{Key: "d/a/b/c"}, index.ErrNotDir},
		{"make bad directory", index.MakeDir{Key: "p//q"}, index.ErrInvalid},

		{"remove directory", index.RemoveDir{Key: "d/e"}, nil},
		{"remove missing directory", index.RemoveDir{Key: "y"}, index.ErrNotFound},
		{"remove item as directory", index.RemoveDir{Key: "x"}, index.ErrNotDir},
		{"remove directory with children", index.RemoveDir{Key: "d"}, index.ErrNotEmpty},
		{"remove root", index.RemoveDir{Key: ""}, index.ErrInvalid},

		{"restore unknown", index.Restore{ID: strings.Repeat("00", 16)}, index.ErrNotFound},
		{"restore malformed", index.Restore{ID: "x"}, index.ErrNotFound},
		{"purge unknown and malformed", index.PurgeTrash{IDs: []string{strings.Repeat("00", 16), "x", ""}}, nil},

		{"set flags", index.SetFlags{Key: "x", Ref: "ref-x", Set: index.FlagDamaged}, nil},
		{"set flags, other ref", index.SetFlags{Key: "x", Ref: "r"}, index.ErrConflict},
		{"set flags, missing", index.SetFlags{Key: "y", Ref: "r"}, index.ErrConflict},
		{"set flags, directory", index.SetFlags{Key: "d", Ref: "r"}, index.ErrConflict},

		{"set meta", index.SetMeta{Name: "m", Value: []byte{}}, nil},
		{"set meta without name", index.SetMeta{Value: []byte("v")}, index.ErrInvalid},
		{"set reserved meta", index.SetMeta{Name: "\x00format", Value: []byte("v")}, index.ErrInvalid},
		{"set large meta", index.SetMeta{Name: "m", Value: make([]byte, 1<<20+1)}, index.ErrInvalid},

		{"lock without ID", index.AcquireLock{Holder: "h"}, index.ErrInvalid},
		{"lock with negative TTL", index.AcquireLock{ID: "l", TTL: -1}, index.ErrInvalid},
		{"lock with much data", index.AcquireLock{ID: "l", Data: make([]byte, 4097)}, index.ErrInvalid},
		{"lock", index.AcquireLock{ID: "l", Data: make([]byte, 4096), Now: clock}, nil},
		{"release missing lock", index.ReleaseLock{ID: "l"}, index.ErrNotFound},
		{"expire no locks", index.ExpireLocks{Now: clock}, nil},

		{"put job", index.PutJob{Job: index.Job{ID: "j"}}, nil},
		{"put job without ID", index.PutJob{}, index.ErrInvalid},
		{"delete missing job", index.DeleteJob{ID: "j"}, nil},
		{"nothing", nil, index.ErrInvalid},
		{"pointer", &index.DeleteJob{ID: "j"}, index.ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := create(t)
			apply(t, x, put("d/a", 5), index.MakeDir{Key: "d/e", Now: clock}, put("x", 10), index.MakeDir{Key: "n/m/o", Now: clock})
			before := everything(t, x)
			if tt.want == nil {
				apply(t, x, tt.mut)
				return
			}
			// Once alone, and once after changes that must be undone with it.
			refuse(t, x, tt.want, 0, tt.mut)
			refuse(t, x, tt.want, 6, put("u/v/w", 1), index.MakeDir{Key: "t"}, index.SetMeta{Name: "undone", Value: []byte("1")},
				index.AcquireLock{ID: "undone", TTL: time.Hour, Now: clock}, index.PutJob{Job: index.Job{ID: "undone"}},
				index.Put{Key: "u/b", Item: index.Item{Ref: "undone", Writer: "undone"}, Limit: -1, Backup: true}, tt.mut)
			equal(t, "after refusal", everything(t, x), before)
			if value, err := x.Meta("undone"); value != nil || err != nil {
				t.Errorf("meta: got %q, %v, want none", value, err)
			}
			if _, ok := x.LastBackup(); ok {
				t.Error("last backup of a failed group was recorded")
			}
		})
	}
}

// Directories without items give way to an item, as many as fit into one commit, and nothing of them stays.
func TestDirectoriesGiveWay(t *testing.T) {
	x := create(t)
	apply(t, x, put("a", 1), put("c", 1))
	before := everything(t, x)
	dirs := func(n int) (muts []index.Mutation) {
		for i := range n {
			muts = append(muts, index.MakeDir{Key: fmt.Sprintf("b/%d", i), Now: clock})
		}
		return muts
	}
	apply(t, x, dirs(4096)...) // and b itself
	refuse(t, x, index.ErrIsDir, 0, put("b", 1))
	if err := x.Vacant("b"); !errors.Is(err, index.ErrManyDirs) || !errors.Is(err, index.ErrIsDir) {
		t.Errorf("vacant: got %v, want ErrManyDirs", err)
	}
	apply(t, x, index.RemoveDir{Key: "b/7"})
	if err := x.Vacant("b"); err != nil {
		t.Errorf("vacant: %v", err)
	}
	apply(t, x, put("b", 1))
	if err := x.Vacant("b/c/d"); !errors.Is(err, index.ErrNotDir) {
		t.Errorf("vacant below an item: got %v, want ErrNotDir", err)
	}
	apply(t, x, index.PurgeTrash{IDs: []string{apply(t, x, index.Delete{Key: "b"})[0].TrashID}})
	equal(t, "after it was deleted", everything(t, x), before)
}

// More of them are removed in several groups, each of which leaves whole trees.
func TestClearDirs(t *testing.T) {
	x := create(t)
	apply(t, x, put("a", 1), put("b!", 1))
	before := everything(t, x)
	for part := range 3 {
		var muts []index.Mutation
		for i := range 2000 {
			muts = append(muts, index.MakeDir{Key: fmt.Sprintf("b/%d/%d/c", part, i), Now: clock})
		}
		apply(t, x, muts...)
	}
	n := int64(0)
	for errors.Is(x.Vacant("b"), index.ErrManyDirs) {
		r := apply(t, x, index.ClearDirs{Key: "b"})[0]
		if n += r.Items; r.Items < 4000 || r.Items > 4096 {
			t.Fatalf("%d are removed", r.Items)
		}
		checkWhole(t, x)
	}
	apply(t, x, index.MakeDir{Key: "b/z/z", Now: clock}, index.ClearDirs{Key: "b"})
	if _, err := x.Get("b"); !errors.Is(err, index.ErrNotFound) || n < 12_000-4096 {
		t.Errorf("got %v after %d were removed", err, n)
	}
	equal(t, "afterwards", everything(t, x), before)
	apply(t, x, put("b/c/item", 1))
	refuse(t, x, index.ErrIsDir, 0, index.ClearDirs{Key: "b"})
	apply(t, x, index.ClearDirs{Key: "nothing"}, index.ClearDirs{Key: "a"})
	checkWhole(t, x)
}

func TestPutAndOverwrite(t *testing.T) {
	x := create(t)
	first := index.Item{
		Size: 7, Ref: "r1", BLAKE3: [32]byte{1, 2, 3}, Algorithm: "sha256", Sum: []byte{9, 8}, Writer: "alice", Flags: index.FlagDamaged | index.FlagExempt,
		Modified: clock.Add(time.Hour), // not the caller's to say
	}
	r := apply(t, x, index.Put{Key: "a/b/c", Item: first, Limit: -1, Now: clock.Add(1500 * time.Microsecond)})[0]
	if r.Moved == nil || r.Moved.Flags != index.FlagDamaged {
		t.Errorf("stored: got %+v", r.Moved)
	}
	r.Moved = nil
	equal(t, "result", r, index.Result{})

	want := first
	want.Created, want.Modified = clock.Add(time.Millisecond), clock.Add(time.Millisecond)
	want.Flags = index.FlagDamaged
	got, err := x.Get("a/b/c")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "item", got, index.Entry{Key: "a/b/c", Item: want})
	dir, err := x.Get("a/b")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "parent", dir, index.Entry{Key: "a/b", Dir: true, Item: index.Item{Created: clock.Add(time.Millisecond)}})

	later := clock.Add(time.Minute)
	r = apply(t, x, index.Put{Key: "a/b/c", Item: index.Item{Size: 3, Ref: "r2", Created: later}, Limit: -1, Now: later, TrashUntil: later.Add(time.Hour)})[0]
	equal(t, "previous", r.Previous, &want)
	if r.TrashID == "" {
		t.Error("no trash row for the replaced item")
	}
	got, err = x.Get("a/b/c")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "overwritten", got.Item, index.Item{Size: 3, Ref: "r2", Created: want.Created, Modified: later})
	equal(t, "counters", x.Counters(), index.Counters{Items: 1, Bytes: 3, TrashItems: 1, TrashBytes: 7})
}

// A rebuilt index knows when an item was first seen.
func TestPutKeepsGivenCreated(t *testing.T) {
	x := create(t)
	p := put("k", 1)
	p.Item.Created = clock.Add(-time.Hour)
	apply(t, x, p)
	got, err := x.Get("k")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "created", got.Item.Created, clock.Add(-time.Hour))
}

func TestMove(t *testing.T) {
	x := create(t)
	apply(t, x, put("a/x", 5), put("b/y", 3))
	later := clock.Add(time.Hour)
	from, _ := x.Get("a/x")
	to, _ := x.Get("b/y")
	r := apply(t, x, index.Move{From: "a/x", To: "b/y", Now: later, TrashUntil: later})[0]
	equal(t, "moved", r.Moved, &from.Item)
	equal(t, "previous", r.Previous, &to.Item)
	equal(t, "listing", list(t, x, index.ListOptions{Recursive: true}), []string{"b/y"})
	equal(t, "counters", x.Counters(), index.Counters{Items: 1, Bytes: 5, TrashItems: 1, TrashBytes: 3})
	got, err := x.Get("b/y")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "item", got.Item, from.Item)
	for ref, want := range map[string]string{"ref-a/x": "", "ref-b/y": "b/y"} {
		key, ok, err := x.HasRef(ref)
		if err != nil || !ok || key != want {
			t.Errorf("HasRef(%q): got %q, %v, %v, want %q", ref, key, ok, err, want)
		}
	}
	equal(t, "old directory", list(t, x, index.ListOptions{}), []string{"a/", "b/"})

	before := everything(t, x)
	r = apply(t, x, index.Move{From: "b/y", To: "b/y", Now: later})[0]
	equal(t, "moved to itself", r, index.Result{Moved: &from.Item})
	equal(t, "after a move to itself", everything(t, x), before)
}

// TestExemptStaysWithItem: until it goes where Exempt does not hold; then it counts, within the limit.
func TestExemptStaysWithItem(t *testing.T) {
	x := create(t)
	lock := put("locks/l", 10)
	lock.Exempt = true
	steps := []struct {
		mut  index.Mutation
		want index.Counters
	}{
		{lock, index.Counters{Items: 1, Bytes: 10, Exempt: 10}},
		{put("data", 1), index.Counters{Items: 2, Bytes: 11, Exempt: 10}},
		{index.SetFlags{Key: "locks/l", Ref: "ref-locks/l", Set: index.FlagDamaged}, index.Counters{Items: 2, Bytes: 11, Exempt: 10, DamagedItems: 1}},
		{index.SetFlags{Key: "data", Ref: "ref-data", Set: index.FlagExempt}, index.Counters{Items: 2, Bytes: 11, Exempt: 10, DamagedItems: 1}},
		{index.Move{From: "locks/l", To: "m", Exempt: true, Now: clock}, index.Counters{Items: 2, Bytes: 11, Exempt: 10, DamagedItems: 1}},
		{index.Delete{Key: "m", Now: clock, TrashUntil: clock}, index.Counters{Items: 1, Bytes: 1, TrashItems: 1, TrashBytes: 10}},
	}
	for _, s := range steps {
		apply(t, x, s.mut)
		equal(t, "counters", x.Counters(), s.want)
		checkWhole(t, x)
	}
	var id string
	x.Trash(time.Time{}, func(r index.Removed) error { id = r.ID; return nil })
	refuse(t, x, index.ErrQuota, 0, index.Restore{ID: id, Limit: 10, Now: clock})
	apply(t, x, index.Restore{ID: id, Exempt: true, Limit: 1, Now: clock}) // limit 1 is met: the item is exempt
	equal(t, "restored", x.Counters(), index.Counters{Items: 2, Bytes: 11, Exempt: 10, DamagedItems: 1})
	got, _ := x.Get("m")
	equal(t, "flags", got.Item.Flags, index.FlagDamaged|index.FlagExempt)
	apply(t, x, putRef("m", "r2", 4))
	equal(t, "replaced", x.Counters(), index.Counters{Items: 2, Bytes: 5, TrashItems: 1, TrashBytes: 10})

	lock.Item.Ref = "r3"
	apply(t, x, lock)
	refuse(t, x, index.ErrQuota, 0, index.Move{From: "locks/l", To: "m", Limit: 10, Now: clock})
	equal(t, "refused", x.Counters(), index.Counters{Items: 3, Bytes: 15, Exempt: 10, TrashItems: 1, TrashBytes: 10})
	moved := apply(t, x, index.Move{From: "locks/l", To: "m", Limit: 11, Now: clock, TrashUntil: clock})[0]
	equal(t, "begins to count", moved.Begins, int64(10))
	equal(t, "moved", x.Counters(), index.Counters{Items: 2, Bytes: 11, TrashItems: 2, TrashBytes: 14})
	moved = apply(t, x, index.Move{From: "m", To: "locks/l", Exempt: true, Limit: 0, Now: clock})[0]
	equal(t, "moved back", moved.Begins, int64(0))
	equal(t, "counts for good", x.Counters(), index.Counters{Items: 2, Bytes: 11, TrashItems: 2, TrashBytes: 14})
}

func TestDirCounters(t *testing.T) {
	x := create(t)
	apply(t, x, put("a/b/c", 5), put("a/d", 2), put("e/f", 1), put("root", 4), index.MakeDir{Key: "empty"})
	check := func(top string, want index.Counters) {
		t.Helper()
		got, err := x.DirCounters(top)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "counters of "+top, got, want)
	}
	check("a", index.Counters{Items: 2, Bytes: 7})
	check("e", index.Counters{Items: 1, Bytes: 1})
	check("", index.Counters{Items: 1, Bytes: 4})
	check("empty", index.Counters{})
	check("none", index.Counters{})
	apply(t, x, index.Move{From: "a/b/c", To: "e/c"}, index.Delete{Key: "root"}, index.Delete{Key: "a/d"})
	check("a", index.Counters{})
	check("e", index.Counters{Items: 2, Bytes: 6})
	check("", index.Counters{})
}

// Each mutation of a group sees what those before it did.
func TestGroupInOrder(t *testing.T) {
	x := create(t)
	apply(t, x, put("pack", 10))
	r := apply(t, x,
		index.Require{Key: "pack", Ref: "ref-pack"},
		index.Put{Key: "new", Item: index.Item{Size: 6, Ref: "r2"}, Limit: 16},
		index.Delete{Key: "pack", TrashUntil: clock},
		index.Put{Key: "new2", Item: index.Item{Size: 10, Ref: "r3"}, Limit: 16},
		index.Move{From: "new2", To: "pack/now/a/directory"},
	)
	equal(t, "previous", r[2].Previous.Ref, "ref-pack")
	equal(t, "listing", list(t, x, index.ListOptions{Recursive: true}), []string{"new", "pack/now/a/directory"})
	equal(t, "counters", x.Counters(), index.Counters{Items: 2, Bytes: 16, TrashItems: 1, TrashBytes: 10})
}
