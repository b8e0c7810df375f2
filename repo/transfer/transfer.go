// Package transfer has what every way out of a repository needs: how far one is, what could not be taken along and why, and the copy of an item
// to a file, checked while it is read. It promises that a file that it made has all bytes of the item as they were stored; nothing of it is
// durable. It does not know which files there are to be, nor in which order: packages export and backup do.
//
// Start reading at Meter and Copy.
package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo"
)

// Progress is how far a transfer is.
type Progress struct {
	Step  string `json:"step"`
	Items int64  `json:"items"`
	Bytes int64  `json:"bytes"`
	// Of what there is in all.
	ItemsTotal int64 `json:"items_total"`
	BytesTotal int64 `json:"bytes_total"`
}

// Problem is an item with which something is wrong.
type Problem struct {
	Key string `json:"key"`
	Why string `json:"why"`
}

// Amount is items and bytes.
type Amount struct {
	Items int64 `json:"items"`
	Bytes int64 `json:"bytes"`
}

// Add adds an item.
func (a *Amount) Add(bytes int64) { a.Items++; a.Bytes += bytes }

// Why an item cannot be transferred, as far as the index knows or its file shows.
var (
	ErrMissing = errors.New("its file is missing")
	ErrDamaged = errors.New("its stored bytes are damaged")
)

// Unfit says why an item cannot be transferred as far as the index knows; nil: it can.
func Unfit(item index.Item) error {
	switch {
	case item.Flags&index.FlagMissing != 0:
		return ErrMissing
	case item.Flags&index.FlagDamaged != 0:
		return ErrDamaged
	}
	return nil
}

// Meter counts what a transfer has passed, and tells that now and then. Report and Problem are called by one goroutine at a time; nil: nobody is
// told. It is safe for concurrent use once Begin was called.
type Meter struct {
	Report  func(Progress)
	Problem func(Problem)

	mu       sync.Mutex // held for a look at progress, and over Report and Problem
	progress Progress
}

// Begin begins a step of so many items and bytes, with none passed.
func (m *Meter) Begin(step string, items, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.progress = Progress{Step: step, ItemsTotal: items, BytesTotal: bytes}
	m.report()
}

// Step gives what follows another name; what was passed stays.
func (m *Meter) Step(step string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.progress.Step = step
	m.report()
}

func (m *Meter) report() {
	if m.Report != nil {
		m.Report(m.progress)
	}
}

// Progress is reported after so many items, or bytes.
const (
	reportItems = 1024
	reportBytes = 64 << 20
)

// Pass counts an item that is done with. count, if not nil, is called where no other Pass or Tell is under way.
func (m *Meter) Pass(bytes int64, count func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pass(bytes, count)
}

func (m *Meter) pass(bytes int64, count func()) {
	if count != nil {
		count()
	}
	before := m.progress
	m.progress.Items++
	m.progress.Bytes += bytes
	if before.Items/reportItems != m.progress.Items/reportItems || before.Bytes/reportBytes != m.progress.Bytes/reportBytes {
		m.report()
	}
}

// Tell is Pass for an item with a problem.
func (m *Meter) Tell(key string, bytes int64, why error, count func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.Problem != nil {
		m.Problem(Problem{key, why.Error()})
	}
	m.pass(bytes, count)
}

// Cloner makes clones of the files of items until the file system refuses one. The zero value works, for several goroutines.
type Cloner struct{ refused atomic.Bool }

// Clone makes the file path, which must not exist, as a clone of the file of an item; cloned false: it cannot be one, and there is no file. The bytes are
// not read, and nothing is durable. Errors: those of Pinned.Clone; repo.ErrNoSpace, else I/O.
func (c *Cloner) Clone(fsys vfs.FS, p *repo.Pinned, e index.Entry, path string) (cloned bool, err error) {
	if !repo.InFile(e.Item) || c.refused.Load() {
		return false, nil
	}
	file, err := fsys.Create(path)
	if err != nil {
		return false, Failed(err)
	}
	cloned, err = p.Clone(e, file)
	if err = errors.Join(err, Failed(file.Close())); err != nil || !cloned {
		err = errors.Join(err, Failed(fsys.Remove(path)))
	}
	if err == nil && !cloned {
		c.refused.Store(true) // nor will it be the next time
	}
	return cloned && err == nil, err
}

