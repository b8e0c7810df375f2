package blobstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"packhouse/blobstore"
	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
)

// records is what a caller has on stable storage about its blobs.
type records struct {
	items map[blobstore.Ref][]byte // content by reference
	trash map[blobstore.Ref]bool   // to be removed
	blobs uint64                   // how many were begun, so that no two are alike
}

func newRecords() *records {
	return &records{items: make(map[blobstore.Ref][]byte), trash: make(map[blobstore.Ref]bool)}
}

func (r *records) content(size int) []byte {
	r.blobs++
	return random(r.blobs, size)
}

// story does everything a caller does to a store, up to the first error, and notes what the caller then
// holds to be true.
func (r *records) story(s *blobstore.Store) error {
	store := func(size int) (blobstore.Ref, error) {
		content := r.content(size)
		ref, err := put(s, content, fmt.Sprint("blob ", r.blobs))
		if err == nil {
			r.items[ref] = content
		}
		return ref, err
	}
	settled, err := store(1000)
	if err != nil {
		return err
	}
	if err := s.Settle(settled); err != nil {
		return err
	}
	unsettledLarge, err := store(20_000) // never settled
	if err != nil {
		return err
	}
	for _, commit := range []bool{true, false} {
		content := r.items[unsettledLarge]
		file, err := s.Replace(context.Background(), unsettledLarge, infoOf(content), nil, bytes.NewReader(content))
		if err == nil && commit {
			err = file.Commit()
		}
		if err != nil {
			return err
		}
		file.Discard()
	}
	refused, err := put(s, r.content(10), "the index refuses this one")
	if err != nil {
		return err
	}
	if err := s.Remove(refused); err != nil {
		return err
	}
	unsettled, err := store(0)
	if err != nil {
		return err
	}
	for _, ref := range []blobstore.Ref{settled, unsettled} {
		delete(r.items, ref)
		r.trash[ref] = true
	}
	if err := s.RemoveAll([]blobstore.Ref{settled, unsettled}); err != nil {
		return err
	}
	clear(r.trash)
	w, err := write(s, r.content(3000))
	if err != nil {
		return err
	}
	w.Abort()
	return nil
}

// referenced answers Sweep.
func (r *records) referenced(ref blobstore.Ref) (bool, error) {
	_, ok := r.items[ref]
	return ok || r.trash[ref], nil
}

// check starts again on what is left in dir: all that has a record must be whole, and nothing else be
// there. In the end dir is empty again.
func (r *records) check(t *testing.T, dir string) {
	t.Helper()
	s := open(t, dir, unsynced{vfs.OS()})
	if _, err := s.Sweep(context.Background(), r.referenced); err != nil {
		t.Errorf("sweep: %v", err)
	}
	if err := s.RemoveAll(slices.Collect(maps.Keys(r.trash))); err != nil {
		t.Errorf("remove the trash: %v", err)
	}
	refs := slices.Collect(maps.Keys(r.items))
	for ref, content := range r.items {
		wantContent(t, s, ref, content)
	}
	wantFiles(t, dir, refs, nil)
	if err := s.RemoveAll(refs); err != nil {
		t.Errorf("clean up: %v", err)
	}
}

// unsynced spares a test, which nobody unplugs, the time of real syncs.
type unsynced struct{ vfs.FS }

type unsyncedFile struct{ vfs.File }

func (f unsynced) Create(name string) (vfs.File, error) {
	file, err := f.FS.Create(name)
	return unsyncedFile{file}, err
}

func (unsyncedFile) Sync() error      { return nil }
func (unsynced) SyncDir(string) error { return nil }

// storyCalls is what a story without failures calls.
func storyCalls(t *testing.T, dir string) []vfstest.Call {
	t.Helper()
	f, r := vfstest.NewFailing(unsynced{vfs.OS()}), newRecords()
	if err := r.story(open(t, dir, f)); err != nil {
		t.Fatal(err)
	}
	calls := f.Calls()
	r.check(t, dir)
	return calls
}

