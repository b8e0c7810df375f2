package index_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"packhouse/index"
)

// TestMissingItem: its row stays and is told from the others, it counts against no limit, and whatever becomes of it
// the counters follow.
func TestMissingItem(t *testing.T) {
	x := create(t)
	lost := index.SetFlags{Key: "packs/a", Ref: "ref-packs/a", Set: index.FlagMissing}
	found := index.SetFlags{Key: "packs/a", Ref: "ref-packs/a", Clear: index.FlagMissing}
	bad := index.SetFlags{Key: "packs/a", Ref: "ref-packs/a", Set: index.FlagDamaged}
	same := putRef("packs/a", "again", 10)
	steps := []struct {
		name    string
		mut     index.Mutation
		want    index.Counters
		counted int64
		delta   int64
	}{
		{"stored", put("packs/a", 10), index.Counters{Items: 1, Bytes: 10}, 10, 0},
		{"another", put("packs/b", 1), index.Counters{Items: 2, Bytes: 11}, 11, 0},
		{"missing", lost, index.Counters{Items: 2, Bytes: 11, MissingItems: 1, MissingBytes: 10}, 1, -10},
		{"missing, again", lost, index.Counters{Items: 2, Bytes: 11, MissingItems: 1, MissingBytes: 10}, 1, 0},
		{"missing and damaged", bad, index.Counters{Items: 2, Bytes: 11, MissingItems: 1, MissingBytes: 10}, 1, 0},
		{"back, still damaged", found, index.Counters{Items: 2, Bytes: 11, DamagedItems: 1}, 11, 10},
		{"missing once more", lost, index.Counters{Items: 2, Bytes: 11, MissingItems: 1, MissingBytes: 10}, 1, -10},
		{"moved", index.Move{From: "packs/a", To: "packs/c", Now: clock}, index.Counters{Items: 2, Bytes: 11, MissingItems: 1, MissingBytes: 10}, 1, 0},
		{"moved back", index.Move{From: "packs/c", To: "packs/a", Now: clock}, index.Counters{Items: 2, Bytes: 11, MissingItems: 1, MissingBytes: 10}, 1, 0},
		{"stored again", same, index.Counters{Items: 2, Bytes: 11, TrashItems: 1, TrashBytes: 10}, 11, 0},
	}
	for _, s := range steps {
		r := apply(t, x, s.mut)[0]
		equal(t, s.name+": counters", x.Counters(), s.want)
		equal(t, s.name+": counted", x.Counters().Counted(), s.counted)
		if _, is := s.mut.(index.SetFlags); is {
			equal(t, s.name+": delta", r.Delta, s.delta)
		}
		checkWhole(t, x)
	}
	apply(t, x, index.SetFlags{Key: "packs/a", Ref: "again", Set: index.FlagMissing})
	equal(t, "listed by name", list(t, x, index.ListOptions{Dir: "packs"}), []string{"packs/a", "packs/b"})
	equal(t, "present by name", list(t, x, index.ListOptions{Dir: "packs", Present: true}), []string{"packs/b"})
	equal(t, "present of all", list(t, x, index.ListOptions{Recursive: true, Present: true}), []string{"packs/b"})
	dir, err := x.DirCounters("packs")
	equal(t, "directory", dir, index.Counters{Items: 2, Bytes: 11, MissingItems: 1, MissingBytes: 10})
	if err != nil {
		t.Fatal(err)
	}

	// What is missing leaves its place to others, and needs one when it is stored again.
	limited := put("packs/d", 9)
	limited.Limit = 10
	apply(t, x, limited)
	again := putRef("packs/a", "third", 10)
	again.Limit = 10
	refuse(t, x, index.ErrQuota, 0, again)

	apply(t, x, index.Delete{Key: "packs/a", Now: clock, TrashUntil: clock.Add(time.Hour)})
	equal(t, "deleted", x.Counters().MissingItems, int64(0))
	var id string
	_ = x.Trash(time.Time{}, func(r index.Removed) error {
		if r.Item.Ref == "again" {
			id = r.ID
		}
		return nil
	})
	apply(t, x, index.Restore{ID: id, Limit: -1, Now: clock})
	equal(t, "restored", x.Counters().Counted(), int64(20))
	checkWhole(t, x)
}