// Try tells whether clones can be made: path is the name of a file that must not exist, and does not afterwards. Errors: as Clone; an item whose file is
// missing is none.
func (c *Cloner) Try(fsys vfs.FS, p *repo.Pinned, e index.Entry, path string) (bool, error) {
	cloned, err := c.Clone(fsys, p, e, path)
	if err == nil && cloned {
		err = Failed(fsys.Remove(path))
	}
	if errors.Is(err, repo.ErrNotFound) {
		err = nil
	}
	return cloned, err
}

// PerName is the bytes that a new name stands for where work in the background is paced: who makes links makes no more of them than such work reads.
const PerName = 4 << 10

// CopyOptions of Copy. The zero value works.
type CopyOptions struct {
	Durable bool // the bytes are synced; the name is not
	// Pace is called before each write with its bytes, and may wait. nil: nobody waits.
	Pace func(ctx context.Context, n int64) error
}

// Copy makes the file path, which must not exist, of the bytes of an item, which are checked while they are read. What is damaged, or cannot be
// written, leaves no file. Errors: those of Pinned.Open; repo.ErrCorrupt, repo.ErrNoSpace, ctx.Err(), else I/O.
func Copy(ctx context.Context, fsys vfs.FS, p *repo.Pinned, e index.Entry, path string, o CopyOptions) error {
	blob, err := p.Open(e)
	if err != nil {
		return err
	}
	defer blob.Close() // it is only read
	section, err := blob.Section(0, blob.Size())
	if err != nil {
		return err
	}
	file, err := fsys.Create(path)
	if err != nil {
		return Failed(err)
	}
	n, err := io.Copy(Paced(ctx, file, o.Pace), section)
	if err == nil && n != e.Item.Size {
		err = repo.Errorf(repo.ErrCorrupt, "%d bytes of %d are there", n, e.Item.Size)
	}
	if err == nil && o.Durable {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(Failed(err), Failed(fsys.Remove(path)))
	}
	return nil
}

// Paced is w, which waits for its turn before each write, and ends with ctx.
func Paced(ctx context.Context, w io.Writer, pace func(ctx context.Context, n int64) error) io.Writer {
	return &paced{ctx, w, pace}
}

type paced struct {
	ctx  context.Context
	w    io.Writer
	pace func(ctx context.Context, n int64) error
}

func (p *paced) Write(b []byte) (int, error) {
	err := p.ctx.Err()
	if err == nil && p.pace != nil {
		err = p.pace(p.ctx, int64(len(b)))
	}
	if err != nil {
		return 0, err
	}
	return p.w.Write(b)
}

// Failed is an error without the path, and reported as one of a full disk where it is.
func Failed(err error) error {
	switch {
	case err == nil, errors.Is(err, repo.ErrCorrupt), errors.Is(err, repo.ErrNoSpace):
		return err
	case vfs.NoSpace(err):
		return fmt.Errorf("%w: %w", repo.ErrNoSpace, vfs.WithoutPath(err))
	}
	return vfs.WithoutPath(err)
}

// SpareSpace is what a transfer leaves free, beside the names of its files.
const SpareSpace = 64 << 20

// perCopy is about what a file takes beside its bytes: half a block.
const perCopy = 2 << 10

// Fits wants space for copies on the file system of dir. Errors: repo.ErrNoSpace, else I/O.
func Fits(fsys vfs.FS, dir string, copies Amount) error {
	free, _, err := fsys.Space(dir)
	if err != nil {
		return Failed(err)
	}
	if need := copies.Bytes + copies.Items*perCopy + SpareSpace; copies.Items > 0 && free < need {
		return fmt.Errorf("%w: copies of %d items need %d bytes, of which %d are free", repo.ErrNoSpace, copies.Items, need, free)
	}
	return nil
}

// SyncFileSystem makes all durable that was written to the file system of dir.
func SyncFileSystem(fsys vfs.FS, dir string) error {
	syncer, ok := fsys.(vfs.FileSystemSyncer)
	if !ok {
		return errors.New("sync the file system: not possible")
	}
	if err := syncer.SyncFileSystem(dir); err != nil {
		return fmt.Errorf("sync the file system: %w", vfs.WithoutPath(err))
	}
	return nil
}
