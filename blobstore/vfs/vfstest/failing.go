// Package vfstest has file systems for tests: Failing makes any single call fail; Lossy drops at a crash what was not synced; Stalling lets
// calls wait, as those at a disk do that does not answer. Bolt lets databases of bbolt use them.
//
// Start reading at Failing.
package vfstest

import (
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"

	"packhouse/blobstore/vfs"
)

// Op names a call that changes something or makes it durable.
type Op string

const (
	Create    Op = "create"
	OpenWrite Op = "openwrite"
	Link      Op = "link"
	Rename    Op = "rename"
	Remove    Op = "remove"
	RemoveAll Op = "removeall"
	Mkdir     Op = "mkdir"
	Write     Op = "write" // Write and WriteAt
	Truncate  Op = "truncate"
	Allocate  Op = "allocate"
	Sync      Op = "sync"
	SyncDir   Op = "syncdir"
)

// Call is one such call. Name is the path; of Link and Rename the new one, of
// Write, Truncate, Allocate and Sync that of the file.
type Call struct {
	Op   Op
	Name string
}

// When selects what a failing call leaves behind.
type When int

const (
	Before When = iota // nothing: the call had no effect
	After              // all it should have done, and of a write the first half; yet it reports failure
)

func (w When) String() string { return [...]string{"before", "after"}[w] }

// Failing passes calls on to FS, counts and lists those with an Op, and makes chosen ones fail. Reads are not counted, and fail where
// FailRead says so. Its errors look like those of package os. It is safe for concurrent use.
type Failing struct {
	vfs.FS

	mu     sync.Mutex
	calls  []Call // since Reset
	first  int    // index in calls of the one to fail; negative: none
	op     Op     // while left > 0: the one to fail is the left-th of these
	left   int
	when   When
	err    error
	onward bool // those after it fail as well
	reads  []badRead
}

// badRead are bytes of a file that cannot be read.
type badRead struct {
	name   string
	off, n int64
	err    error
}

var _ vfs.FS = (*Failing)(nil)

// NewFailing returns a Failing in which no call fails yet.
func NewFailing(inner vfs.FS) *Failing { return &Failing{FS: inner, first: -1} }

// FailAt makes the n-th call from now (1 is the next) fail with err.
func (f *Failing) FailAt(n int, when When, err error) { f.set(n, when, err, false) }

// StopAt makes the n-th call from now fail with err, and makes all later calls have no effect, as after a power failure or the death
// of the process.
func (f *Failing) StopAt(n int, when When, err error) { f.set(n, when, err, true) }

func (f *Failing) set(n int, when When, err error, onward bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.first, f.left, f.when, f.err, f.onward = len(f.calls)+n-1, 0, when, err, onward
}

// FailOp makes the n-th call of op from now fail with err. It is for calls that run concurrently, in no fixed order.
func (f *Failing) FailOp(op Op, n int, when When, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.first, f.op, f.left, f.when, f.err, f.onward = -1, op, n, when, err, false
}

// FailRead lets each read of the file name (its path) that touches one of the n bytes from off fail with err, until Reset.
// It is for files that are opened after it.
func (f *Failing) FailRead(name string, off, n int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads = append(f.reads, badRead{filepath.Clean(name), off, n, err})
}

// readError tells how a read of n bytes from off fails: nil means not at all.
func (f *Failing) readError(name string, off, n int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, bad := range f.reads {
		if bad.name == filepath.Clean(name) && off < bad.off+bad.n && bad.off < off+n {
			return &fs.PathError{Op: "read", Path: name, Err: bad.err}
		}
	}
	return nil
}

// Reset clears the list of calls and all failures.
func (f *Failing) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls, f.first, f.left, f.reads = nil, -1, 0, nil
}

// Calls returns the calls since Reset, in the order in which they began.
func (f *Failing) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Call(nil), f.calls...)
}

// Hit reports whether the call that was to fail has been made.
func (f *Failing) Hit() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.first >= 0 && len(f.calls) > f.first
}

// count notes a call and tells how it fails: err nil means not at all.
func (f *Failing) count(op Op, name string) (When, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.calls)
	f.calls = append(f.calls, Call{op, name})
	if f.left > 0 && op == f.op {
		if f.left--; f.left == 0 {
			f.first = n
		}
	}
	switch {
	case f.first < 0 || n < f.first || n > f.first && !f.onward:
		return Before, nil
	case n > f.first:
		return Before, f.err
	}
	return f.when, f.err
}

