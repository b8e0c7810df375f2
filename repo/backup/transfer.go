package backup

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/layout"
	"packhouse/repo/transfer"
)

// A batch is so many files or bytes, about: when they are copied, the file system is synced and they get their names. An interrupted Run loses no more.
const (
	batchFiles = 8192
	batchBytes = 8 << 30
)

// batch is what is being transferred.
type batch struct {
	begun map[string]bool // hashes, by the run's goroutine alone, as the next two
	bytes int64
	same  []index.Entry // whose bytes another one of the batch has, too

	mu     sync.Mutex       // of what follows, while workers are at it
	copied []string         // hashes of files in newDir
	had    map[string]bool  // hashes that the backup has now
	failed map[string]error // refs whose bytes could not be had, and why
}

func newBatch() *batch {
	return &batch{begun: make(map[string]bool), had: make(map[string]bool), failed: make(map[string]error)}
}

// transfer links or copies what the backup does not have.
func (x *run) transfer(ctx context.Context) error {
	x.meter.Begin("transferring", x.todo.all.Items, x.todo.all.Bytes)
	workers, workCtx := x.workers(ctx)
	b := newBatch()
	err := x.todo.each(func(e index.Entry, hash string) error {
		if err := cmp.Or(workCtx.Err(), x.pinned.Err()); err != nil {
			return err
		}
		there, err := x.has(hash, e.Item.Size)
		if err != nil {
			return err
		}
		switch {
		case there: // another item has the same bytes
			x.count(&x.report.Kept, e)
			return nil
		case b.begun[hash]:
			b.same = append(b.same, e)
			return nil
		}
		if err := x.makeShard(hash); err != nil {
			return err
		}
		b.begun[hash] = true
		b.bytes += e.Item.Size
		workers.Go(func() error { return x.item(workCtx, b, e, hash) })
		if len(b.begun) < batchFiles && b.bytes < batchBytes {
			return nil
		}
		if err := workers.Wait(); err != nil {
			return err
		}
		if err := x.finish(ctx, b); err != nil {
			return err
		}
		b = newBatch()
		workers, workCtx = x.workers(ctx)
		return nil
	})
	if workErr := workers.Wait(); workErr != nil {
		err = workErr // which has ended the other
	}
	if err != nil {
		return err
	}
	return x.finish(ctx, b)
}

func (x *run) workers(ctx context.Context) (*errgroup.Group, context.Context) {
	workers, ctx := errgroup.WithContext(ctx)
	workers.SetLimit(runtime.GOMAXPROCS(0))
	return workers, ctx
}

// makeShard makes the directory in which the file of a hash lies.
func (x *run) makeShard(hash string) error {
	shard := shardOf(hash)
	if x.shards[shard] {
		return nil
	}
	x.shards[shard] = true
	return transfer.Failed(layout.IgnoreExisting(x.FS.Mkdir(filepath.Dir(filePath(x.Dir, hash)))))
}

// item links an item, or makes a clone or a copy in newDir.
func (x *run) item(ctx context.Context, b *batch, e index.Entry, hash string) error {
	linked, cloned, err := x.share(ctx, e, hash)
	if err == nil && !linked && !cloned {
		err = transfer.Copy(ctx, x.FS, x.pinned, e, filepath.Join(x.Dir, newDir, hash), transfer.CopyOptions{Pace: x.Pace})
	}
	switch {
	case errors.Is(err, repo.ErrNotFound):
		err = transfer.ErrMissing
	case errors.Is(err, repo.ErrCorrupt):
	case err != nil:
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.failed[e.Item.Ref] = err
		x.meter.Pass(e.Item.Size, nil) // the list tells of it
		return nil
	}
	b.had[hash] = true
	if linked {
		x.count(&x.report.Linked, e)
		return nil
	}
	b.copied = append(b.copied, hash)
	if cloned {
		x.count(&x.report.Cloned, e)
	} else {
		x.count(&x.report.Copied, e)
	}
	return nil
}

// share gives an item its file in the backup without reading it, by a link or else by a clone in newDir, where that is asked for and can be. Not one that
// was found damaged there before: nobody reads what is shared.
func (x *run) share(ctx context.Context, e index.Entry, hash string) (linked, cloned bool, err error) {
	if x.Copy || !repo.InFile(e.Item) {
		return false, false, nil
	}
	if _, err := x.FS.Stat(filepath.Join(x.Dir, damagedDir, hash)); !errors.Is(err, fs.ErrNotExist) {
		return false, false, transfer.Failed(err)
	}
	if x.Pace != nil {
		if err := x.Pace(ctx, transfer.PerName); err != nil {
			return false, false, err
		}
	}
	if linked, err = x.link(e, hash); err == nil && !linked {
		cloned, err = x.cloner.Clone(x.FS, x.pinned, e, filepath.Join(x.Dir, newDir, hash))
	}
	return linked, cloned, err
}

