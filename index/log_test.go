package index_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"syscall"
	"testing"

	"packhouse/blobstore/vfs"
	"packhouse/index"
)

// fewFiles is a file system of a process that may, at times, not open any more files.
type fewFiles struct {
	vfs.FS
	none atomic.Bool
}

func (f *fewFiles) Create(name string) (vfs.File, error) {
	if f.none.Load() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EMFILE}
	}
	return f.FS.Create(name)
}

func (f *fewFiles) OpenWrite(name string) (vfs.File, error) {
	if f.none.Load() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EMFILE}
	}
	return f.FS.OpenWrite(name)
}

// TestTooManyOpenFiles: a segment that cannot be made because the process has too many files open refuses groups. Nothing was written,
// so they are accepted again when files can be opened.
func TestTooManyOpenFiles(t *testing.T) {
	path := newIndex(t)
	fsys := &fewFiles{FS: vfs.OS()}
	x := mustOpen(t, path, index.Options{FS: fsys, SegmentSize: 64 << 10})
	apply(t, x, put("before", 1))
	fsys.none.Store(true)
	var err error
	n := 0
	for ; err == nil && n < 100; n++ {
		_, err = x.Apply(background, index.PutJob{Job: index.Job{ID: fmt.Sprint(n), Record: make([]byte, 8<<10)}})
	}
	if !errors.Is(err, syscall.EMFILE) || errors.Is(err, index.ErrFailed) {
		t.Fatalf("group %d: got %v, want %v", n, err, syscall.EMFILE)
	}
	fsys.none.Store(false)
	apply(t, x, put("after", 1))
	checkWhole(t, x)
	mustClose(t, x)
	x = open(t, path, index.Options{})
	for _, key := range []string{"before", "after"} {
		if _, err := x.Get(key); err != nil {
			t.Errorf("get %s: %v", key, err)
		}
	}
}

// TestGroupLargerThanSegment: the rows of a group may need more space than a segment has.
func TestGroupLargerThanSegment(t *testing.T) {
	path := newIndex(t)
	x := mustOpen(t, path, index.Options{SegmentSize: 64 << 10})
	record := bytes.Repeat([]byte("0123456789abcdef"), 20<<10)
	apply(t, x, index.PutJob{Job: index.Job{ID: "large", Record: record}})
	apply(t, x, put("after", 1))
	crashed := copyIndex(t, path)
	mustClose(t, x)
	for _, path := range []string{crashed, path} {
		job, err := open(t, path, index.Options{}).Job("large")
		if err != nil || !bytes.Equal(job.Record, record) {
			t.Errorf("%d bytes, %v; want the %d that were stored", len(job.Record), err, len(record))
		}
	}
}
