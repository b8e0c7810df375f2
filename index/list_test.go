package index_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"packhouse/index"
)

// tree has names on both sides of the slash in ASCII, and depth.
var tree = []string{"a!", "a/b!", "a/b/c", "a/b/d/e", "a/b0", "a0", "b", "é/ü", "z/y/x/w"}

func fill(t testing.TB, x *index.Index, keys ...string) {
	t.Helper()
	var muts []index.Mutation
	for _, key := range keys {
		muts = append(muts, put(key, int64(len(key))))
	}
	apply(t, x, muts...)
}

func TestList(t *testing.T) {
	x := create(t)
	fill(t, x, tree...)
	apply(t, x, index.MakeDir{Key: "a/empty"}, index.MakeDir{Key: "y"}, index.MakeDir{Key: "y!"})
	all := []string{"a/b/c", "a/b/d/e", "a/b!", "a/b0", "a!", "a0", "b", "z/y/x/w", "é/ü"}
	tests := []struct {
		name string
		o    index.ListOptions
		want []string
	}{
		{"root", index.ListOptions{}, []string{"a/", "a!", "a0", "b", "y/", "y!/", "z/", "é/"}},
		{"root after directory", index.ListOptions{After: "a"}, []string{"a!", "a0", "b", "y/", "y!/", "z/", "é/"}},
		{"root after something deeper", index.ListOptions{After: "a/b/c"}, []string{"a!", "a0", "b", "y/", "y!/", "z/", "é/"}},
		{"root after item", index.ListOptions{After: "a0"}, []string{"b", "y/", "y!/", "z/", "é/"}},
		{"root after what is not there", index.ListOptions{After: "c/d"}, []string{"y/", "y!/", "z/", "é/"}},
		{"root after the last", index.ListOptions{After: "é"}, nil},
		{"one level", index.ListOptions{Dir: "a"}, []string{"a/b/", "a/b!", "a/b0", "a/empty/"}},
		{"one level after itself", index.ListOptions{Dir: "a", After: "a"}, []string{"a/b/", "a/b!", "a/b0", "a/empty/"}},
		{"one level after directory", index.ListOptions{Dir: "a", After: "a/b"}, []string{"a/b!", "a/b0", "a/empty/"}},
		{"one level after deeper", index.ListOptions{Dir: "a", After: "a/b/d/e"}, []string{"a/b!", "a/b0", "a/empty/"}},
		{"one level after what comes before it", index.ListOptions{Dir: "a", After: "Z"}, []string{"a/b/", "a/b!", "a/b0", "a/empty/"}},
		{"one level after what comes behind it", index.ListOptions{Dir: "a", After: "b"}, nil},
		{"empty directory", index.ListOptions{Dir: "a/empty"}, nil},
		{"recursive", index.ListOptions{Recursive: true}, all},
		{"recursive after item", index.ListOptions{Recursive: true, After: "a/b/d/e"}, all[2:]},
		{"recursive after directory", index.ListOptions{Recursive: true, After: "a/b"}, all},
		{"recursive after middle of directory", index.ListOptions{Recursive: true, After: "a/b/cc"}, all[1:]},
		{"recursive below", index.ListOptions{Dir: "a/b", Recursive: true}, all[:2]},
		{"recursive below, after", index.ListOptions{Dir: "a/b", Recursive: true, After: "a/b/c"}, all[1:2]},
		{"recursive below, after what comes behind it", index.ListOptions{Dir: "a/b", Recursive: true, After: "a/b0"}, nil},
		{"recursive empty directory", index.ListOptions{Dir: "y", Recursive: true}, nil},
		{"recursive with directories", index.ListOptions{Recursive: true, Dirs: true}, []string{
			"a/", "a/b/", "a/b/c", "a/b/d/", "a/b/d/e", "a/b!", "a/b0", "a/empty/", "a!", "a0", "b", "y/", "y!/", "z/", "z/y/", "z/y/x/", "z/y/x/w", "é/", "é/ü",
		}},
	}
	// A snapshot may change after every few rows: the walk must not show it.
	for _, renew := range []time.Duration{time.Hour, 0} {
		x.SetRenewAfter(renew)
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s/renew=%v", tt.name, renew), func(t *testing.T) {
				equal(t, "listing", list(t, x, tt.o), tt.want)
			})
		}
	}
}

func TestListRefuses(t *testing.T) {
	x := create(t)
	fill(t, x, tree...)
	tests := []struct {
		o    index.ListOptions
		want error
	}{
		{index.ListOptions{Dir: "none"}, index.ErrNotFound},
		{index.ListOptions{Dir: "a/none"}, index.ErrNotFound},
		{index.ListOptions{Dir: "b/none"}, index.ErrNotFound},
		{index.ListOptions{Dir: "b"}, index.ErrNotDir},
		{index.ListOptions{Dir: "a/"}, index.ErrInvalid},
		{index.ListOptions{After: "a//b"}, index.ErrInvalid},
	}
	for _, tt := range tests {
		err := x.List(background, tt.o, func(e index.Entry) error {
			t.Errorf("list %+v: visited %q", tt.o, e.Key)
			return nil
		})
		if !errors.Is(err, tt.want) {
			t.Errorf("list %+v: got %v, want %v", tt.o, err, tt.want)
		}
	}
}

