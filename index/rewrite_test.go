package index_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"packhouse/blobstore/vfs"
	"packhouse/index"
)

// shrunk makes an index of many rows of which nearly all are deleted.
func shrunk(t *testing.T, path string, o index.Options) *index.Index {
	t.Helper()
	x := mustOpen(t, path, o)
	for part := range 10 {
		muts := make([]index.Mutation, 1000)
		for i := range muts {
			key := fmt.Sprintf("packs/%04d-%s", part*1000+i, strings.Repeat("x", 50))
			muts[i] = index.Put{Key: key, Item: index.Item{Size: 1, Ref: fmt.Sprint(part*1000 + i)}, Limit: -1, Now: clock}
		}
		apply(t, x, muts...)
	}
	if err := x.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for part := range 10 {
		muts := make([]index.Mutation, 990)
		for i := range muts {
			muts[i] = index.Delete{Key: fmt.Sprintf("packs/%04d-%s", part*1000+i, strings.Repeat("x", 50)), Now: clock, TrashUntil: clock}
		}
		for _, r := range apply(t, x, muts...) {
			ids = append(ids, r.TrashID)
		}
	}
	apply(t, x, index.PurgeTrash{IDs: ids})
	return x
}

func sizeOf(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// TestRewrite: a file of which most is free becomes as small as its rows, and holds the same. It stays locked, it is the one that
// lies under its name, and it is read again after a restart.
func TestRewrite(t *testing.T) {
	path := newIndex(t)
	x := shrunk(t, path, index.Options{})
	want := everything(t, x)
	if err := x.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	before := sizeOf(t, path)
	apply(t, x, put("in the log", 1)) // not in the file when it begins
	apply(t, x, index.Delete{Key: "in the log", Now: clock, TrashUntil: clock}, index.MakeDir{Key: "dir", Now: clock}, index.RemoveDir{Key: "dir"})
	removed := trashIDs(t, x, "in the log")
	apply(t, x, index.PurgeTrash{IDs: removed})
	if err := x.Rewrite(background); err != nil {
		t.Fatal(err)
	}
	if after := sizeOf(t, path); after > before/4 {
		t.Errorf("the file has %d bytes, and had %d", after, before)
	}
	if err := x.Attached(); err != nil {
		t.Error(err)
	}
	if _, err := index.Open(path, index.Options{}); !errors.Is(err, index.ErrLocked) {
		t.Errorf("second open: got %v, want %v", err, index.ErrLocked)
	}
	equal(t, "content", everything(t, x), want)
	checkWhole(t, x)
	applyToFile(t, x, put("goes on", 1))
	applyToFile(t, x, index.Delete{Key: "goes on", Now: clock, TrashUntil: clock})
	apply(t, x, index.PurgeTrash{IDs: trashIDs(t, x, "goes on")})
	mustClose(t, x)
	x = open(t, path, index.Options{})
	equal(t, "content after a restart", everything(t, x), want)
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestRewriteUnderLoad: readers and writers go on while the file is rewritten again and again, and nothing that was acknowledged is lost.
func TestRewriteUnderLoad(t *testing.T) {
	path := newIndex(t)
	x := shrunk(t, path, index.Options{})
	var stop atomic.Bool
	var wg sync.WaitGroup
	var stored [3]atomic.Int64
	for w := range stored {
		wg.Go(func() {
			for n := 0; !stop.Load(); n++ {
				if _, err := x.Apply(background, put(fmt.Sprintf("new/%d/%d", w, n), 1)); err != nil {
					t.Errorf("put: %v", err)
					return
				}
				stored[w].Add(1)
				if err := x.Attached(); err != nil {
					t.Errorf("attached: %v", err)
					return
				}
			}
		})
	}
	wg.Go(func() {
		for !stop.Load() {
			n := 0
			err := x.List(background, index.ListOptions{Dir: "packs"}, func(index.Entry) error { n++; return nil })
			if err != nil || n != 100 {
				t.Errorf("list: %d items, %v", n, err)
				return
			}
		}
	})
	done := 0
	for tries := 0; done < 5 && tries < 100; tries++ {
		if err := x.Rewrite(background); err == nil {
			done++
		}
	}
	stop.Store(true)
	wg.Wait()
	if done < 5 {
		t.Errorf("it was rewritten %d times", done)
	}
	checkWhole(t, x)
	mustClose(t, x)
	x = open(t, path, index.Options{})
	for w := range stored {
		for n := range stored[w].Load() {
			if _, err := x.Get(fmt.Sprintf("new/%d/%d", w, n)); err != nil {
				t.Fatalf("writer %d, item %d: %v", w, n, err)
			}
		}
	}
}

// TestRewriteGivesUp: while somebody reads, when it is cancelled, and when a page is damaged, the file stays as it is and in use.
func TestRewriteGivesUp(t *testing.T) {
	path := newIndex(t)
	x := shrunk(t, path, index.Options{})
	if err := x.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	want := everything(t, x)
	size := sizeOf(t, path)
	unchanged := func(what string, err error) {
		t.Helper()
		if err == nil || strings.Contains(err.Error(), filepath.Dir(path)) {
			t.Errorf("%s: got %v, want an error without a path", what, err)
		}
		if now := sizeOf(t, path); now != size {
			t.Errorf("%s: the file has %d bytes, and had %d", what, now, size)
		}
		equal(t, what, everything(t, x), want)
		if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
			t.Errorf("%s: left: %q", what, left)
		}
	}
	reading := errors.New("read")
	err := x.List(background, index.ListOptions{Dir: "packs"}, func(index.Entry) error {
		unchanged("while somebody reads", x.Rewrite(background))
		return reading
	})
	if !errors.Is(err, reading) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(background)
	cancel()
	unchanged("cancelled", x.Rewrite(ctx))
	applyToFile(t, x, put("still", 1))
	if err := x.Rewrite(background); err != nil {
		t.Fatal(err)
	}
	page, _ := x.LeafOf("items", "packs\x000990")
	damagePage(t, path, page, os.Getpagesize())
	size, want = sizeOf(t, path), ""
	if err := x.Rewrite(background); !errors.Is(err, index.ErrCorrupt) || x.Lost() != nil {
		t.Errorf("damaged: got %v, lost: %v", err, x.Lost())
	}
	if sizeOf(t, path) != size {
		t.Error("a damaged file was rewritten")
	}
	if err := x.Close(); err != nil {
		t.Error(err)
	}
}

// TestAttachedDuringRewrite: nobody who looks for the file at any moment of an exchange takes it for moved.
func TestAttachedDuringRewrite(t *testing.T) {
	x := create(t)
	apply(t, x, put("a", 1))
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for !stop.Load() {
				if err := x.Attached(); err != nil {
					t.Errorf("attached: %v", err)
					return
				}
			}
		})
	}
	for range 100 {
		if err := x.Rewrite(background); err != nil {
			t.Error(err)
		}
	}
	stop.Store(true)
	wg.Wait()
}

