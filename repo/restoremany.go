package repo

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"packhouse/index"
)

// RestoreSelection says which removed items are to be restored: all that every field set allows.
type RestoreSelection struct {
	IDs       []string  // of rows of the trash; nil: any
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
	wanted := make(map[string]bool, len(sel.IDs))
	for _, id := range sel.IDs {
		wanted[id] = true
	}
	newest := make(map[string]index.Removed)
	err = r.Trash(func(removed index.Removed) error {
		switch {
		case sel.IDs != nil && !wanted[removed.ID], !strings.HasPrefix(removed.Key, sel.Prefix), removed.At.Before(sel.Since),
			sel.Principal != nil && removed.Item.Writer != *sel.Principal, removed.Item.Flags&index.FlagExempt != 0:
			return ctx.Err()
		}
		if other, there := newest[removed.Key]; !there || !removed.At.Before(other.At) {
			newest[removed.Key] = removed
		}
		return ctx.Err()
	})
	if err != nil {
		return done, err
	}
	rows := make([]index.Removed, 0, len(newest))
	for _, removed := range newest {
		rows = append(rows, removed)
	}
	slices.SortFunc(rows, func(a, b index.Removed) int { return index.CompareKeys(a.Key, b.Key) })
	for _, row := range rows {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		err := r.restoreRow(ctx, row, sel.Replace)
		switch {
		case err == nil:
			done.Items++
			done.Bytes += row.Item.Size
		case errors.Is(err, ErrExists) && !sel.Replace, errors.Is(err, ErrIsDir):
			done.Skipped++
		case errors.Is(err, ErrNotFound), errors.Is(err, ErrCorrupt), errors.Is(err, ErrNotDir), errors.Is(err, ErrConflict), errors.Is(err, ErrExists):
			if len(done.Failed) < restoreFailures {
				done.Failed = append(done.Failed, row.Key+": "+err.Error())
			}
		default:
			return done, err
		}
	}
	r.env.Logger.Warn("removed items were restored", "repository", filepath.Base(r.dir), "items", done.Items, "skipped", done.Skipped, "failed", len(done.Failed))
	return done, nil
}

// restoreRow restores one row, in place of what has its key now if that may be.
func (r *Repository) restoreRow(ctx context.Context, row index.Removed, replace bool) error {
	_, err := r.Restore(ctx, row.ID, "")
	if !replace || !errors.Is(err, ErrExists) {
		return err
	}
	r.trashMu.Lock()
	defer r.trashMu.Unlock()
	_, held, err := r.restorable(ctx, row.ID)
	if err != nil {
		return err
	}
	now, err := r.index.Get(row.Key)
	if err != nil || now.Dir {
		return r.translate(errors.Join(err, ErrConflict))
	}
	res, err := r.As(Principal{}).reserveRestored(row.Item.Counted() - now.Item.Counted())
	if err != nil {
		return err
	}
	defer res.release()
	at, cause := r.env.Now(), r.ownCause()
	results, err := r.apply(ctx,
		index.Delete{Key: row.Key, IfRef: now.Item.Ref, TrashUntil: r.trashUntil(at), Now: at, Cause: cause},
		index.Restore{ID: row.ID, Held: held, Key: row.Key, Limit: -1, Now: at, TrashUntil: r.trashUntil(at), Cause: cause})
	if err != nil {
		return err
	}
	delta := results[1].Moved.Counted() - results[0].Previous.Counted()
	res.commit(delta, r.commit.counts(row.Key, results[1].Moved.Counted())-r.commit.counts(row.Key, results[0].Previous.Counted()))
	r.kick()
	return nil
}
