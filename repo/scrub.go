package repo

import (
	"context"
	"errors"

	"packhouse/blobstore"
	"packhouse/index"
	"packhouse/repo/digest"
	"packhouse/repo/layout"
)

// Verify reads the item's bytes and compares them with the size and BLAKE3 in the index. Checksums of a file's blocks that are
// missing, or are not those of the bytes, are made anew. Damaged bytes are ErrCorrupt, usually ErrDamaged: the item is then
// marked, and not served until the same bytes are stored again. An item whose file is missing is ErrCorrupt too, and marked as
// missing; ErrLoss if too many files are missing. Of an item whose BLAKE3 is not known (index.FlagUnverified) the digest that
// is recorded for it decides, if there is one, and what was read is recorded. A marked item that turns out to be intact,
// because its file was restored or the disk had returned wrong bytes, is served again. It is no error if the item was replaced
// meanwhile. If the repository is not at its path (ErrDetached), nothing is marked. pace, if not nil, is called before each
// read with its length in bytes, at most 256 KiB, and may wait; its error ends the reading, nothing is marked, and it is
// returned.
func (r *Repository) Verify(ctx context.Context, entry index.Entry, pace func(n int64) error) error {
	_, err := r.verify(ctx, entry, pace)
	return err
}

// verify is Verify. It returns the checksums of the blocks of a file that is sound.
func (r *Repository) verify(ctx context.Context, entry index.Entry, pace func(n int64) error) (sums []byte, err error) {
	check := checkOf(entry.Item)
	check.Pace = pace
	if !r.readOnlyDisk {
		check.Label = func() ([]byte, error) {
			return layout.EncodeLabel(r.dialect, entry.Key, entry.Item, entry.Item.Flags&index.FlagExempt != 0)
		}
	}
	found, err := r.blobs.Verify(ctx, refOf(entry.Item), check)
	if err != nil && found.Sums != nil {
		r.env.Logger.Warn("could not write the checksums of an item", "repository", r.Name(), "key", entry.Key, "error", err)
		err = nil
	}
	if err != nil {
		return nil, r.unsound(ctx, entry, err)
	}
	m := marking{entry: entry, clear: entry.Item.Flags & (index.FlagDamaged | index.FlagMissing | index.FlagUnverified)}
	if m.clear&index.FlagUnverified != 0 {
		m.blake3 = &found.BLAKE3
	}
	if m.clear != 0 {
		r.setMarks(context.WithoutCancel(ctx), []marking{m})
	}
	return found.Sums, nil
}

// checkOf is what the bytes of an item are compared with.
func checkOf(item index.Item) blobstore.Check {
	check := blobstore.Check{Want: infoOf(item)}
	if algorithm, err := digest.Lookup(item.Algorithm); err == nil && !check.Want.Hashed() {
		check.Digest, check.Sum = algorithm.New(), item.Sum
	}
	return check
}

// unsound marks an item that verify has not found sound, and says what to tell of it. cause is why.
func (r *Repository) unsound(ctx context.Context, entry index.Entry, cause error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case !errors.Is(cause, ErrCorrupt) && !errors.Is(cause, blobstore.ErrNotFound):
		return r.translate(cause) // the disk could not be read, or pace ended it; that says nothing of the bytes
	}
	now, getErr := r.index.Get(entry.Key)
	if errors.Is(getErr, ErrNotFound) || getErr == nil && now.Item.Ref != entry.Item.Ref {
		return nil
	}
	if getErr != nil {
		return r.translate(getErr)
	}
	if err := r.Attached(); err != nil {
		return err // of bytes that were taken away nothing is known
	}
	if errors.Is(cause, blobstore.ErrNotFound) {
		if err := r.missing(ctx, now); !errors.Is(err, ErrNotFound) {
			return err
		}
		return errMissing
	}
	what := "item is damaged"
	if DamagedAtAdoption(now.Item) {
		what = "item was damaged when it was adopted, or is not what its name says"
	}
	r.env.Logger.Error(what, "repository", r.Name(), "key", entry.Key, "error", cause)
	r.setMarks(context.WithoutCancel(ctx), []marking{{entry: now, set: index.FlagDamaged, clear: index.FlagMissing}})
	return &damagedError{"stored bytes are damaged"}
}

// recheck decides about an item of which a read has found a block that is not what its checksum says, or no usable checksum: as
// a scrub does. Readers that have the same doubt at once share one look. It returns the checksums of an item that is sound.
func (r *Repository) recheck(ctx context.Context, entry index.Entry) ([]byte, error) {
	if entry.Item.Flags&index.FlagDamaged != 0 {
		return nil, errDamaged // known
	}
	sums, err := r.rechecks.do(ctx, entry.Item.Ref, func(ctx context.Context) ([]byte, error) {
		return r.verify(ctx, entry, nil)
	})
	if err == nil && sums == nil || errors.Is(err, ErrDamaged) { // it may have been replaced meanwhile
		return nil, errDamaged
	}
	return sums, err
}

// DamagedAtAdoption tells of a damaged item, or one that is just found to be so, that it was never found sound since it was taken in from another
// server.
func DamagedAtAdoption(item index.Item) bool { return item.Flags&index.FlagUnverified != 0 }

var errMissing = Errorf(ErrCorrupt, "its file is missing")
