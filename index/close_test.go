package index_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"packhouse/blobstore/vfs"
	"packhouse/index"
)

// TestCloseDuringEverything: Close may come while anything else runs, and waits for what uses the file.
func TestCloseDuringEverything(t *testing.T) {
	for round := range 20 {
		path := newIndex(t)
		x := mustOpen(t, path, index.Options{SegmentSize: 64 << 10})
		for i := range 200 {
			apply(t, x, put(fmt.Sprint("before/", i), 1))
		}
		begin := make(chan struct{})
		var wg sync.WaitGroup
		during := func(what string, call func(n int) error) {
			wg.Go(func() {
				<-begin
				for n := 0; ; n++ {
					if err := call(n); errors.Is(err, index.ErrClosed) {
						return
					} else if err != nil {
						t.Errorf("round %d: %s: %v", round, what, err)
						return
					}
				}
			})
		}
		during("apply", func(n int) error { _, err := x.Apply(background, put(fmt.Sprint("during/", n), 1)); return err })
		during("list", func(int) error {
			return x.List(background, index.ListOptions{Recursive: true}, func(index.Entry) error { return nil })
		})
		during("checkpoint", func(int) error { return x.Checkpoint() })
		during("copy", func(int) error { _, err := x.WriteTo(io.Discard); return err })
		during("rewrite", func(int) error {
			if err := x.Rewrite(background); errors.Is(err, index.ErrClosed) {
				return err
			}
			return nil // readers may take too long
		})
		during("check", func(int) error { _, err := x.Check(background); return err })
		close(begin)
		for range round {
			x.LogStatus()
		}
		if _, err := x.Apply(background, put("last", 1)); err != nil {
			t.Error(err)
		}
		if err := x.Close(); err != nil {
			t.Errorf("round %d: close: %v", round, err)
		}
		wg.Wait()
		x = mustOpen(t, path, index.Options{})
		if _, err := x.Get("last"); err != nil {
			t.Error(err)
		}
		checkWhole(t, x)
		mustClose(t, x)
	}
}

// whileLocked is a file system that wants the index's lock to be held whenever the log is cut off, or a file of it removed.
type whileLocked struct {
	vfs.FS
	t     *testing.T
	index string
	calls atomic.Int32
}

func (w *whileLocked) want(what string) {
	w.calls.Add(1)
	file, err := os.Open(w.index)
	if err != nil {
		w.t.Error(err)
		return
	}
	defer file.Close()
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		w.t.Errorf("%s: the lock: got %v, want it to be held", what, err)
	}
}

func (w *whileLocked) Remove(name string) error {
	w.want("remove " + filepath.Base(name))
	return w.FS.Remove(name)
}

func (w *whileLocked) Create(name string) (vfs.File, error) {
	file, err := w.FS.Create(name)
	return watchedFile{file, w}, err
}

func (w *whileLocked) OpenWrite(name string) (vfs.File, error) {
	file, err := w.FS.OpenWrite(name)
	return watchedFile{file, w}, err
}

type watchedFile struct {
	vfs.File
	w *whileLocked
}

func (f watchedFile) Allocate(off, n int64) error { return f.File.(vfs.Allocator).Allocate(off, n) }

func (f watchedFile) Truncate(size int64) error {
	f.w.want("truncate")
	return f.File.Truncate(size)
}

// TestLogEndsBeforeTheLock: the log is given its end while nobody else can have the index: who has it next appends where it ends, and that would be
// cut off again, and a segment that was made ahead would be removed with what is in it.
func TestLogEndsBeforeTheLock(t *testing.T) {
	path := newIndex(t)
	w := &whileLocked{FS: vfs.OS(), t: t, index: path}
	x := mustOpen(t, path, index.Options{FS: w, SegmentSize: 64 << 10})
	for i := range 100 {
		apply(t, x, put(fmt.Sprint("item/", i), 1))
	}
	before := w.calls.Load()
	mustClose(t, x)
	if w.calls.Load() == before {
		t.Error("nothing was cut off or removed: the test tests nothing")
	}
}
