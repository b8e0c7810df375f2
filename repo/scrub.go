package repo

import (
	"context"
	"errors"
	"fmt"

	"packhouse/blobstore"
	"packhouse/index"
)

// Verify reads the item's bytes and compares them with the size and BLAKE3 in the index. Damaged bytes are ErrCorrupt, usually
// ErrDamaged: the item is then marked, and not served until the same bytes are stored again. An item whose file is missing is ErrCorrupt
// too, and marked as missing; ErrLoss if too many files are missing. A marked item that turns out to be intact, because its file was
// restored or the disk had returned wrong bytes, is served again. It is no error if the item was replaced meanwhile. If the
// repository is not at its path (ErrDetached), nothing is marked. pace, if not nil, is called before each read with its length in
// bytes, at most 256 KiB, and may wait; its error ends the reading, nothing is marked, and it is returned.
func (r *Repository) Verify(ctx context.Context, entry index.Entry, pace func(n int64) error) error {
	info, err := r.blobs.Verify(ctx, refOf(entry.Item), pace)
	switch {
	case err == nil && info.Size == entry.Item.Size && info.BLAKE3 == entry.Item.BLAKE3:
		if entry.Item.Flags&(index.FlagDamaged|index.FlagMissing) != 0 && !r.readOnlyDisk {
			r.setMarks(context.WithoutCancel(ctx), []marking{{entry, 0, index.FlagDamaged | index.FlagMissing}})
		}
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, blobstore.ErrNotFound):
		return r.translate(err) // the disk could not be read, or pace ended it; that says nothing of the bytes
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
	if errors.Is(err, blobstore.ErrNotFound) {
		if err := r.missing(ctx, now); !errors.Is(err, ErrNotFound) {
			return err
		}
		return errMissing
	}
	if err == nil {
		err = fmt.Errorf("%w: %d bytes, BLAKE3 %x; recorded %d bytes, BLAKE3 %x",
			ErrCorrupt, info.Size, info.BLAKE3, entry.Item.Size, entry.Item.BLAKE3)
	}
	r.env.Logger.Error("item is damaged", "key", entry.Key, "error", err)
	r.setMarks(context.WithoutCancel(ctx), []marking{{now, index.FlagDamaged, index.FlagMissing}})
	return &damagedError{"stored bytes are damaged"}
}

var errMissing = Errorf(ErrCorrupt, "its file is missing")
