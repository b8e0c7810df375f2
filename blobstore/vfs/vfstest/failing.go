// Package vfstest has file systems for tests: Failing makes any single call fail; Lossy drops at a crash what was not synced.
//
// Start reading at Failing.
package vfstest

import (
	"io/fs"
	"os"
	"sync"

	"packhouse/blobstore/vfs"
)

// Op names a call that changes something or makes it durable.
type Op string

const (
	Create    Op = "create"
	Link      Op = "link"
	Rename    Op = "rename"
	Remove    Op = "remove"
	RemoveAll Op = "removeall"
	Mkdir     Op = "mkdir"
	Write     Op = "write"
	Sync      Op = "sync"
	SyncDir   Op = "syncdir"
)

// Call is one such call. Name is the path; of Link and Rename the new one, of
// Write and Sync that of the file.
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

// Failing passes calls on to FS, counts and lists those with an Op, and makes chosen ones fail. Reads are neither counted nor
// failed. Its errors look like those of package os. It is safe for concurrent use.
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

// Reset clears the list of calls and all failures.
func (f *Failing) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls, f.first, f.left = nil, -1, 0
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

func (f *Failing) Create(name string) (vfs.File, error) {
	var file vfs.File
	err := f.do(Create, name, func() (err error) {
		file, err = f.FS.Create(name)
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

// failingFile is a file being written.
type failingFile struct {
	vfs.File
	f    *Failing
	name string
}

func (file *failingFile) Write(p []byte) (int, error) {
	when, err := file.f.count(Write, file.name)
	if err == nil {
		return file.File.Write(p)
	}
	n := 0
	if when == After {
		if n, err := file.File.Write(p[:len(p)/2]); err != nil {
			return n, err
		}
		n = len(p) / 2
	}
	return n, &fs.PathError{Op: string(Write), Path: file.name, Err: err}
}

func (file *failingFile) Sync() error {
	return file.f.do(Sync, file.name, file.File.Sync)
}
