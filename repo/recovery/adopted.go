package recovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"packhouse/blobstore"
	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo/layout"
)

// Files that were taken in from the directory of another server have no label until a scrub has read them: the list of adopted files says
// which items they are. A rebuild looks there, and the first index of such a repository is made from the list in the same way.

// adoptionBatch is how many adopted files one transaction takes in.
const adoptionBatch = 10_000

// errAdopting is of a repository whose files have not all been taken in.
var errAdopting = errors.New("the repository is being adopted and not complete: run packhouse adopt again")

// FirstIndex makes the index of a repository in dir that consists of the files of its list of adopted files, durably, with the meta values
// besides those that every index has. All of these blobs must be durable. The rename to the index's name is the commit point: after an error
// or a crash before it there is no index, and FirstIndex can be repeated. An index that is there is fs.ErrExist. A blob that is missing is
// blobstore.ErrNotFound. Progress is called with the files that are in the index.
func FirstIndex(ctx context.Context, dir string, meta map[string][]byte, o RebuildOptions) (report RebuildReport, err error) {
	o = o.withDefaults()
	if _, err := o.FS.Stat(filepath.Join(dir, layout.IndexFile)); err == nil {
		return report, fs.ErrExist
	}
	if o.Index.FS == nil {
		o.Index.FS = o.FS
	}
	path := filepath.Join(dir, layout.RebuiltFile)
	if err := layout.IgnoreMissing(o.FS.Remove(path)); err != nil {
		return report, vfs.WithoutPath(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, vfs.WithoutPath(layout.IgnoreMissing(o.FS.Remove(path))))
		}
	}()
	list, err := layout.OpenAdoptionList(o.FS, dir)
	if err != nil {
		return report, err
	}
	defer list.Close() // it is only read
	if err := firstIndex(o, path, list.Dialect, meta); err != nil {
		return report, err
	}
	o.Index.Use = index.Rebuild
	ix, err := index.Open(path, o.Index)
	if err != nil {
		return report, err
	}
	store, err := blobstore.Open(blobstore.Options{Dir: dir, FS: o.FS, Rand: o.Rand, Now: o.Now})
	if err == nil {
		b := &rebuilder{ctx: ctx, o: o, dir: dir, index: ix, store: store, report: &report, keys: make(map[string]bool), atOnce: adoptionBatch}
		if err = b.takeListed(list, true); err == nil {
			err = b.flush()
		}
		err = errors.Join(err, store.Close())
	}
	counters := ix.Counters()
	report.Items, report.Bytes = counters.Items, counters.Bytes
	if err := errors.Join(err, ix.Close()); err != nil {
		return report, err
	}
	return report, swapIndex(o.FS, dir)
}

func firstIndex(o RebuildOptions, path, dialect string, meta map[string][]byte) error {
	id := make([]byte, 16)
	if _, err := io.ReadFull(o.Rand, id); err != nil {
		return fmt.Errorf("draw an identity: %w", err)
	}
	first := layout.FirstMeta(dialect, id, o.Now())
	for name, value := range meta {
		first[name] = value
	}
	return index.CreateWith(path, first, o.Index)
}

// adoptListed takes in the adopted files that the index does not know and that have no label.
func (b *rebuilder) adoptListed() error {
	list, err := layout.OpenAdoptionList(b.o.FS, b.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = errors.Join(b.takeListed(list, false), list.Close())
	}
	if errors.Is(err, layout.ErrAdoptionList) || errors.Is(err, blobstore.ErrNewer) {
		b.o.Logger.Warn("the list of adopted files cannot be read to its end: those that no scrub has read may stay unknown", "error", err)
		return b.flush()
	}
	return err
}

// takeListed takes in the files of a list. all: each must be there, and those with a label are taken in, too.
func (b *rebuilder) takeListed(list *layout.AdoptionReader, all bool) error {
	for n := int64(0); ; n++ {
		a, err := list.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = b.takeOne(a, all)
		}
		if err == nil {
			err = b.ctx.Err()
		}
		if err != nil {
			return err
		}
		if n%rebuildBatch == 0 {
			b.o.Progress(n)
		}
	}
}

func (b *rebuilder) takeOne(a layout.Adopted, all bool) error {
	if _, known, err := b.index.HasRef(string(a.Ref)); err != nil || known {
		return err
	}
	item, exempt := a.Item(), a.Flags&layout.AdoptedExempt != 0
	_, info, err := b.store.Label(a.Ref)
	switch {
	case err == nil && !all:
		return nil // unknown finds it
	case err == nil:
		item.BLAKE3, item.Flags = info.BLAKE3, 0
	case errors.Is(err, blobstore.ErrNotFound) && all:
		return fmt.Errorf("%s: %w", a.Key, err)
	case errors.Is(err, blobstore.ErrNotFound):
		return nil // it was removed
	case !errors.Is(err, blobstore.ErrCorrupt):
		return err
	}
	return b.take(a.Key, item, exempt, a.Flags&layout.AdoptedBackup != 0)
}