// TestMissingSource: a source of an open plan that is lost holds nothing any more, and can be stored again.
func TestMissingSource(t *testing.T) {
	x := create(t)
	apply(t, x, put("packs/s", 5), put("packs/n", 4))
	apply(t, x, index.OpenPlan{Plan: index.Plan{At: clock}, Sources: []string{"packs/s"}, Limit: -1})
	apply(t, x, index.SetFlags{Key: "packs/s", Ref: "ref-packs/s", Set: index.FlagMissing})
	equal(t, "missing", x.Counters(), index.Counters{Items: 2, Bytes: 9, Plans: 1, MissingItems: 1, MissingBytes: 5})
	checkWhole(t, x)
	apply(t, x, index.ProvePlan{ID: 1, Until: clock.Add(time.Hour), Now: clock})
	equal(t, "proven", x.Counters(), index.Counters{Items: 1, Bytes: 4, KeptItems: 1, KeptBytes: 5})
	checkWhole(t, x)
	apply(t, x, index.ReturnKept{Key: "packs/s", Now: clock})
	apply(t, x, index.SetFlags{Key: "packs/s", Ref: "ref-packs/s", Set: index.FlagMissing})
	again := putRef("packs/s", "again", 5)
	again.Limit = 4
	apply(t, x, again)
	equal(t, "stored again", x.Counters(), index.Counters{Items: 2, Bytes: 9, ReturnedBytes: 5, TrashItems: 1, TrashBytes: 5})
	checkWhole(t, x)
}

// TestUpgradeCountsDamage: files of format 1 may have damaged items, and no count of them.
func TestUpgradeCountsDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	if err := index.Create(path, nil); err != nil {
		t.Fatal(err)
	}
	x, err := index.Open(path, index.Options{})
	if err != nil {
		t.Fatal(err)
	}
	apply(t, x, put("packs/a", 1), put("packs/b", 2), put("packs/c", 3))
	old := x.Counters()
	var record []byte
	err = x.Tamper(func(tx *bolt.Tx) error {
		record = append(record, tx.Bucket([]byte("counters")).Get([]byte{0})...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"packs/a", "packs/c"} {
		apply(t, x, index.SetFlags{Key: key, Ref: "ref-" + key, Set: index.FlagDamaged})
	}
	err = x.Tamper(func(tx *bolt.Tx) error {
		for _, name := range []string{"plans", "sources", "kept", "keptkeys", "segments", "moved", "movedto", "history"} {
			if err := tx.DeleteBucket([]byte(name)); err != nil {
				return err
			}
		}
		if err := tx.Bucket([]byte("counters")).Put([]byte{0}, record); err != nil {
			return err
		}
		meta := tx.Bucket([]byte("meta"))
		return errors.Join(meta.Delete([]byte("\x00applied")), meta.Put([]byte("\x00format"), []byte{1, 0, 0, 0}))
	})
	if err := errors.Join(err, x.Close(), os.RemoveAll(filepath.Join(filepath.Dir(path), index.LogDir))); err != nil {
		t.Fatal(err)
	}
	x = open(t, path, index.Options{})
	old.DamagedItems = 2
	equal(t, "counters", x.Counters(), old)
	checkWhole(t, x)
	apply(t, x, index.SetFlags{Key: "packs/a", Ref: "ref-packs/a", Clear: index.FlagDamaged}, index.Delete{Key: "packs/c", Now: clock, TrashUntil: clock})
	equal(t, "mended", x.Counters().DamagedItems, int64(0))
	checkWhole(t, x)
}

// TestReleasedAtOnce: what is kept after a compaction goes at once where nothing gives it a grace, although it was kept at a time that is ahead of the
// clock: the times of changes run ahead by what happens within a millisecond.
func TestReleasedAtOnce(t *testing.T) {
	x := create(t)
	ahead := clock.Add(3 * time.Millisecond)
	apply(t, x, put("packs/s", 100))
	apply(t, x, index.OpenPlan{Plan: index.Plan{At: ahead}, Sources: []string{"packs/s"}, Limit: -1})
	apply(t, x, index.ProvePlan{ID: 1, Until: ahead.Add(time.Hour), Now: ahead})
	if c := x.Counters(); c.KeptItems != 1 {
		t.Fatalf("counters: %+v, want one item kept", c)
	}
	apply(t, x, index.ReleaseKept{Bytes: 1, Most: 1, Now: clock})
	n := 0
	if err := x.Trash(clock.Add(1), func(index.Removed) error { n++; return nil }); err != nil || n != 1 {
		t.Errorf("%d items in the trash may go now, %v; want one", n, err)
	}
}
