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
var errAdopting = errors.New("the repository is being adopted or restored and not complete: run packhouse adopt or packhouse repo restore again")

// FirstIndexOptions of FirstIndex.
type FirstIndexOptions struct {
	RebuildOptions
	Meta map[string][]byte // values besides those that every index has, or instead of them
	// Wait returns when the first n files of the list have been taken in; n negative: when all have been, durably. So the index can be made while they
	// are. nil: they are there.
	Wait func(ctx context.Context, n int64) error
	// Labelled tells, of files that Wait was called for, that blobs may have labels, because they were copied: the BLAKE3 of those is known.
	// nil: none has.
	Labelled func() bool
	// Store is the open store of the blobs; nil: FirstIndex opens it.
	Store *blobstore.Store
}

// FirstIndex makes the index of a repository in dir that consists of the files of its list of adopted files, durably. The index gets its name when all
// of these blobs are there and durable, as Wait says. That rename is the commit point: after an error or a crash before it there is no index, and
// FirstIndex can be repeated. An index that is there is fs.ErrExist. Progress is called with the files that are in the index.
func FirstIndex(ctx context.Context, dir string, o FirstIndexOptions) (err error) {
	o.RebuildOptions = o.withDefaults()
	if _, err := o.FS.Stat(filepath.Join(dir, layout.IndexFile)); err == nil {
		return fs.ErrExist
	}
	if o.Index.FS == nil {
		o.Index.FS = o.FS
	}
	if o.Wait == nil {
		o.Wait = func(context.Context, int64) error { return nil }
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
	if o.Store != nil {
		err = fillIndex(ctx, o, ix, o.Store, list)
	} else {
		var store *blobstore.Store
		if store, err = blobstore.Open(blobstore.Options{Dir: dir, FS: o.FS, Rand: o.Rand, Now: o.Now}); err == nil {
			err = errors.Join(fillIndex(ctx, o, ix, store, list), store.Close())
		}
	}
	if err := errors.Join(err, ix.Close()); err != nil {
		return err
	}
	if err := o.Wait(ctx, -1); err != nil {
		return err
	}
	return PutInPlace(o.FS, dir)
}

// fillIndex stores the items of a list in an index that has none.
func fillIndex(ctx context.Context, o FirstIndexOptions, ix *index.Index, store *blobstore.Store, list *layout.AdoptionReader) error {
	var batch []layout.Adopted
	for n, ended := int64(0), false; !ended; {
		a, err := list.Next()
		if ended = errors.Is(err, io.EOF); err != nil && !ended {
			return err
		}
		if !ended {
			batch = append(batch, a)
		}
		if len(batch) < adoptionBatch && !ended || len(batch) == 0 {
			continue
		}
		n += int64(len(batch))
		if err := o.Wait(ctx, n); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		puts, err := o.puts(store, list.Adoption, batch)
		if err != nil {
			return err
		}
		if _, err := ix.Apply(ctx, puts...); err != nil {
			return err
		}
		batch = batch[:0]
		o.Progress(n)
	}
	return nil
}

// puts store adopted files that have been taken in.
func (o *FirstIndexOptions) puts(store *blobstore.Store, in layout.Adoption, batch []layout.Adopted) ([]index.Mutation, error) {
	labels := o.Labelled != nil && o.Labelled()
	puts := make([]index.Mutation, 0, len(batch))
	for _, a := range batch {
		item := a.Item(in)
		if labels {
			var err error
			if item, err = labelled(store, a.Key, item); err != nil {
				return nil, err
			}
		}
		puts = append(puts, index.Put{
			Key: a.Key, Item: item, IfAbsent: true, Limit: -1, Exempt: a.Flags&layout.AdoptedExempt != 0,
			Backup: a.Flags&layout.AdoptedBackup != 0, Now: item.Modified, TrashUntil: item.Modified,
		})
	}
	return puts, nil
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