// link gives the blob of an item the name of its file in the backup.
func (x *run) link(e index.Entry, hash string) (linked bool, err error) {
	if !x.links {
		return false, nil
	}
	path := filePath(x.Dir, hash)
	linked, err = x.pinned.Link(e, path)
	if errors.Is(err, fs.ErrExist) { // of another size: it is not what its name says
		if err = layout.IgnoreMissing(x.FS.Remove(path)); err == nil {
			linked, err = x.pinned.Link(e, path)
		}
	}
	return linked, transfer.Failed(err)
}

// finish gives the files of a batch, of which nothing is under way, their names, when their bytes are durable.
func (x *run) finish(ctx context.Context, b *batch) error {
	for _, e := range b.same {
		hash, err := x.hash(e)
		switch {
		case err != nil:
			return err
		case b.had[hash]:
			x.count(&x.report.Kept, e)
		default: // what the other one has is damaged
			if err := x.item(ctx, b, e, hash); err != nil {
				return err
			}
		}
	}
	maps.Copy(x.failed, b.failed)
	if len(b.copied) > 0 {
		if err := transfer.SyncFileSystem(x.FS, x.Dir); err != nil {
			return err
		}
	}
	for _, hash := range b.copied {
		if err := x.FS.Rename(filepath.Join(x.Dir, newDir, hash), filePath(x.Dir, hash)); err != nil {
			return transfer.Failed(err)
		}
	}
	return x.pinned.Err()
}

// writeList makes the state that of the backup, durably. What is to be in it is durable.
func (x *run) writeList() error {
	meta, err := x.pinned.Meta()
	if err != nil {
		return err
	}
	r := x.Repository
	list, err := newList(x.FS, x.Dir, header{Format: format, Repository: r.ID(), Name: r.Name(), Dialect: r.Dialect(), At: x.report.At, Meta: meta})
	if err != nil {
		return transfer.Failed(err)
	}
	if err := x.fill(list); err != nil {
		return transfer.Failed(errors.Join(err, list.abort()))
	}
	return transfer.Failed(list.commit())
}

// fill writes all lines but the end, gathers the hashes that they name, and tells of the items that are not in the backup.
func (x *run) fill(list *listWriter) error {
	writers, err := x.pinned.Writers()
	if err != nil {
		return err
	}
	for _, w := range writers {
		if err := list.write(line{Kind: kindWriter, Key: w.Writer, Modified: w.At.UnixMilli()}); err != nil {
			return err
		}
	}
	x.needed = x.pinned.NewTable()
	return x.each(func(e index.Entry, removed *index.Removed) error {
		if e.Dir {
			return list.write(line{Kind: kindDir, Key: e.Key, Created: e.Item.Created.UnixMilli()})
		}
		l := lineOf(e.Key, e.Item)
		l.Kind = kindItem
		if removed != nil {
			l.Kind, l.Removed, l.Expires = kindRemoved, removed.At.UnixMilli(), removed.Expires.UnixMilli()
		}
		if l.BLAKE3, err = x.hash(e); err != nil {
			return err
		}
		there, err := x.has(l.BLAKE3, e.Item.Size)
		if err != nil {
			return err
		}
		if why := x.whyNot(e, there); why != nil && removed == nil {
			x.tell(e, there, why)
			if l.State = stateDamaged; errors.Is(why, transfer.ErrMissing) {
				l.State = stateMissing
			}
		}
		switch {
		case there:
			l.State = ""
			if err := x.needed.Put(l.BLAKE3, nil); err != nil {
				return err
			}
		case removed != nil:
			return nil // nobody can restore it
		}
		if removed != nil {
			x.report.Trash.Add(e.Item.Size)
		}
		return list.write(l)
	})
}

// whyNot says what is wrong with an item in the repository; nil: nothing is.
func (x *run) whyNot(e index.Entry, there bool) error {
	if err := transfer.Unfit(e.Item); err != nil {
		return err
	}
	if err := x.failed[e.Item.Ref]; err != nil {
		return err
	}
	switch {
	case !there && x.hashes.isLost(e.Item.Ref):
		return transfer.ErrMissing
	case !there:
		return transfer.ErrDamaged // it could not be read when its hash was to be found out, or is not what its name says
	}
	return nil
}
