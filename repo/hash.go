package repo

import (
	"context"
	"errors"
	"io"

	"packhouse/blobstore"
	"packhouse/repo/digest"
)

// Hash computes a digest of the item's bytes as they are on disk now, so that
// damage shows: also of an item that is marked as damaged, for a client's check goes on with the next item after
// a wrong digest, and ends at an error. Callers that ask for the same at once share one computation.
func (a *Access) Hash(ctx context.Context, key string, algorithm digest.Algorithm) ([]byte, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	if err := a.May(key, "r"); err != nil {
		return nil, err
	}
	object, err := a.r.openAny(ctx, key)
	if err != nil {
		return nil, err
	}
	defer object.Close()
	// The computation goes on when one of its callers leaves: others may wait for it, and a client
	// that gave up asks again.
	done := a.r.hashes.DoChan(algorithm.Name+" "+object.Item.Ref, func() (any, error) {
		own, err := a.r.blobs.Open(refOf(object.Item), object.Item.Size)
		if errors.Is(err, blobstore.ErrNotFound) {
			return nil, ErrNotFound // removed since we looked
		}
		if err != nil {
			return nil, a.r.translate(err)
		}
		defer own.Close()
		h := algorithm.New()
		if _, err := copyBody(h, io.NewSectionReader(own, 0, own.Size())); err != nil {
			return nil, &messageError{"the stored bytes of this item cannot be read", ErrCorrupt}
		}
		return h.Sum(nil), nil
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case result := <-done:
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Val.([]byte), nil
	}
}
