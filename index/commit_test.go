package index_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"packhouse/index"
)

// faulty is an index whose hooks return what the test sets.
type faulty struct {
	*index.Index
	path          string
	before, after atomic.Pointer[error]
	commits       atomic.Int64
}

func createFaulty(t *testing.T) *faulty {
	t.Helper()
	f := &faulty{path: filepath.Join(t.TempDir(), "index.db")}
	if err := index.Create(f.path, nil); err != nil {
		t.Fatal(err)
	}
	hook := func(p *atomic.Pointer[error]) func() error {
		return func() error {
			if err := p.Load(); err != nil {
				return *err
			}
			return nil
		}
	}
	after := hook(&f.after)
	f.Index = open(t, f.path, index.Options{BeforeCommit: hook(&f.before), AfterCommit: func() error { f.commits.Add(1); return after() }})
	return f
}

// A failed commit is of two kinds: not done, and done yet reported as failed.
// After either all later groups are refused, and what holds shows on reopening.
func TestCommitFailure(t *testing.T) {
	broken := errors.New("input/output error")
	for _, applied := range []bool{false, true} {
		t.Run(fmt.Sprintf("applied=%v", applied), func(t *testing.T) {
			f := createFaulty(t)
			apply(t, f.Index, put("first", 1))
			if applied {
				f.after.Store(&broken)
			} else {
				f.before.Store(&broken)
			}
			results, err := f.Apply(background, put("second", 2))
			if !errors.Is(err, index.ErrFailed) || !errors.Is(err, broken) || results != nil {
				t.Fatalf("got %v, %v, want ErrFailed and its cause", results, err)
			}
			if err := f.Failed(); !errors.Is(err, broken) {
				t.Errorf("Failed: got %v, want %v", err, broken)
			}
			f.before.Store(nil)
			f.after.Store(nil)
			for _, m := range []index.Mutation{put("third", 3), index.Require{Key: "first", Ref: "ref-first"}} {
				if _, err := f.Apply(background, m); !errors.Is(err, index.ErrFailed) {
					t.Errorf("later group: got %v, want %v", err, index.ErrFailed)
				}
			}
			if _, err := f.Get("first"); err != nil {
				t.Errorf("reading: %v", err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			want := index.Counters{Items: 1, Bytes: 1}
			if applied {
				want = index.Counters{Items: 2, Bytes: 3}
			}
			x := open(t, f.path, index.Options{})
			equal(t, "counters", x.Counters(), want)
			apply(t, x, put("fourth", 4))
		})
	}
}

// What was written but not synced yet is not shown: a reader would otherwise act on a
// change that a power failure takes back. Readers do not wait for it either.
func TestReadersSeeDurableStateOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	if err := index.Create(path, nil); err != nil {
		t.Fatal(err)
	}
	entered, proceed := make(chan struct{}), make(chan struct{})
	x := open(t, path, index.Options{AfterCommit: func() error { // written by now
		close(entered)
		<-proceed
		return nil
	}})
	var all sync.WaitGroup
	all.Go(func() { apply(t, x, put("a", 1)) })
	<-entered
	if _, err := x.Get("a"); !errors.Is(err, index.ErrNotFound) {
		t.Errorf("get before the commit is durable: got %v, want %v", err, index.ErrNotFound)
	}
	equal(t, "list before the commit is durable", list(t, x, index.ListOptions{}), []string(nil))
	report, err := x.Check(t.Context())
	if err != nil || report.Counted != (index.Counters{}) {
		t.Errorf("check before the commit is durable: got %+v, %v", report, err)
	}
	close(proceed)
	all.Wait()
	equal(t, "list afterwards", list(t, x, index.ListOptions{}), []string{"a"})
}

// A full disk fails what is being committed, not the repository.
func TestNoSpace(t *testing.T) {
	f := createFaulty(t)
	apply(t, f.Index, put("first", 1))
	before := everything(t, f.Index)
	var full error = &fs.PathError{Op: "write", Path: f.path, Err: syscall.ENOSPC}
	f.before.Store(&full)
	_, err := f.Apply(background, put("second", 2))
	if !errors.Is(err, index.ErrNoSpace) || !errors.Is(err, syscall.ENOSPC) || errors.Is(err, index.ErrFailed) {
		t.Fatalf("got %v, want %v", err, index.ErrNoSpace)
	}
	if strings.Contains(err.Error(), filepath.Dir(f.path)) {
		t.Errorf("the error %q names the place on disk", err)
	}
	if err := f.Failed(); err != nil {
		t.Errorf("Failed: got %v, want nil", err)
	}
	equal(t, "after a full disk", everything(t, f.Index), before)
	f.before.Store(nil)
	apply(t, f.Index, put("second", 2))

	// A sync that finds the disk full leaves pages in doubt.
	full = &fs.PathError{Op: "sync", Path: f.path, Err: syscall.ENOSPC}
	f.before.Store(&full)
	if _, err := f.Apply(background, put("third", 3)); !errors.Is(err, index.ErrFailed) {
		t.Fatalf("got %v, want %v", err, index.ErrFailed)
	}
}

// What changes nothing costs no sync.
func TestNoCommitWithoutChange(t *testing.T) {
	f := createFaulty(t)
	apply(t, f.Index, put("a/x", 1), index.SetMeta{Name: "m", Value: []byte("v")})
	before, err := f.Commits()
	if err != nil {
		t.Fatal(err)
	}
	apply(t, f.Index)
	apply(t, f.Index, index.Require{Key: "a/x", Ref: "ref-a/x"})
	apply(t, f.Index, index.MakeDir{Key: "a"}, index.PurgeTrash{IDs: []string{"none"}}, index.ExpireLocks{Now: clock})
	apply(t, f.Index, index.SetMeta{Name: "m", Value: []byte("v")}, index.SetMeta{Name: "none"}, index.DeleteJob{ID: "none"})
	apply(t, f.Index, index.Move{From: "a/x", To: "a/x"})
	refuse(t, f.Index, index.ErrConflict, 2, index.Delete{Key: "a/x"}, put("y", 1), index.Require{Key: "y", Ref: "r"})
	after, err := f.Commits()
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "transactions", after, before)
	equal(t, "commits", f.commits.Load(), int64(1))
}

