package index_test

import (
	"errors"
	"math"
	"path/filepath"
	"testing"

	"packhouse/index"
)

const mib = 1 << 20

var class = index.CommitClass{Keys: []string{"index", "config/manifest"}, Dirs: []string{"cache", "locks"}}

// commitPut is a Put of the class, with a ref of its own.
func commitPut(key, ref string, size, limit int64) index.Put {
	p := putRef(key, ref, size)
	p.Limit, p.Commit = limit, &class
	return p
}

func wantCommit(t *testing.T, x *index.Index, total, mark int64) {
	t.Helper()
	if gotTotal, gotMark, err := x.CommitTotal(class); err != nil || gotTotal != total || gotMark != mark {
		t.Errorf("commit class: got %d bytes, mark %d, %v, want %d and %d", gotTotal, gotMark, err, total, mark)
	}
}

func TestCommitBound(t *testing.T) {
	for mark, want := range map[int64]int64{
		0: 64 * mib, 32 * mib: 64 * mib, 32*mib + 1: 64*mib + 2, 1 << 40: 1 << 41, math.MaxInt64: math.MaxInt64,
	} {
		if got := index.CommitBound(mark); got != want {
			t.Errorf("bound of a mark of %d: got %d, want %d", mark, got, want)
		}
	}
}

// TestCommitClass goes through the life of a repository whose limit is lowered far below what it holds.
func TestCommitClass(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	if err := index.Create(path, nil); err != nil {
		t.Fatal(err)
	}
	x := open(t, path, index.Options{})
	wantCommit(t, x, 0, 0)
	const limit = 1000 * mib
	apply(t, x, commitPut("index", "i1", 40*mib, limit), commitPut("locks/big", "l1", 2*mib, limit), put("packs/a", 900*mib))
	wantCommit(t, x, 42*mib, 42*mib)

	// Far beyond the limit all of them together may hold twice that, and not a byte more.
	const lowered = 1 * mib
	refuse(t, x, index.ErrQuota, 0, index.Put{Key: "packs/b", Item: index.Item{Size: 1, Ref: "p"}, Limit: lowered})
	refuse(t, x, index.ErrQuota, 0, index.Put{Key: "index", Item: index.Item{Size: 41 * mib, Ref: "p"}, Limit: lowered})
	refuse(t, x, index.ErrQuota, 0, commitPut("index", "i2", 82*mib+1, lowered))
	wantCommit(t, x, 42*mib, 42*mib)
	apply(t, x, commitPut("index", "i2", 80*mib, lowered))
	apply(t, x, commitPut("cache/a", "c1", 2*mib, lowered))
	refuse(t, x, index.ErrQuota, 0, commitPut("cache/b", "c2", 1, lowered))
	refuse(t, x, index.ErrQuota, 0, commitPut("config/manifest", "m", 1, lowered))
	wantCommit(t, x, 84*mib, 42*mib)
	// What counts nowhere is no part of it.
	exempt := commitPut("locks/l", "l2", 5, -1)
	exempt.Exempt = true
	apply(t, x, exempt)
	wantCommit(t, x, 84*mib, 42*mib)

	// Under another name they would be beyond the limit, and there would be place for more of them.
	refuse(t, x, index.ErrQuota, 0, index.Move{From: "cache/a", To: "packs/c", Commit: &class, Limit: lowered})
	apply(t, x, index.Move{From: "cache/a", To: "cache/a.del", Commit: &class, Limit: lowered})
	apply(t, x, index.Move{From: "packs/a", To: "packs/d", Commit: &class, Limit: lowered})

	// The mark is of what was stored within the limit, and outlives that.
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	x = open(t, path, index.Options{})
	apply(t, x, index.Delete{Key: "index"}, index.Delete{Key: "cache/a.del"})
	wantCommit(t, x, 2*mib, 42*mib)
	apply(t, x, commitPut("index", "i3", 82*mib, lowered))
	apply(t, x, commitPut("index", "i4", 82*mib, lowered), commitPut("index", "i5", 81*mib, lowered))
	wantCommit(t, x, 83*mib, 42*mib)
	apply(t, x, index.MarkCommit{Class: class, Limit: lowered})
	wantCommit(t, x, 83*mib, 42*mib)
	apply(t, x, index.MarkCommit{Class: class, Limit: limit})
	wantCommit(t, x, 83*mib, 83*mib)
	apply(t, x, commitPut("index", "i6", 164*mib, lowered))
	apply(t, x, index.Delete{Key: "packs/d"}, commitPut("cache/c", "c3", 100*mib, -1)) // no limit
	wantCommit(t, x, 266*mib, 266*mib)
}

// A repository of an older version has no mark: it begins with what is stored, also if a lock is what comes first and
// the rest is deleted before more is stored.
func TestCommitMarkBegins(t *testing.T) {
	for _, first := range []string{"locks/l", "index"} {
		x := create(t)
		apply(t, x, put("index", 100*mib), put("cache/a", 50*mib), put("packs/a", 900*mib))
		wantCommit(t, x, 150*mib, 150*mib)
		p := commitPut(first, "r", 1, 0)
		p.Exempt = first == "locks/l"
		apply(t, x, p)
		apply(t, x, index.Delete{Key: "index"}, index.Delete{Key: "cache/a"})
		wantCommit(t, x, 0, 150*mib)
		refuse(t, x, index.ErrQuota, 0, commitPut("index", "i", 300*mib+1, 0))
		apply(t, x, commitPut("index", "i", 300*mib, 0))
	}
}

// A group is held against the limit as a whole: that its last Put makes an item smaller does not excuse the others.
func TestShrinkingPutInGroup(t *testing.T) {
	x := create(t)
	apply(t, x, put("a", 10), put("b", 10))
	small := index.Put{Key: "a", Item: index.Item{Size: 5, Ref: "a2"}, Limit: 8}
	refuse(t, x, index.ErrQuota, 1, put("c", 6), small)
	apply(t, x, put("c", 5), small)
	refuse(t, x, index.ErrQuota, 1, index.Delete{Key: "b"}, index.Put{Key: "d", Item: index.Item{Size: 11, Ref: "d"}, Limit: 8})
	apply(t, x, index.Delete{Key: "b"}, index.Put{Key: "d", Item: index.Item{Size: 10, Ref: "d"}, Limit: 8})
}

func TestMalformedCommitClass(t *testing.T) {
	x := create(t)
	for _, c := range []index.CommitClass{
		{Keys: []string{""}}, {Keys: []string{"a/"}}, {Dirs: []string{""}}, {Dirs: []string{"a/b"}}, {Keys: []string{"a/b"}, Dirs: []string{"a"}},
	} {
		c.Keys = append(c.Keys, "k")
		p := put("k", 1)
		p.Commit = &c
		for _, mut := range []index.Mutation{p, index.Move{From: "k", To: "l", Commit: &c}, index.MarkCommit{Class: c}} {
			refuse(t, x, index.ErrInvalid, 0, mut)
		}
		if _, _, err := x.CommitTotal(c); !errors.Is(err, index.ErrInvalid) {
			t.Errorf("total of %+v: got %v, want ErrInvalid", c, err)
		}
	}
	p := put("other", 1)
	p.Commit = &class
	refuse(t, x, index.ErrInvalid, 0, p)
}
