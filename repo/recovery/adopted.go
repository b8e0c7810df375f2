package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
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

// FirstIndexOptions of FirstIndex.
type FirstIndexOptions struct {
	RebuildOptions
	Meta map[string][]byte // values besides those that every index has, or instead of them
	// Labelled tells that blobs may have labels, because they were copied: the BLAKE3 of those is known.
	Labelled bool
}

// FirstIndex makes the index of a repository in dir that consists of the files of its list of adopted files, durably. All of these blobs must
// be there and durable. The rename to the index's name is the commit point: after an error or a crash before it there is no index, and
// FirstIndex can be repeated. An index that is there is fs.ErrExist. Progress is called with the files that are in the index.
func FirstIndex(ctx context.Context, dir string, o FirstIndexOptions) (err error) {
	o.RebuildOptions = o.withDefaults()
	if _, err := o.FS.Stat(filepath.Join(dir, layout.IndexFile)); err == nil {
		return fs.ErrExist
	}
	if o.Index.FS == nil {
		o.Index.FS = o.FS
	}
	path := filepath.Join(dir, layout.RebuiltFile)
	if err := layout.IgnoreMissing(o.FS.Remove(path)); err != nil {
		return vfs.WithoutPath(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, vfs.WithoutPath(layout.IgnoreMissing(o.FS.Remove(path))))
		}
	}()
	list, err := layout.OpenAdoptionList(o.FS, dir)
	if err != nil {
		return err
	}
	defer list.Close() // it is only read
	meta, err := originMeta(list.Adoption)
	if err != nil {
		return err
	}
	maps.Copy(meta, o.Meta)
	if err := firstIndex(o.RebuildOptions, path, list.Dialect, meta); err != nil {
		return err
	}
	o.Index.Use = index.Rebuild
	ix, err := index.Open(path, o.Index)
	if err != nil {
		return err
	}
	store, err := blobstore.Open(blobstore.Options{Dir: dir, FS: o.FS, Rand: o.Rand, Now: o.Now})
	if err == nil {
		err = errors.Join(fillIndex(ctx, o, ix, store, list), store.Close())
	}
	if err := errors.Join(err, ix.Close()); err != nil {
		return err
	}
	return swapIndex(o.FS, dir)
}

// fillIndex stores the items of a list in an index that has none.
func fillIndex(ctx context.Context, o FirstIndexOptions, ix *index.Index, store *blobstore.Store, list *layout.AdoptionReader) error {
	var batch []index.Mutation
	for n, ended := int64(0), false; !ended; {
		a, err := list.Next()
		if ended = errors.Is(err, io.EOF); err != nil && !ended {
			return err
		}
		if !ended {
			item := a.Item(list.Adoption)
			if o.Labelled {
				if item, err = labelled(store, a.Key, item); err != nil {
					return err
				}
			}
			batch = append(batch, index.Put{
				Key: a.Key, Item: item, IfAbsent: true, Limit: -1, Exempt: a.Flags&layout.AdoptedExempt != 0,
				Backup: a.Flags&layout.AdoptedBackup != 0, Now: item.Modified, TrashUntil: item.Modified,
			})
		}
		if len(batch) < adoptionBatch && !ended || len(batch) == 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := ix.Apply(ctx, batch...); err != nil {
			return err
		}
		n += int64(len(batch))
		batch = batch[:0]
		o.Progress(n)
	}
	return nil
}

// labelled is the item of an adopted file, with the BLAKE3 that a copy of it has recorded.
func labelled(store *blobstore.Store, key string, item index.Item) (index.Item, error) {
	_, info, err := store.Label(blobstore.Ref(item.Ref))
	switch {
	case err == nil:
		item.BLAKE3, item.Flags = info.BLAKE3, 0
	case !errors.Is(err, blobstore.ErrCorrupt): // it has none
		return item, fmt.Errorf("%s: %w", key, err)
	}
	return item, nil
}

// originMeta is the value of MetaAdopted.
func originMeta(a layout.Adoption) (map[string][]byte, error) {
	text, err := json.Marshal(a.Origin())
	return map[string][]byte{layout.MetaAdopted: text}, err
}

// firstIndex makes an index without items, with the values that every one has, and those of meta.
func firstIndex(o RebuildOptions, path, dialect string, meta map[string][]byte) error {
	id := make([]byte, 16)
	if _, err := io.ReadFull(o.Rand, id); err != nil {
		return fmt.Errorf("draw an identity: %w", err)
	}
	first := layout.FirstMeta(dialect, id, o.Now())
	maps.Copy(first, meta)
	return index.CreateWith(path, first, o.Index)
}

// adoptListed takes in the adopted files that the index does not know and that have no label.
func (b *rebuilder) adoptListed() error {
	list, err := layout.OpenAdoptionList(b.o.FS, b.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = errors.Join(b.takeListed(list), list.Close())
	}
	if errors.Is(err, layout.ErrAdoptionList) || errors.Is(err, blobstore.ErrNewer) {
		b.o.Logger.Warn("the list of adopted files cannot be read to its end: those that no scrub has read may stay unknown", "error", err)
		return b.flush()
	}
	return err
}

func (b *rebuilder) takeListed(list *layout.AdoptionReader) error {
	for n := int64(0); ; n++ {
		a, err := list.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = b.takeOne(a, list.Adoption)
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

// takeOne takes in a file that is there, and has no label with which unknown finds it.
func (b *rebuilder) takeOne(a layout.Adopted, in layout.Adoption) error {
	if _, known, err := b.index.HasRef(string(a.Ref)); err != nil || known {
		return err
	}
	_, _, err := b.store.Label(a.Ref)
	if errors.Is(err, blobstore.ErrCorrupt) {
		return b.take(a.Key, a.Item(in), a.Flags&layout.AdoptedExempt != 0, a.Flags&layout.AdoptedBackup != 0)
	}
	if errors.Is(err, blobstore.ErrNotFound) || errors.Is(err, blobstore.ErrNewer) {
		return nil // it was removed; or its label is a newer version's
	}
	return err
}
