package repo

import (
	"context"
	"errors"
	"fmt"

	"packhouse/blobstore"
	"packhouse/index"
)

// Verify reads the item's bytes and compares them with the size and BLAKE3 that the index
// recorded. Damaged bytes are ErrCorrupt: the item is then marked, and not served from then on
// (storing the same bytes again mends it). An item that was replaced meanwhile is fine.
func (r *Repository) Verify(ctx context.Context, entry index.Entry) error {
	info, err := r.blobs.Verify(ctx, refOf(entry.Item))
	switch {
	case err == nil && info.Size == entry.Item.Size && info.BLAKE3 == entry.Item.BLAKE3:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, blobstore.ErrNotFound):
		return r.translate(err) // the disk could not be read; that says nothing of the bytes
	}
	now, getErr := r.index.Get(entry.Key)
	if getErr != nil || now.Item.Ref != entry.Item.Ref {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("%w: %d bytes, BLAKE3 %x; recorded %d bytes, BLAKE3 %x",
			ErrCorrupt, info.Size, info.BLAKE3, entry.Item.Size, entry.Item.BLAKE3)
	}
	r.env.Logger.Error("item is damaged", "key", entry.Key, "error", err)
	_, markErr := r.apply(ctx, index.SetFlags{
		Key: entry.Key, Ref: entry.Item.Ref, Flags: now.Item.Flags | index.FlagDamaged,
	})
	if markErr != nil && !errors.Is(markErr, ErrConflict) && !errors.Is(markErr, ErrNotFound) {
		return errors.Join(ErrCorrupt, markErr)
	}
	return &messageError{"stored bytes are damaged", ErrCorrupt}
}
