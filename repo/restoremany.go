package repo

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"time"

	"packhouse/index"
)

// RestoreSelection says which removed items are to be restored: all that every field set allows.
type RestoreSelection struct {
	IDs       []string  // of rows of the trash, which may be put in another order; nil: any
	Prefix    string    // of the key that an item had; "": any
	Since     time.Time // when it was removed, or later; zero: any time
	Principal *string   // who stored the item; nil: anybody
	// Replace removes the item, if there is one, that has the key now. Otherwise such keys are skipped.
	Replace bool
}

// Restored is the result of RestoreMany.
type Restored struct {
	Items   int64    // that came back
	Bytes   int64    // their sizes
	Skipped int64    // keys that have an item, or are directories
	Failed  []string // keys of items that could not be restored, and why: the first hundred
}

// restoreFailures is how many keys RestoreMany names.
const restoreFailures = 100

// RestoreMany restores removed items under the keys that they had. Of several versions of a key it takes the one that was removed last. Each
// item comes back in a transaction of its own, with what it replaces; ctx is looked at between two. If it fails, it reports what was
// restored until then. Errors: ErrQuota, ErrReadOnly and others of any change.
func (r *Repository) RestoreMany(ctx context.Context, sel RestoreSelection) (done Restored, err error) {
	newest := r.newTable(newerRow)
	defer newest.Close() // nothing of it is kept
	err = r.selected(ctx, sel, func(removed *index.Removed) error {
		return newest.Put(sortKey(removed.Key), encodeRow(removed))
	})
	if err != nil {
		return done, r.translate(err)
	}
	err = newest.Each(func(key string, row []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		size, err := r.restoreRow(ctx, rowID(row), sel.Replace)
		switch {
		case err == nil:
			done.Items++
			done.Bytes += size
		case errors.Is(err, ErrExists) && !sel.Replace, errors.Is(err, ErrIsDir):
			done.Skipped++
		case errors.Is(err, ErrNotFound), errors.Is(err, ErrCorrupt), errors.Is(err, ErrNotDir), errors.Is(err, ErrConflict), errors.Is(err, ErrExists):
			if len(done.Failed) < restoreFailures {
				done.Failed = append(done.Failed, keyOfSorted(key)+": "+err.Error())
			}
		default:
			return err
		}
		return nil
	})
	if err != nil {
		return done, r.translate(err)
	}
	r.env.Logger.Warn("removed items were restored", "repository", r.Name(), "items", done.Items, "skipped", done.Skipped, "failed", len(done.Failed))
	return done, nil
}

// selected calls fn for the rows of the trash that a selection has, in their order there. Of IDs, which are put in order, only those rows
// are looked at.
func (r *Repository) selected(ctx context.Context, sel RestoreSelection, fn func(*index.Removed) error) error {
	each := func(removed index.Removed) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !strings.HasPrefix(removed.Key, sel.Prefix) || removed.At.Before(sel.Since) ||
			sel.Principal != nil && removed.Item.Writer != *sel.Principal || removed.Item.Flags&index.FlagExempt != 0 {
			return nil
		}
		return fn(&removed)
	}
	if sel.IDs == nil {
		return r.Trash(each)
	}
	slices.Sort(sel.IDs)
	for _, id := range slices.Compact(sel.IDs) {
		removed, err := r.index.Removed(id)
		if errors.Is(err, index.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if err := each(removed); err != nil {
			return err
		}
	}
	return nil
}

// What RestoreMany remembers of a row of the trash: when it was removed, Unix ms, and its ID.
func encodeRow(removed *index.Removed) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(removed.At.UnixMilli())), removed.ID...)
}

func rowID(row []byte) string { return string(row[8:]) }

// newerRow is the one of two that was removed later.
func newerRow(a, b []byte) []byte {
	if int64(binary.BigEndian.Uint64(b)) >= int64(binary.BigEndian.Uint64(a)) {
		return b
	}
	return a
}

// restoreRow restores the row of an ID, in place of what has its key now if that may be, and returns the size of the item.
func (r *Repository) restoreRow(ctx context.Context, id string, replace bool) (size int64, err error) {
	item, err := r.Restore(ctx, id, "")
	if !replace || !errors.Is(err, ErrExists) {
		return item.Size, err
	}
	r.trashMu.Lock()
	defer r.trashMu.Unlock()
	row, held, err := r.restorable(ctx, id)
	if err != nil {
		return 0, err
	}
	now, err := r.index.Get(row.Key)
	if err != nil || now.Dir {
		return 0, r.translate(errors.Join(err, ErrConflict))
	}
	res, err := r.As(Principal{}).reserveRestored(row.Item.Counted() - now.Item.Counted())
	if err != nil {
		return 0, err
	}
	defer res.release()
	at, cause := r.env.Now(), r.ownCause()
	results, err := r.apply(ctx,
		index.Delete{Key: row.Key, IfRef: now.Item.Ref, TrashUntil: r.trashUntil(at), Now: at, Cause: cause},
		index.Restore{ID: row.ID, Held: held, Key: row.Key, Limit: -1, Now: at, TrashUntil: r.trashUntil(at), Cause: cause})
	if err != nil {
		return 0, err
	}
	delta := results[1].Moved.Counted() - results[0].Previous.Counted()
	res.commit(delta, r.commit.counts(row.Key, results[1].Moved.Counted())-r.commit.counts(row.Key, results[0].Previous.Counted()))
	r.kick()
	return row.Item.Size, nil
}
