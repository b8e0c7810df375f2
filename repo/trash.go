package repo

import (
	"context"
	"errors"
	"time"

	"packhouse/blobstore"
	"packhouse/index"
)

// reclaimBatch is how many removed items one transaction forgets: enough to share
// its cost, few enough not to hold up writers.
const reclaimBatch = 1000

// reclaim removes the blobs of items whose grace time is over: unlink first,
// then the trash row, so that a crash in between unlinks again and leaks nothing.
func (r *Repository) reclaim(ctx context.Context) {
	for {
		wait := time.Hour
		if next, ok, err := r.index.NextExpiry(); err != nil {
			r.env.Logger.Error("trash cannot be read", "error", err)
		} else if ok {
			if wait = next.Sub(r.env.Now()); wait <= 0 {
				if err := r.reclaimSome(ctx); err != nil {
					r.env.Logger.Warn("trash stays for now", "error", err)
					wait = time.Minute
				} else {
					wait = 0
				}
			}
		}
		timer := time.NewTimer(max(min(wait, time.Hour), 0))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-r.wake:
			timer.Stop()
		}
	}
}

// reclaimSome removes up to reclaimBatch expired blobs.
func (r *Repository) reclaimSome(ctx context.Context) error {
	r.trashMu.Lock()
	defer r.trashMu.Unlock()
	enough := errors.New("enough")
	var ids []string
	var refs []blobstore.Ref
	err := r.index.Trash(r.env.Now().Add(1), func(removed index.Removed) error {
		ids = append(ids, removed.ID)
		refs = append(refs, refOf(removed.Item))
		if len(ids) == reclaimBatch {
			return enough
		}
		return nil
	})
	if err != nil && !errors.Is(err, enough) {
		return err
	}
	// Of a failed index a row may be seen that the disk does not have: there the blob is still an item's.
	if err := r.Durable(); err != nil {
		return err
	}
	removeErr := r.blobs.RemoveAll(refs)
	if removeErr != nil {
		if err := r.writable(); err != nil {
			return err
		}
		// One file that cannot be unlinked must not keep the others' rows, and in time all that come after it.
		var gone []string
		for i, ref := range refs {
			if r.blobs.Remove(ref) == nil {
				gone = append(gone, ids[i])
			}
		}
		ids = gone
	}
	_, err = r.apply(ctx, index.PurgeTrash{IDs: ids})
	return errors.Join(removeErr, err)
}

// kick tells the reclaimer that the trash has changed.
func (r *Repository) kick() {
	select {
	case r.wake <- struct{}{}:
	default: // it is awake already
	}
}

// Trash calls fn for every item that can still be restored, in order of expiry.
func (r *Repository) Trash(fn func(index.Removed) error) error {
	return r.translate(r.index.Trash(time.Time{}, fn))
}

// Restore puts a removed item back under key (empty: the key it had). ErrNotFound when its grace time is over
// or its bytes are gone, ErrCorrupt when they are cut short, ErrExists when an item is there, ErrQuota as a *QuotaError when it does not fit any more; it then stays in the trash.
func (r *Repository) Restore(ctx context.Context, id, key string) (index.Item, error) {
	if key != "" {
		if err := CheckKey(key); err != nil {
			return index.Item{}, err
		}
	}
	r.trashMu.Lock()
	defer r.trashMu.Unlock()
	if err := r.restorable(id); err != nil {
		return index.Item{}, err
	}
	_, _, limit := r.quota.current()
	results, err := r.apply(ctx, index.Restore{ID: id, Key: key, Limit: limit, Now: r.env.Now()})
	var refused *index.GroupError
	if errors.Is(err, ErrQuota) && errors.As(err, &refused) && refused.Result.Moved != nil {
		used, _, limit := r.quota.current()
		size := refused.Result.Moved.Size
		return index.Item{}, &QuotaError{Used: used, Wanted: used + size, Limit: limit, Request: size}
	}
	if err != nil {
		return index.Item{}, err
	}
	r.quota.add(results[0].Moved.Counted())
	return *results[0].Moved, nil
}

// restorable wants the bytes of a row to be there: they are unlinked before it goes, and a crash in between, with
// a clock that is set back after it, leaves a row that has not expired.
func (r *Repository) restorable(id string) error {
	removed, err := r.index.Removed(id)
	if err != nil {
		return r.translate(err)
	}
	blob, err := r.blobs.Open(refOf(removed.Item), removed.Item.Size)
	if errors.Is(err, blobstore.ErrNotFound) {
		return &messageError{"the bytes of this item are gone already", ErrNotFound}
	}
	if err != nil {
		return r.translate(err)
	}
	return r.translate(blob.Close())
}

func refOf(item index.Item) blobstore.Ref { return blobstore.Ref(item.Ref) }