// TestOpenDuringRewrite: who tries to open an index while its file is rewritten is told that it is locked, not that it is missing.
func TestOpenDuringRewrite(t *testing.T) {
	path := newIndex(t)
	x := open(t, path, index.Options{})
	apply(t, x, put("a", 1))
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !stop.Load() {
				if _, err := index.Open(path, index.Options{}); !errors.Is(err, index.ErrLocked) {
					t.Errorf("got %v, want %v", err, index.ErrLocked)
					return
				}
			}
		})
	}
	for range 100 {
		if err := x.Rewrite(background); err != nil {
			t.Error(err)
		}
	}
	stop.Store(true)
	wg.Wait()
}

// scarce is a file system with so many bytes free.
type scarce struct {
	vfs.FS
	free int64
}

func (s scarce) Space(string) (free, total int64, err error) { return s.free, 1 << 40, nil }

// TestRewriteLeavesSpace: a file is not rewritten where that would take more than half of what is free on the disk: clients are writing.
func TestRewriteLeavesSpace(t *testing.T) {
	path := newIndex(t)
	x := shrunk(t, path, index.Options{FS: scarce{vfs.OS(), 100 << 10}})
	if err := x.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	before := sizeOf(t, path)
	if err := x.Rewrite(background); !errors.Is(err, index.ErrNoSpace) {
		t.Errorf("got %v, want %v", err, index.ErrNoSpace)
	}
	if sizeOf(t, path) != before {
		t.Error("it was rewritten")
	}
	apply(t, x, put("goes on", 1))
	mustClose(t, x)
	x = open(t, path, index.Options{FS: scarce{vfs.OS(), 10 << 20}})
	if err := x.Rewrite(background); err != nil {
		t.Fatal(err)
	}
	if after := sizeOf(t, path); after > before/4 {
		t.Errorf("the file has %d bytes, and had %d", after, before)
	}
}