// TestFailingCalls lets every call of a story fail, in both ways and for several reasons. What was
// acknowledged is whole afterwards, nothing else is left, and the store
// is either usable or says that it is not.
func TestFailingCalls(t *testing.T) {
	dir := newDir(t)
	calls, hits := storyCalls(t, dir), 0
	for n := range calls {
		for _, when := range []vfstest.When{vfstest.Before, vfstest.After} {
			for _, cause := range []error{syscall.EIO, syscall.ENOSPC, syscall.EMFILE} {
				f, r := vfstest.NewFailing(unsynced{vfs.OS()}), newRecords()
				s := open(t, dir, f)
				f.FailAt(n+1, when, cause)
				err := r.story(s)
				if !f.Hit() {
					// Two blobs came to lie in one shard, by chance, which takes fewer calls.
					r.check(t, dir)
					continue
				}
				hits++
				call := f.Calls()[n] // it may have become another by the same chance
				name := fmt.Sprintf("call %d, %s, %v, %v", n+1, call.Op, when, cause)
				// Of an upload that is given up, whether its marker is durable matters to the store alone.
				if err == nil && call.Op != vfstest.Remove && (call.Op != vfstest.SyncDir || s.Failed() == nil) {
					t.Errorf("%s: nobody was told", name)
				}
				checkError(t, name, err, dir)
				f.Reset()
				content := r.content(100)
				switch ref, err := put(s, content, ""); {
				case s.Failed() == nil && err == nil:
					r.items[ref] = content
				case s.Failed() == nil:
					t.Errorf("%s: a blob after it: %v", name, err)
				case !errors.Is(err, blobstore.ErrFailed) || !errors.Is(s.Failed(), cause):
					t.Errorf("%s: a blob after it: got %v, store failed with %v; want ErrFailed", name, err, s.Failed())
				}
				r.check(t, dir)
				if t.Failed() {
					return
				}
			}
		}
	}
	if want := len(calls) * 6 * 9 / 10; hits < want {
		t.Errorf("only %d calls failed, want %d and more", hits, want)
	}
}

func checkError(t *testing.T, name string, err error, dir string) {
	t.Helper()
	if err != nil && strings.Contains(err.Error(), dir) {
		t.Errorf("%s: %q names a path", name, err)
	}
}

// TestErrorKinds: which errors end a blob, and which the store.
func TestErrorKinds(t *testing.T) {
	type nth struct {
		op vfstest.Op
		n  int
	}
	var (
		create, payload = nth{vfstest.Create, 1}, nth{vfstest.Write, 1}
		sums, sumsBytes = nth{vfstest.Create, 2}, nth{vfstest.Write, 2}
		sync, other     = nth{vfstest.Sync, 1}, nth{vfstest.Sync, 2}
		incoming, shard = nth{vfstest.SyncDir, 1}, nth{vfstest.SyncDir, 2}
		link            = nth{vfstest.Link, 1}
	)
	tests := []struct {
		call    nth
		cause   error
		noSpace bool
		failed  bool
	}{
		{create, syscall.ENOSPC, true, false},
		{create, syscall.EDQUOT, true, false},
		{create, syscall.EMFILE, false, false},
		{create, syscall.EIO, false, true},
		{create, syscall.EROFS, false, true},
		{payload, syscall.ENOSPC, true, false},
		{payload, syscall.EDQUOT, true, false},
		{payload, syscall.EFBIG, true, false},
		{payload, syscall.EIO, false, true},
		{sums, syscall.ENOSPC, true, false},
		{sums, syscall.EIO, false, true},
		{sumsBytes, syscall.ENOSPC, true, false},
		{sumsBytes, syscall.EIO, false, true},
		{other, syscall.ENOSPC, true, true},
		{other, syscall.EIO, false, true},
		{sync, syscall.ENOSPC, true, true},
		{sync, syscall.EIO, false, true},
		{incoming, syscall.ENOSPC, true, true},
		{incoming, syscall.EIO, false, true},
		{link, syscall.ENOSPC, true, false},
		{link, syscall.EIO, false, true},
		{link, syscall.ENOENT, false, true},
		{shard, syscall.ENOSPC, true, true},
		{shard, syscall.EIO, false, true},
	}
	dir := newDir(t)
	for _, test := range tests {
		for _, when := range []vfstest.When{vfstest.Before, vfstest.After} {
			name := fmt.Sprintf("%s %d, %v, %v", test.call.op, test.call.n, test.cause, when)
			f := vfstest.NewFailing(unsynced{vfs.OS()})
			s := open(t, dir, f)
			f.FailOp(test.call.op, test.call.n, when, test.cause)
			_, err := put(s, []byte("content"), "label")
			if !errors.Is(err, test.cause) || errors.Is(err, blobstore.ErrNoSpace) != test.noSpace || errors.Is(err, blobstore.ErrFailed) != test.failed {
				t.Errorf("%s: got %v; want no space %v, failed %v", name, err, test.noSpace, test.failed)
			}
			checkError(t, name, err, dir)
			if failed := s.Failed(); (failed != nil) != test.failed || failed != nil && !errors.Is(failed, test.cause) {
				t.Errorf("%s: store failed with %v, want %v", name, failed, test.failed)
			}
			if !test.failed && (test.call != create || when == vfstest.Before) {
				wantFiles(t, dir, nil, nil)
			}
			// A sync that is tried again may succeed without having made anything durable.
			calls, seen, n := f.Calls(), make(map[vfstest.Call]bool), 0
			failedAt := slices.IndexFunc(calls, func(call vfstest.Call) bool {
				seen[call] = true
				if call.Op == test.call.op {
					n++
				}
				return n == test.call.n
			})
			for _, call := range calls[failedAt+1:] {
				// The body and its sums may be written while incoming/ is synced; and the last three syncs run at once: one may begin when
				// another has failed.
				besides := test.call == incoming && call.Op == vfstest.Write ||
					(test.call == payload || test.call == sums || test.call == sumsBytes) && call.Op == incoming.op && strings.HasSuffix(call.Name, "/"+blobstore.IncomingDir) ||
					(test.call == sync || test.call == other || test.call == shard) && (call.Op == sync.op || call.Op == shard.op) && !seen[call]
				if call.Op != vfstest.Remove && (test.failed || call.Op != vfstest.SyncDir) && !besides {
					t.Errorf("%s: %s after it", name, call.Op)
				}
			}
			f.Reset()
			_, createErr := s.Create(context.Background(), -1)
			removeErr := s.Remove(blobstore.RefOf(goldenName))
			for call, err := range map[string]error{"create": createErr, "remove": removeErr} {
				if errors.Is(err, blobstore.ErrFailed) != test.failed || err != nil && !errors.Is(err, test.cause) {
					t.Errorf("%s: %s after it: got %v", name, call, err)
				}
			}
			newRecords().check(t, dir)
		}
	}
}

