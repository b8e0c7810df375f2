package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	bolt "go.etcd.io/bbolt"

	"packhouse/blobstore/vfs"
)

// When the file is rewritten: bbolt never gives pages back, and keeps a list of those that are free, which it writes with each commit.
const (
	rewriteFree  = 16 << 20         // bytes of free pages, at least, and more than are in use
	rewriteEvery = 10 * time.Minute // between two tries
)

// The rows of a rewritten file are put in order, so pages are filled nearly: what comes later still finds place. A commit of bbolt has so many bytes.
const (
	rewriteFill = 0.9
	rewriteStep = 8 << 20
)

// sparse tells whether so much of the file is free that it is to be rewritten.
func (c *committed) sparse() bool {
	free := c.free.count
	return int64(free)*int64(c.pageSize) >= rewriteFree && free > c.end/2
}

// rewriteIfSparse is called after a checkpoint, in the background.
func (x *Index) rewriteIfSparse() {
	x.pending.checkpointing.Lock()
	defer x.pending.checkpointing.Unlock()
	if x.broken || !x.last.sparse() || time.Since(x.rewritten) < rewriteEvery {
		return
	}
	x.rewritten = time.Now()
	_ = x.rewrite(context.Background()) // the file stays as it is, and it is tried again later
}

// Rewrite copies the rows into a new file, which takes the place of the old one: so the file is as large as its rows need, and its list of
// free pages is empty. It can be interrupted at any moment; the old file is there until the new one is complete and durable. Readers
// and writers wait for the exchange of the two, some milliseconds. It uses at most half of the free space of the disk.
//
// An error, also ErrNoSpace, that readers take too long, that a writer has to wait for a checkpoint, and that the index is being closed,
// leaves the old file in use, unless the index is lost (Lost).
func (x *Index) Rewrite(ctx context.Context) error {
	x.pending.checkpointing.Lock()
	defer x.pending.checkpointing.Unlock()
	return x.rewrite(ctx)
}

// rewrite is Rewrite while pending.checkpointing is held.
func (x *Index) rewrite(ctx context.Context) error {
	if x.log == nil || x.opts.ReadOnly {
		return nil
	}
	if err := x.checkpoint(); err != nil {
		return err
	}
	ctx, end, err := x.pending.beginRewrite(ctx)
	if err != nil {
		return err
	}
	defer end()
	if err := x.spaceToRewrite(); err != nil {
		return withoutPath(fmt.Errorf("rewrite index: %w", err), x.dir)
	}
	path := x.opened.Load().path + ".new-rewritten"
	if err := removeIfThere(x.fsys(), path); err != nil {
		return withoutPath(fmt.Errorf("rewrite index: %w", err), x.dir)
	}
	err = x.copyTo(ctx, path)
	if err == nil {
		err = x.exchange(path)
	}
	if err != nil {
		err = errors.Join(fmt.Errorf("rewrite index: %w", err), removeIfThere(x.fsys(), path))
	}
	return withoutPath(err, x.dir)
}

// beginRewrite gives a rewrite a context that ends when somebody needs a checkpoint, which waits for the end of the rewrite. It is ErrClosed
// when the index is being closed.
func (p *pending) beginRewrite(ctx context.Context) (_ context.Context, end func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		return nil, nil, ErrClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	if p.interrupt = cancel; p.awaited {
		cancel()
	}
	return ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.interrupt = nil
		cancel()
	}, nil
}

// endRewrites ends the one that runs, and lets none begin.
func (p *pending) endRewrites() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closing = true
	if p.interrupt != nil {
		p.interrupt()
	}
}

// spaceToRewrite is ErrNoSpace if the new file would take more than half of what is free on the disk: others are writing, and must not
// be refused because of it.
func (x *Index) spaceToRewrite() error {
	free, _, err := x.fsys().Space(x.dir)
	if err != nil {
		return err
	}
	if needs := int64(x.last.end-x.last.free.count) * int64(x.last.pageSize); needs > free/2 {
		return fmt.Errorf("%w: it needs %d bytes, and %d are free", ErrNoSpace, needs, free)
	}
	return nil
}