// renamedAnyway is a file system on which the index is renamed, and that reports an error.
type renamedAnyway struct{ vfs.FS }

func (f renamedAnyway) Rename(from, to string) error {
	if err := f.FS.Rename(from, to); err != nil || filepath.Base(to) != "index.db" {
		return err
	}
	return &os.LinkError{Op: "rename", Old: from, New: to, Err: syscall.EIO}
}

// TestRewriteRenamedAnyway: the file that has the name is the one that is used.
func TestRewriteRenamedAnyway(t *testing.T) {
	path := newIndex(t)
	x := mustOpen(t, path, index.Options{FS: renamedAnyway{vfs.OS()}})
	apply(t, x, put("before", 1))
	if err := x.Rewrite(background); err != nil {
		t.Error(err)
	}
	apply(t, x, put("after", 1))
	want := everything(t, x)
	checkWhole(t, x)
	mustClose(t, x)
	equal(t, "after a restart", everything(t, open(t, path, index.Options{})), want)
}

// heldRewrite is a file system that holds a rewrite until it is released: it asks for the free space when it begins.
type heldRewrite struct {
	vfs.FS
	begun, release chan struct{}
}

func (h heldRewrite) Space(string) (free, total int64, err error) {
	close(h.begun)
	<-h.release
	return 1 << 40, 1 << 40, nil
}

// TestRewriteIsInterrupted: neither writers who need a checkpoint nor Close wait for the end of a rewrite.
func TestRewriteIsInterrupted(t *testing.T) {
	for _, c := range []struct {
		name string
		wait func(t *testing.T, x *index.Index) (ended chan error) // returns when somebody waits for the rewrite
	}{
		{"by a writer", func(t *testing.T, x *index.Index) chan error {
			x.SetMaxPending(10)
			for i := 0; x.LogStatus().PendingRows < 10; i++ {
				apply(t, x, put(fmt.Sprint("pending/", i), 1))
			}
			ended := make(chan error)
			go func() { _, err := x.Apply(background, put("waits", 1)); ended <- err }()
			x.WaitAwaited()
			return ended
		}},
		{"by Close", func(t *testing.T, x *index.Index) chan error {
			ended := make(chan error)
			go func() { ended <- x.Close() }()
			for {
				if _, err := x.Apply(background); errors.Is(err, index.ErrClosed) {
					return ended
				}
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := heldRewrite{vfs.OS(), make(chan struct{}), make(chan struct{})}
			x := open(t, newIndex(t), index.Options{FS: fsys})
			apply(t, x, put("a", 1))
			rewritten := make(chan error)
			go func() { rewritten <- x.Rewrite(background) }()
			<-fsys.begun
			ended := c.wait(t, x)
			close(fsys.release)
			if err := <-rewritten; !errors.Is(err, context.Canceled) {
				t.Errorf("rewrite: got %v, want %v", err, context.Canceled)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRewriteInLittleAddressSpace: the new file takes no more address space than the old one, which may be limited.
func TestRewriteInLittleAddressSpace(t *testing.T) {
	path := newIndex(t)
	const size = 128 << 20
	x, err := index.OpenSized(path, index.Options{}, size)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, x, put("a", 1))
	if err := x.Rewrite(background); err != nil {
		t.Fatal(err)
	}
	if got := x.Mapped(); got != size {
		t.Errorf("%d bytes of address space, want %d as before", got, size)
	}
	applyToFile(t, x, put("b", 1))
	checkWhole(t, x)
	mustClose(t, x)
}
