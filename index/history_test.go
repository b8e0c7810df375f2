package index_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"packhouse/index"
)

// refsOf are the refs of all items by key.
func refsOf(t *testing.T, x *index.Index) map[string]string {
	t.Helper()
	refs := make(map[string]string)
	err := x.List(background, index.ListOptions{Recursive: true}, func(e index.Entry) error {
		if e.Item.Flags&index.FlagExempt == 0 {
			refs[e.Key] = e.Item.Ref
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return refs
}

func changesOf(t *testing.T, x *index.Index) (all []index.Change) {
	t.Helper()
	if err := x.Changes(background, 0, func(c index.Change) error { all = append(all, c); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

// takeBack makes of what the keys had behind a change what they had before it.
func takeBack(t *testing.T, refs map[string]string, c index.Change) {
	t.Helper()
	if refs[c.Key] != c.Ref {
		t.Fatalf("%s of %s: the key has ref %q, and the change says %q", c.Kind, c.Key, refs[c.Key], c.Ref)
	}
	if c.From != "" {
		if refs[c.From] != "" {
			t.Fatalf("%s is moved from %s, and that has ref %q", c.Key, c.From, refs[c.From])
		}
		refs[c.From] = c.Ref
	}
	if refs[c.Key] = c.Before; c.Before == "" {
		delete(refs, c.Key)
	}
}

// TestHistoryLeadsBack: from what the items are, and the history, follows what they were after each group there has ever been,
// also when the index was closed or copied in between.
func TestHistoryLeadsBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	if err := index.Create(path, nil); err != nil {
		t.Fatal(err)
	}
	x, err := index.Open(path, index.Options{})
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 9))
	type state struct {
		changes int64
		refs    map[string]string
	}
	states := []state{{0, map[string]string{}}}
	kinds := make(map[string]int)
	for i := range 600 {
		if _, err := x.Apply(background, randomChange(t, x, random, i)...); err != nil {
			continue // a group that failed has left nothing
		}
		states = append(states, state{x.Counters().Changes, refsOf(t, x)})
		if i%200 == 150 {
			mustClose(t, x)
			if x, err = index.Open(path, index.Options{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	checkWhole(t, x)
	all, refs := changesOf(t, x), refsOf(t, x)
	for i := len(states) - 1; i >= 0; i-- {
		for int64(len(all)) > states[i].changes {
			last := all[len(all)-1]
			kinds[last.Kind.String()]++
			takeBack(t, refs, last)
			all = all[:len(all)-1]
		}
		if !maps.Equal(refs, states[i].refs) {
			t.Fatalf("after %d changes: got %v, want %v", states[i].changes, refs, states[i].refs)
		}
	}
	for _, kind := range []string{"store", "overwrite", "delete", "move", "restore"} {
		if kinds[kind] == 0 {
			t.Errorf("no change of kind %s in %v", kind, kinds)
		}
	}
	mustClose(t, x)
}

// randomChange is a group of one or two changes of few keys.
func randomChange(t *testing.T, x *index.Index, random *rand.Rand, i int) (muts []index.Mutation) {
	key := func() string { return fmt.Sprintf("d%d/k%d", random.IntN(2), random.IntN(4)) }
	cause := &index.Cause{Principal: "alice", Address: "192.0.2.1"}
	now := clock.Add(time.Duration(i) * time.Second)
	for n := range 1 + random.IntN(2) {
		k := key()
		switch random.IntN(9) {
		case 0, 1, 2:
			p := putRef(k, fmt.Sprintf("ref-%d-%d", i, n), 5)
			p.Cause, p.Now, p.TrashUntil, p.Exempt = cause, now, now.Add(time.Hour), random.IntN(20) == 0
			if p.Exempt {
				p.Key = "locks/l"
			}
			muts = append(muts, p)
		case 3:
			muts = append(muts, index.Delete{Key: k, IgnoreMissing: true, Now: now, TrashUntil: now.Add(time.Hour), Cause: cause})
		case 4:
			muts = append(muts, index.Delete{Key: k, IgnoreMissing: true, Keep: true, By: "bob", Now: now, TrashUntil: now.Add(time.Hour), Cause: cause})
		case 5:
			muts = append(muts, index.Move{From: k, To: key(), Limit: -1, Now: now, TrashUntil: now.Add(time.Hour), Cause: cause})
		case 6:
			for _, id := range trashIDs(t, x, k) {
				muts = append(muts, index.Restore{ID: id, Limit: -1, Now: now, Cause: cause})
				break
			}
		case 7:
			muts = append(muts, index.OpenPlan{Plan: index.Plan{At: now}, Sources: []string{k}, Limit: -1}, index.ProvePlan{ID: 1 + uint64(random.IntN(9)), Now: now, Until: now.Add(time.Hour), Cause: cause})
		default:
			muts = append(muts, index.ReturnSince{Since: now.Add(-time.Minute), Now: now, Cause: cause})
		}
	}
	return muts
}

// TestHistoryOfNobody: a change without a cause, and one of an exempt item, leave no row.
func TestHistoryOfNobody(t *testing.T) {
	x := create(t)
	exempt := put("locks/l", 1)
	exempt.Exempt, exempt.Cause = true, &index.Cause{Principal: "alice"}
	apply(t, x, put("a", 1), exempt, index.Delete{Key: "locks/l", Now: clock, TrashUntil: clock, Cause: exempt.Cause}, index.Delete{Key: "a", Now: clock, TrashUntil: clock})
	if all := changesOf(t, x); len(all) > 0 {
		t.Errorf("got %+v, want none", all)
	}
}

// TestForgetChanges: the oldest rows go, at most so many at once. A row of a time to come goes with the first one behind it
// whose time says that it is old.
func TestForgetChanges(t *testing.T) {
	x := create(t)
	hours := []int{0, 1, 9000, 9001, 2, 5, 9002, 6}
	for i, hour := range hours {
		p := putRef(fmt.Sprintf("k%d", i), fmt.Sprintf("ref%d", i), 1)
		p.Now, p.Cause = clock.Add(time.Duration(hour)*time.Hour), &index.Cause{}
		apply(t, x, p)
	}
	forget := func(before, now, most int) (left []int) {
		t.Helper()
		was := x.Counters().Changes
		r := apply(t, x, index.ForgetChanges{Before: clock.Add(time.Duration(before) * time.Hour), Now: clock.Add(time.Duration(now) * time.Hour), Most: most})[0]
		for _, c := range changesOf(t, x) {
			left = append(left, hours[c.ID-1])
		}
		if r.Items != was-int64(len(left)) || x.Counters().Changes != int64(len(left)) {
			t.Errorf("%d rows went, by the result %d, by the counters %d", was-int64(len(left)), r.Items, was-x.Counters().Changes)
		}
		return left
	}
	equal(t, "nothing is old", forget(0, 10, 100), hours)
	equal(t, "one at most", forget(2, 10, 1), hours[1:])
	equal(t, "a clock that is behind", forget(-5000, -4000, 100), hours[1:])
	equal(t, "what follows is not old", forget(2, 10, 100), hours[2:])
	equal(t, "one of the two of times to come", forget(3, 10, 1), hours[3:])
	equal(t, "what follows is old", forget(3, 10, 100), hours[5:])
	equal(t, "none is old", forget(3, 10, 100), hours[5:])
	equal(t, "all", forget(9003, 9003, 100), []int(nil))
	if c, ok, err := x.OldestChange(); ok || err != nil {
		t.Errorf("the oldest of none: %+v, %v", c, err)
	}
}

// TestVerifyUnverified: the BLAKE3 of an item of which it was not known is set once.
func TestVerifyUnverified(t *testing.T) {
	x := create(t)
	p := put("a", 7)
	p.Item.Flags = index.FlagUnverified
	apply(t, x, p)
	if c := x.Counters(); c.UnverifiedItems != 1 || c.UnverifiedBytes != 7 || c.Counted() != 7 {
		t.Errorf("counters: %+v", c)
	}
	sum := [32]byte{1, 2, 3}
	set := index.SetFlags{Key: "a", Ref: "ref-a", Clear: index.FlagUnverified, BLAKE3: &sum}
	apply(t, x, set)
	if e, err := x.Get("a"); err != nil || e.Item.BLAKE3 != sum || e.Item.Flags != 0 {
		t.Errorf("got %+v, %v", e, err)
	}
	if c := x.Counters(); c.UnverifiedItems != 0 || c.UnverifiedBytes != 0 {
		t.Errorf("counters: %+v", c)
	}
	refuse(t, x, index.ErrConflict, 0, set)
}
