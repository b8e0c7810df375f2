package index_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"packhouse/index"
	"packhouse/journal"
)

// clock is when the tests take place; they add to it.
var clock = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// create makes and opens an index, which is checked as a whole when the test ends.
func create(t testing.TB) *index.Index {
	t.Helper()
	path := filepath.Join(t.TempDir(), "index.db")
	if err := index.Create(path, nil); err != nil {
		t.Fatal(err)
	}
	return open(t, path, index.Options{})
}

// open opens an index that is whole when the test ends, or read-only by then.
func open(t testing.TB, path string, o index.Options) *index.Index {
	t.Helper()
	x, err := index.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := x.Get(""); err == nil && x.Failed() == nil {
			checkWhole(t, x)
		}
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

func checkWhole(t testing.TB, x *index.Index) {
	t.Helper()
	report, err := x.Check(t.Context())
	if errors.Is(err, index.ErrClosed) {
		return
	}
	if t.Context().Err() != nil { // in a cleanup
		report, err = x.Check(background)
	}
	if err != nil && !errors.Is(err, index.ErrClosed) {
		t.Errorf("check: %v", err)
	}
	for _, p := range report.Problems {
		t.Errorf("check: %s", p)
	}
}

// apply applies a group that must succeed.
func apply(t testing.TB, x *index.Index, muts ...index.Mutation) []index.Result {
	t.Helper()
	results, err := x.Apply(background, muts...)
	if err != nil {
		t.Fatalf("apply %+v: %v", muts, err)
	}
	return results
}

// applyToFile is apply, and a checkpoint.
func applyToFile(t testing.TB, x *index.Index, muts ...index.Mutation) {
	t.Helper()
	apply(t, x, muts...)
	if err := x.Checkpoint(); err != nil {
		t.Fatal(err)
	}
}

// refuse applies a group that must fail with want, at position at.
func refuse(t testing.TB, x *index.Index, want error, at int, muts ...index.Mutation) index.Result {
	t.Helper()
	results, err := x.Apply(background, muts...)
	if !errors.Is(err, want) {
		t.Fatalf("apply %+v: got %v, want %v", muts, err, want)
	}
	var g *index.GroupError
	if !errors.As(err, &g) {
		t.Fatalf("apply %+v: got %T, want a GroupError", muts, err)
	}
	if g.Position != at {
		t.Errorf("apply %+v: got position %d, want %d", muts, g.Position, at)
	}
	if results != nil {
		t.Errorf("apply %+v: got results %v of a failed group", muts, results)
	}
	return g.Result
}

// put is a mutation that makes key an item of this size, with a ref of its own.
func put(key string, size int64) index.Put {
	return index.Put{Key: key, Item: index.Item{Size: size, Ref: "ref-" + key}, Limit: -1, Now: clock, TrashUntil: clock}
}

// putRef is put with a ref other than the one the key gives.
func putRef(key, ref string, size int64) index.Put {
	p := put(key, size)
	p.Item.Ref = ref
	return p
}

// list is what a listing visits: directories with a trailing slash.
func list(t testing.TB, x *index.Index, o index.ListOptions) []string {
	t.Helper()
	var got []string
	err := x.List(background, o, func(e index.Entry) error {
		got = append(got, label(e))
		return nil
	})
	if err != nil {
		t.Fatalf("list %+v: %v", o, err)
	}
	return got
}

func label(e index.Entry) string {
	if e.Dir {
		return e.Key + "/"
	}
	return e.Key
}

// everything is the state a reader can see, to compare before and after. Of an item in the log it has the bytes, not where they lie.
func everything(t testing.TB, x *index.Index) string {
	t.Helper()
	var s strings.Builder
	fmt.Fprintf(&s, "%+v\n", x.Counters())
	withBytes := func(item *index.Item) {
		if _, inLog := journal.ParseRef(item.Ref); inLog {
			payload, err := x.Payload(item.Ref, false, nil)
			item.Ref = fmt.Sprintf("%d bytes %x, %v", len(payload), sha256.Sum256(payload), err)
		}
	}
	var walk func(dir string)
	walk = func(dir string) {
		err := x.List(background, index.ListOptions{Dir: dir}, func(e index.Entry) error {
			withBytes(&e.Item)
			fmt.Fprintf(&s, "%s %+v\n", label(e), e.Item)
			if e.Dir {
				walk(e.Key)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	walk("")
	for _, err := range []error{
		x.Trash(time.Time{}, func(r index.Removed) error { withBytes(&r.Item); fmt.Fprintf(&s, "trash %+v\n", r); return nil }),
		x.Plans(func(p index.Plan) error { fmt.Fprintf(&s, "plan %+v\n", p); return nil }),
		x.EachKept(func(k index.Kept) error { withBytes(&k.Item); fmt.Fprintf(&s, "kept %+v\n", k); return nil }),
		x.Changes(background, 0, func(c index.Change) error {
			c.Ref, c.Before = withoutPlace(c.Ref), withoutPlace(c.Before)
			fmt.Fprintf(&s, "change %+v\n", c)
			return nil
		}),
		x.Jobs(func(j index.Job) error { fmt.Fprintf(&s, "job %+v\n", j); return nil }),
		x.Writers(func(f index.Freshness) error { fmt.Fprintf(&s, "writer %+v\n", f); return nil }),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	locks, err := x.Locks()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&s, "locks %+v\n", locks)
	return s.String()
}

// withoutPlace is a ref, but of one to the log only how many bytes it is of.
func withoutPlace(ref string) string {
	if at, inLog := journal.ParseRef(ref); inLog {
		return fmt.Sprintf("%d bytes in the log", at.Length)
	}
	return ref
}

func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %+v, want %+v", what, got, want)
	}
}