func TestListEndsWithFnAndContext(t *testing.T) {
	x := create(t)
	for i := range 100 {
		fill(t, x, fmt.Sprintf("%03d", i))
	}
	mine := errors.New("enough")
	n := 0
	err := x.List(background, index.ListOptions{}, func(index.Entry) error {
		if n++; n == 5 {
			return mine
		}
		return nil
	})
	if err != mine || n != 5 {
		t.Errorf("got %v after %d entries, want %v after 5", err, n, mine)
	}
	ctx, cancel := context.WithCancel(background)
	n = 0
	err = x.List(ctx, index.ListOptions{}, func(index.Entry) error {
		n++
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) || n > 50 {
		t.Errorf("got %v after %d entries, want %v soon", err, n, context.Canceled)
	}
}

// While it keeps up, a walk does not see what happens meanwhile.
func TestListSnapshot(t *testing.T) {
	x := create(t)
	var want []string
	for i := range 200 {
		want = append(want, fmt.Sprintf("%03d", i))
	}
	fill(t, x, want...)
	var got []string
	err := x.List(background, index.ListOptions{}, func(e index.Entry) error {
		if got = append(got, e.Key); len(got) == 50 {
			apply(t, x, index.Delete{Key: "100"}, put("1005", 1), index.Move{From: "150", To: "d/e"})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "listing", got, want)
}

// A walk over many snapshots, with changes all the while, visits what stays
// exactly once and in order.
func TestListRenewal(t *testing.T) {
	for _, recursive := range []bool{false, true} {
		t.Run(fmt.Sprintf("recursive=%v", recursive), func(t *testing.T) {
			x := create(t)
			x.SetRenewAfter(0)
			var stay, come []string
			for i := range 300 {
				name := fmt.Sprintf("k%03d", i)
				switch i % 3 {
				case 0:
					stay = append(stay, name)
				case 1:
					stay = append(stay, name+"/sub/item")
				case 2:
					come = append(come, name)
				}
			}
			fill(t, x, stay...)
			random := rand.New(rand.NewPCG(1, 2))
			seen := map[string]int{}
			last := ""
			err := x.List(background, index.ListOptions{Recursive: recursive}, func(e index.Entry) error {
				seen[e.Key]++
				if e.Key <= last {
					t.Errorf("%q after %q", e.Key, last)
				}
				last = e.Key
				// An item comes, goes, or becomes a directory: before the walk or behind it.
				name := come[random.IntN(len(come))]
				_, err := x.Apply(background, put(name, 1))
				if at, getErr := x.Get(name); errors.Is(err, index.ErrRefUsed) && getErr == nil && !at.Dir {
					apply(t, x, index.Move{From: name, To: name + "x"}, index.MakeDir{Key: name})
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range stay {
				if !recursive {
					name, _, _ = strings.Cut(name, "/")
				}
				if seen[name] != 1 {
					t.Errorf("%q was visited %d times", name, seen[name])
				}
			}
			for name, n := range seen {
				if n != 1 {
					t.Errorf("%q was visited %d times", name, n)
				}
			}
		})
	}
}

func TestTrashOrderAndRenewal(t *testing.T) {
	x := create(t)
	x.SetRenewAfter(0)
	random := rand.New(rand.NewPCG(3, 4))
	var want []int
	for i := range 100 {
		hours := random.IntN(50)
		want = append(want, hours)
		key := fmt.Sprint(i)
		apply(t, x, put(key, 1), index.Delete{Key: key, Now: clock, TrashUntil: clock.Add(time.Duration(hours) * time.Hour)})
	}
	slices.Sort(want)
	var got []int
	var ids []string
	err := x.Trash(time.Time{}, func(r index.Removed) error {
		got = append(got, int(r.Expires.Sub(clock).Hours()))
		ids = append(ids, r.ID)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "expiries", got, want)
	if !slices.IsSorted(ids) {
		t.Error("IDs do not sort by expiry")
	}
}

// A panic of the caller's function is not taken for a damaged page.
func TestWalksPassPanicsOn(t *testing.T) {
	x := create(t)
	backup := put("a/b", 1)
	backup.Backup = true
	apply(t, x, backup, put("c", 1), index.Delete{Key: "c"}, index.PutJob{Job: index.Job{ID: "j"}})
	walks := map[string]func() error{
		"list": func() error {
			return x.List(t.Context(), index.ListOptions{}, func(index.Entry) error { panic("mine") })
		},
		"trash":   func() error { return x.Trash(time.Time{}, func(index.Removed) error { panic("mine") }) },
		"jobs":    func() error { return x.Jobs(func(index.Job) error { panic("mine") }) },
		"writers": func() error { return x.Writers(func(index.Freshness) error { panic("mine") }) },
	}
	for name, walk := range walks {
		func() {
			defer func() {
				if got := recover(); got != "mine" {
					t.Errorf("%s: recovered %v, want mine", name, got)
				}
			}()
			t.Errorf("%s: returned %v", name, walk())
		}()
	}
}

// TestListWhole: a walk that is to see one state sees it, however long it takes; another one goes on in a newer state.
func TestListWhole(t *testing.T) {
	for _, whole := range []bool{true, false} {
		x := create(t)
		for i := range 100 {
			fill(t, x, fmt.Sprintf("a/%03d", i))
		}
		x.SetRenewAfter(0)
		n := 0
		err := x.List(background, index.ListOptions{Recursive: true, Whole: whole}, func(index.Entry) error {
			if n++; n == 1 {
				fill(t, x, "b/later")
			}
			return nil
		})
		if want := map[bool]int{true: 100, false: 101}[whole]; err != nil || n != want {
			t.Errorf("whole %v: %d items, %v, want %d", whole, n, err, want)
		}
	}
}