// TestFirstFailureStays: whatever comes later, the first reason is the one to look at.
func TestFirstFailureStays(t *testing.T) {
	f := vfstest.NewFailing(unsynced{vfs.OS()})
	s := open(t, newDir(t), f)
	w, err := write(s, []byte("begun before"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := write(s, []byte("begun before, too"))
	if err != nil {
		t.Fatal(err)
	}
	f.FailAt(2, vfstest.Before, syscall.EIO)
	if _, _, err := w.Commit(context.Background(), nil); !errors.Is(err, syscall.EIO) {
		t.Errorf("got %v, want EIO", err)
	}
	before := len(f.Calls())
	if _, _, err := other.Commit(context.Background(), nil); !errors.Is(err, blobstore.ErrFailed) || !errors.Is(err, syscall.EIO) {
		t.Errorf("commit in a failed store: got %v, want ErrFailed for EIO", err)
	}
	for _, call := range f.Calls()[before:] {
		if call.Op != vfstest.Remove {
			t.Errorf("a failed store still calls %s", call.Op)
		}
	}
	if !errors.Is(s.Failed(), syscall.EIO) {
		t.Errorf("failed: got %v, want EIO", s.Failed())
	}
}

// busyFS cannot open a directory at some of its syncs: all descriptors are taken.
type busyFS struct {
	vfs.FS
	busy  []int // the first sync is 1
	syncs *atomic.Int64
}

func (f busyFS) SyncDir(name string) error {
	if slices.Contains(f.busy, int(f.syncs.Add(1))) {
		return &fs.PathError{Op: "open", Path: name, Err: syscall.EMFILE}
	}
	return f.FS.SyncDir(name)
}

// TestNoDescriptor: too many open files fail what is under way, not the store: no sync was tried, so that
// nothing is in doubt.
func TestNoDescriptor(t *testing.T) {
	tests := map[string][]int{"incoming": {1}, "shard": {2}, "shard, and when the blob is taken back": {2, 3}}
	for name, busy := range tests {
		dir, r := newDir(t), newRecords()
		s := open(t, dir, busyFS{unsynced{vfs.OS()}, busy, new(atomic.Int64)})
		_, err := put(s, r.content(100), "")
		if !errors.Is(err, syscall.EMFILE) || s.Failed() != nil {
			t.Errorf("%s: got %v, store failed with %v; want EMFILE alone", name, err, s.Failed())
		}
		checkError(t, name, err, dir)
		content := r.content(100)
		ref, err := put(s, content, "")
		if err != nil {
			t.Fatalf("%s: the blob after it: %v", name, err)
		}
		r.items[ref] = content
		r.check(t, dir)
	}
}

// shortFS writes less than it is given, and says nothing.
type shortFS struct{ vfs.FS }

type shortFile struct{ vfs.File }

func (f shortFS) Create(name string) (vfs.File, error) {
	file, err := f.FS.Create(name)
	return shortFile{file}, err
}

func (f shortFile) Write(p []byte) (int, error) { return f.File.Write(p[:len(p)-1]) }

func TestShortWrite(t *testing.T) {
	dir := newDir(t)
	s := open(t, dir, shortFS{vfs.OS()})
	w, err := s.Create(context.Background(), -1)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := w.Write([]byte("0123456789")); n != 9 || !errors.Is(err, blobstore.ErrNoSpace) {
		t.Errorf("got %d, %v; want 9, ErrNoSpace", n, err)
	}
	if _, err := w.Write([]byte("more")); !errors.Is(err, blobstore.ErrNoSpace) {
		t.Errorf("write after it: got %v, want ErrNoSpace", err)
	} else if !strings.Contains(err.Error(), "write blob") {
		t.Errorf("write after it: %q does not say what was written", err)
	}
	if _, _, err := w.Commit(context.Background(), nil); !errors.Is(err, blobstore.ErrNoSpace) {
		t.Errorf("commit after it: got %v, want ErrNoSpace", err)
	}
	wantFiles(t, dir, nil, nil)
	if s.Failed() != nil {
		t.Errorf("store failed: %v", s.Failed())
	}
}

// TestKilled stops the process at every call: the kernel keeps what was called before.
func TestKilled(t *testing.T) {
	dir := newDir(t)
	for n := range storyCalls(t, dir) {
		for _, when := range []vfstest.When{vfstest.Before, vfstest.After} {
			f, r := vfstest.NewFailing(unsynced{vfs.OS()}), newRecords()
			s := open(t, dir, f)
			f.StopAt(n+1, when, syscall.EIO)
			_ = r.story(s) // a process that is no more has nobody to tell
			r.check(t, dir)
			if t.Failed() {
				t.Fatalf("killed at call %d, %v", n+1, when)
			}
		}
	}
}

// TestPowerCut takes the power at every call of a story, and then again at every call of
// the sweep that follows; all that was not synced is lost, or by chance some of it.
func TestPowerCut(t *testing.T) {
	dir := newDir(t)
	calls := len(storyCalls(t, dir))
	chances := 4
	if testing.Short() {
		chances = 2
	}
	for n := range calls {
		for _, when := range []vfstest.When{vfstest.Before, vfstest.After} {
			for chance := range chances {
				powerCut(t, dir, n+1, when, chance)
				if t.Failed() {
					t.Fatalf("power cut at call %d, %v, chance %d", n+1, when, chance)
				}
			}
		}
	}
}

func powerCut(t *testing.T, dir string, n int, when vfstest.When, chance int) {
	t.Helper()
	var source *rand.Rand
	if chance > 0 {
		source = rand.New(rand.NewPCG(uint64(n), uint64(chance)))
	}
	r := newRecords()
	again := func(run func(*blobstore.Store) error, n int) (hit bool) {
		l := vfstest.NewLossy(t, dir)
		f := vfstest.NewFailing(l)
		s, err := blobstore.Open(blobstore.Options{Dir: dir, FS: f})
		if err != nil {
			t.Fatal(err)
		}
		f.StopAt(n, when, syscall.EIO)
		err = run(s)
		if !f.Hit() && err != nil {
			t.Errorf("with power: %v", err)
		}
		if err := l.Crash(source); err != nil {
			t.Fatal(err)
		}
		return f.Hit()
	}
	again(r.story, n)
	sweep := func(s *blobstore.Store) error {
		_, err := s.Sweep(context.Background(), r.referenced)
		return err
	}
	for m := 1; again(sweep, m) && !t.Failed(); m++ {
	}
	r.check(t, dir)
}

// TestRemoveTwice: a removal that a killed process did not make durable is made so by
// repeating it, although the name is missing by then.
func TestRemoveTwice(t *testing.T) {
	dir := newDir(t)
	l := vfstest.NewLossy(t, dir)
	f := vfstest.NewFailing(l)
	s := open(t, dir, f)
	ref := mustPut(t, s, "content", "")
	mustSettle(t, s, ref)
	f.StopAt(2, vfstest.Before, syscall.EIO)
	if err := s.Remove(ref); err == nil {
		t.Error("removed without a sync")
	}
	if err := open(t, dir, l).Remove(ref); err != nil {
		t.Error(err)
	}
	if err := l.Crash(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, dir, nil).Open(ref, unknown); !errors.Is(err, blobstore.ErrNotFound) {
		t.Errorf("after the power cut: got %v, want ErrNotFound", err)
	}
}

// TestInitInterrupted: an Init that was cut short, at any call, is mended by another one.
func TestInitInterrupted(t *testing.T) {
	for _, n := range []int{1, 130, 259, 260} {
		for _, when := range []vfstest.When{vfstest.Before, vfstest.After} {
			dir := t.TempDir()
			l := vfstest.NewLossy(t, dir)
			f := vfstest.NewFailing(l)
			f.StopAt(n, when, syscall.EIO)
			if err := blobstore.Init(f, dir); !errors.Is(err, syscall.EIO) {
				t.Errorf("call %d: got %v, want EIO", n, err)
			} else {
				checkError(t, "init", err, dir)
			}
			if err := l.Crash(rand.New(rand.NewPCG(uint64(n), 0))); err != nil {
				t.Fatal(err)
			}
			l = vfstest.NewLossy(t, dir)
			if err := blobstore.Init(l, dir); err != nil {
				t.Errorf("call %d %v: second Init: %v", n, when, err)
			}
			if err := l.Crash(nil); err != nil {
				t.Fatal(err)
			}
			open(t, dir, nil)
		}
	}
}

// TestParallel: many at once, then one of them meets a sync error. What was acknowledged is whole,
// nothing else is left.
func TestParallel(t *testing.T) {
	dir := newDir(t)
	for _, failAt := range []int{1 << 30, 40, 150, 300} {
		f, r := vfstest.NewFailing(unsynced{vfs.OS()}), newRecords()
		s := open(t, dir, f)
		f.FailAt(failAt, vfstest.Before, syscall.EIO)
		var mu sync.Mutex // guards r
		var workers sync.WaitGroup
		for worker := range 16 {
			workers.Go(func() { work(t, s, r, &mu, uint64(worker)) })
		}
		workers.Wait()
		if failed := s.Failed(); failed != nil && !f.Hit() {
			t.Errorf("store failed: %v", failed)
		}
		f.Reset()
		r.check(t, dir)
	}
}

// work commits, reads, settles and removes, until an error that failAt explains.
func work(t *testing.T, s *blobstore.Store, r *records, mu *sync.Mutex, worker uint64) {
	for i := range uint64(12) {
		content := random(worker*100+i, int(worker*i*37))
		ref, err := put(s, content, "label")
		if err != nil {
			if !errors.Is(err, syscall.EIO) {
				t.Errorf("worker %d: %v", worker, err)
			}
			return
		}
		mu.Lock()
		r.items[ref] = content
		mu.Unlock()
		if got, err := get(s, ref); err != nil || !bytes.Equal(got, content) {
			t.Errorf("worker %d: got %d bytes, %v; want %d", worker, len(got), err, len(content))
		}
		if i%3 == 0 {
			continue
		}
		if err := s.Settle(ref); err != nil && !errors.Is(err, syscall.EIO) {
			t.Errorf("worker %d: settle: %v", worker, err)
		}
		if i%3 == 1 {
			continue
		}
		mu.Lock()
		delete(r.items, ref)
		r.trash[ref] = true
		mu.Unlock()
		if err := s.Remove(ref); err != nil {
			if !errors.Is(err, syscall.EIO) {
				t.Errorf("worker %d: remove: %v", worker, err)
			}
			return
		}
		mu.Lock()
		delete(r.trash, ref)
		mu.Unlock()
	}
}