// do carries out a call that may fail.
func (f *Failing) do(op Op, name string, call func() error) error {
	when, err := f.count(op, name)
	if err == nil {
		return call()
	}
	if when == After {
		if err := call(); err != nil {
			return err
		}
	}
	return &fs.PathError{Op: string(op), Path: name, Err: err}
}

func (f *Failing) Create(name string) (vfs.File, error) { return f.open(Create, name, f.FS.Create) }

func (f *Failing) OpenWrite(name string) (vfs.File, error) {
	return f.open(OpenWrite, name, f.FS.OpenWrite)
}

// Open gives the file as it is, with all that it can do, unless some of its bytes cannot be read.
func (f *Failing) Open(name string) (vfs.File, error) {
	file, err := f.FS.Open(name)
	if err == nil && f.readError(name, 0, math.MaxInt64) != nil {
		return &failingFile{file, f, name}, nil
	}
	return file, err
}

// open opens a file that can be written.
func (f *Failing) open(op Op, name string, open func(string) (vfs.File, error)) (vfs.File, error) {
	var file vfs.File
	err := f.do(op, name, func() (err error) {
		file, err = open(name)
		return err
	})
	if err != nil {
		if file != nil {
			_ = file.Close() // the caller never learns of it
		}
		return nil, err
	}
	return &failingFile{file, f, name}, nil
}

func (f *Failing) Link(oldname, newname string) error {
	err := f.do(Link, newname, func() error { return f.FS.Link(oldname, newname) })
	return asLinkError(Link, oldname, newname, err)
}

func (f *Failing) Rename(oldname, newname string) error {
	err := f.do(Rename, newname, func() error { return f.FS.Rename(oldname, newname) })
	return asLinkError(Rename, oldname, newname, err)
}

// asLinkError gives an injected error the form it has in package os.
func asLinkError(op Op, oldname, newname string, err error) error {
	if path, ok := err.(*fs.PathError); ok {
		return &os.LinkError{Op: string(op), Old: oldname, New: newname, Err: path.Err}
	}
	return err
}

func (f *Failing) Remove(name string) error {
	return f.do(Remove, name, func() error { return f.FS.Remove(name) })
}

func (f *Failing) RemoveAll(name string) error {
	return f.do(RemoveAll, name, func() error { return f.FS.RemoveAll(name) })
}

func (f *Failing) Mkdir(name string) error {
	return f.do(Mkdir, name, func() error { return f.FS.Mkdir(name) })
}

func (f *Failing) SyncDir(name string) error {
	return f.do(SyncDir, name, func() error { return f.FS.SyncDir(name) })
}

// failingFile is a file being written, or one with bytes that cannot be read.
type failingFile struct {
	vfs.File
	f    *Failing
	name string
}

var _ vfs.Allocator = (*failingFile)(nil)

func (file *failingFile) Write(p []byte) (int, error) { return file.write(p, file.File.Write) }

func (file *failingFile) WriteAt(p []byte, off int64) (int, error) {
	return file.write(p, func(p []byte) (int, error) { return file.File.WriteAt(p, off) })
}

func (file *failingFile) write(p []byte, write func([]byte) (int, error)) (int, error) {
	when, err := file.f.count(Write, file.name)
	if err == nil {
		return write(p)
	}
	n := 0
	if when == After {
		if n, err := write(p[:len(p)/2]); err != nil {
			return n, err
		}
		n = len(p) / 2
	}
	return n, &fs.PathError{Op: string(Write), Path: file.name, Err: err}
}

func (file *failingFile) Truncate(size int64) error {
	return file.f.do(Truncate, file.name, func() error { return file.File.Truncate(size) })
}

func (file *failingFile) Allocate(off, n int64) error {
	inner, ok := file.File.(vfs.Allocator)
	if !ok {
		return errors.ErrUnsupported
	}
	return file.f.do(Allocate, file.name, func() error { return inner.Allocate(off, n) })
}

func (file *failingFile) Sync() error {
	return file.f.do(Sync, file.name, file.File.Sync)
}

func (file *failingFile) ReadAt(p []byte, off int64) (int, error) {
	if err := file.f.readError(file.name, off, int64(len(p))); err != nil {
		return 0, err
	}
	return file.File.ReadAt(p, off)
}

func (file *failingFile) Read(p []byte) (int, error) {
	off, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	if err := file.f.readError(file.name, off, int64(len(p))); err != nil {
		return 0, err
	}
	return file.File.Read(p)
}