// Groups that wait together are committed together, and each has its own outcome.
func TestGroupsShareCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	if err := index.Create(path, nil); err != nil {
		t.Fatal(err)
	}
	var commits atomic.Int64
	entered, proceed := make(chan struct{}), make(chan struct{})
	x := open(t, path, index.Options{BeforeCommit: func() error {
		if commits.Add(1) == 1 {
			close(entered)
			<-proceed
		}
		return nil
	}})
	var all sync.WaitGroup
	all.Go(func() { apply(t, x, put("first", 1)) })
	<-entered
	const waiting = 40
	outcomes := make([]error, waiting)
	for i := range waiting {
		all.Go(func() {
			key := fmt.Sprint(i)
			if i%4 == 0 { // fails, with something to undo
				_, outcomes[i] = x.Apply(background, put(key, 1), index.Require{Key: "none", Ref: "r"})
			} else {
				_, outcomes[i] = x.Apply(background, put(key, 1))
			}
		})
	}
	x.WaitQueued(waiting)
	close(proceed)
	all.Wait()
	equal(t, "commits", commits.Load(), int64(2))
	for i, err := range outcomes {
		_, getErr := x.Get(fmt.Sprint(i))
		if failing := i%4 == 0; failing != errors.Is(err, index.ErrNotFound) || failing != errors.Is(getErr, index.ErrNotFound) {
			t.Errorf("group %d: got %v, and then %v", i, err, getErr)
		}
	}
	equal(t, "counters", x.Counters(), index.Counters{Items: 1 + waiting*3/4, Bytes: 1 + waiting*3/4})
}

func TestApplyContext(t *testing.T) {
	x := create(t)
	ctx, cancel := context.WithCancel(background)
	cancel()
	if _, err := x.Apply(ctx, put("a", 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if _, err := x.Get("a"); !errors.Is(err, index.ErrNotFound) {
		t.Errorf("cancelled group: got %v, want %v", err, index.ErrNotFound)
	}
}

// From the queue on, the outcome counts and ctx does not.
func TestApplyContextAfterQueue(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	if err := index.Create(path, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(background)
	x := open(t, path, index.Options{BeforeCommit: func() error { cancel(); return nil }})
	if _, err := x.Apply(ctx, put("a", 1)); err != nil {
		t.Errorf("got %v, want the outcome", err)
	}
}

func TestClose(t *testing.T) {
	x := create(t)
	var all sync.WaitGroup
	var done atomic.Int64
	start := make(chan struct{})
	for i := range 20 {
		all.Go(func() {
			<-start
			for n := 0; ; n++ {
				_, err := x.Apply(background, put(fmt.Sprintf("%d/%d", i, n), 1))
				if errors.Is(err, index.ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				if done.Add(1) == 50 {
					all.Go(func() {
						if err := x.Close(); err != nil {
							t.Error(err)
						}
					})
				}
			}
		})
	}
	close(start)
	all.Wait()
	equal(t, "items", x.Counters().Items, done.Load())
	if err := x.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if _, err := x.Get("a"); !errors.Is(err, index.ErrClosed) {
		t.Errorf("get: got %v, want %v", err, index.ErrClosed)
	}
	if err := x.List(background, index.ListOptions{}, func(index.Entry) error { return nil }); !errors.Is(err, index.ErrClosed) {
		t.Errorf("list: got %v, want %v", err, index.ErrClosed)
	}
}