func removeIfThere(fsys vfs.FS, path string) error {
	if err := fsys.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// copyTo makes a file with all rows of the current one, durably. Rows that are in the log alone stay there.
func (x *Index) copyTo(ctx context.Context, path string) (err error) {
	v, err := x.snapshots.acquire()
	if err != nil {
		return err
	}
	defer x.snapshots.release(v)
	db, file, err := newFile(path, bolt.Options{FreelistType: bolt.FreelistMapType, NoSync: true, PageSize: v.pageSize}, x.opts)
	if err != nil {
		return err
	}
	err = errors.Join(x.note(protect(func() error { return copyRows(ctx, v.snapshot, db) })), db.Close())
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// copyRows copies bucket by bucket.
func copyRows(ctx context.Context, from *snapshot, to *bolt.DB) error {
	w := rowWriter{db: to}
	defer w.end()
	for id := bucketMeta; id < bucketEnd; id++ {
		if !from.has(id) {
			return missingBucket(id)
		}
		if err := w.bucket(id); err != nil {
			return err
		}
		c := from.tree(id).Cursor()
		for key, value := c.First(); key != nil; key, value = c.Next() {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := w.put(id, key, value); err != nil {
				return err
			}
		}
	}
	return w.commit()
}

// rowWriter puts rows into a new file, in their order, with commits of some size.
type rowWriter struct {
	db    *bolt.DB
	tx    *bolt.Tx // nil: none is open
	into  *bolt.Bucket
	bytes int
}

// bucket goes on to a new bucket.
func (w *rowWriter) bucket(id bucketID) (err error) {
	if w.tx == nil {
		if w.tx, err = w.db.Begin(true); err != nil {
			return err
		}
	}
	w.into, err = w.tx.CreateBucketIfNotExists([]byte(id.String()))
	if err == nil {
		w.into.FillPercent = rewriteFill
	}
	return err
}

func (w *rowWriter) put(id bucketID, key, value []byte) error {
	if w.bytes += len(key) + len(value); w.bytes > rewriteStep {
		if err := w.commit(); err != nil {
			return err
		}
		if err := w.bucket(id); err != nil {
			return err
		}
		w.bytes = len(key) + len(value)
	}
	return w.into.Put(key, value)
}

func (w *rowWriter) commit() error {
	tx := w.tx
	w.tx, w.into, w.bytes = nil, nil, 0
	if tx == nil {
		return nil
	}
	return tx.Commit()
}

// end gives up what was not committed.
func (w *rowWriter) end() {
	if w.tx != nil {
		_ = w.tx.Rollback() // the file is removed
	}
}

// exchangeWait is how long an exchange waits for readers, while new ones wait for it.
const exchangeWait = 200 * time.Millisecond

var errReading = errors.New("readers take too long")

// exchange gives a new file the name of the current one, and opens it. Who waits for the lock of the old file finds that it lost its name.
func (x *Index) exchange(path string) error {
	next := newIndex(x.dir, x.opts)
	bad, err := next.openFile(path, x.mapped)
	if err != nil || bad != nil {
		return errors.Join(err, bad)
	}
	ended, drained := x.snapshots.drain(exchangeWait)
	if !drained {
		return errors.Join(errReading, next.closeFile(true))
	}
	old, info := *x.opened.Load(), next.opened.Load().info
	x.opened.Store(&openedFile{path: old.path, info: old.info, next: info})
	// A rename that reports an error can have taken effect all the same.
	if err := x.fsys().Rename(path, old.path); err != nil && (&openedFile{path: old.path, info: info}).check() != nil {
		x.opened.Store(&old)
		x.showAgain(ended)
		return errors.Join(err, next.closeFile(true))
	}
	// From here on the new file is the index, also after a crash.
	syncErr := syncDir(x.fsys(), x.dir)
	err = rollback(ended)
	closing := Index{dir: x.dir, db: x.db, file: x.file, mapped: x.mapped, broken: x.broken || err != nil}
	closeErr := closing.closeFile(true)
	x.db, x.file, x.mapped, x.broken = next.db, next.file, next.mapped, next.broken
	x.opened.Store(&openedFile{path: old.path, info: info})
	x.last, x.wrote = committed{}, 0
	x.show()
	if syncErr != nil {
		err := fmt.Errorf("%w: %w", ErrFailed, syncErr)
		x.failed.CompareAndSwap(nil, &err)
	}
	return errors.Join(x.Lost(), syncErr, closeErr)
}

// showAgain gives readers what they had before a drain.
func (x *Index) showAgain(ended []*snapshot) {
	if err := rollback(ended); err != nil {
		x.lose(err)
		return
	}
	x.show()
}
