package repo

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"time"

	"packhouse/index"
)

// Some keys are overwritten with each backup, as the index of V'Ger, of hundreds of megabytes. Of what was removed under a
// key longer ago than Settings.Protect, only the version stays that was removed first on each day (UTC): else the trash of an honest
// client would be full within weeks. That is the version which the key had when the day began, so that of each day there is one
// moment, its beginning, of which all is still there, at whatever hours keys are overwritten. And who overwrites an item again and again
// cannot have what was there before thinned out.

// thinRows is how many keys are remembered while the trash is looked through. If it has more rows, it is looked through in
// parts, by a hash of the key.
const thinRows = 64 << 10

// dayOf is the day (UTC) of a time, since 1970.
func dayOf(t time.Time) int64 { return t.Unix() / (24 * 60 * 60) }

// thinParts is in how many parts the trash is looked through.
func (r *Repository) thinParts() int {
	return 1 + int(r.index.Counters().TrashItems/thinRows)
}

// superseded is a row of the trash, and the one by which it is: that was removed earlier on the same day, under the same key as far as
// a hash of it tells. Both are IDs.
type superseded struct{ id, by string }

// thinVersions removes versions of keys of which an earlier one was removed on the same day, of one part of the keys. It adds
// to emptied what was removed.
func (r *Repository) thinVersions(ctx context.Context, part, parts int, emptied *Emptied) error {
	seed := r.thinSeed
	hold, err := r.hold(ctx)
	if err != nil {
		return err
	}
	protected := r.env.Now().Add(-r.Protected())
	var day int64
	first := make(map[uint64]string) // of the day: the row that was removed first, by the hash of its key
	enough := errors.New("enough")
	for after, more := "", true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var rows []superseded
		looked := 0
		// The rows lie in the order in which they expire, and so, unless the grace time was changed, in that in which they
		// were removed. Where they do not, too many stay.
		err := r.index.TrashAfter(after, time.Time{}, func(row index.Removed) error {
			after = row.ID
			hash := maphash.String(seed, row.Key)
			if row.At.Before(protected) && hash%uint64(parts) == uint64(part) && !hold.holds(&row) {
				if d := dayOf(row.At); d != day {
					day = d
					clear(first)
				}
				by, ok := first[hash]
				switch {
				case !ok && len(first) < 2*thinRows:
					first[hash] = row.ID
				case ok && dayOf(row.Item.Modified) == day: // else it was there when the day began, perhaps under another key
					rows = append(rows, superseded{row.ID, by})
				}
			}
			if looked++; looked == emptyPage || len(rows) == reclaimBatch {
				return enough
			}
			return nil
		})
		if more = errors.Is(err, enough); err != nil && !more {
			return err
		}
		if err := r.removeSuperseded(ctx, rows, emptied); err != nil {
			return err
		}
	}
	return nil
}

// removeSuperseded removes rows for good, unless the other is no reason for that: it may have been restored meanwhile, and then it is
// not there for its day; or its key has the same hash and is another one.
func (r *Repository) removeSuperseded(ctx context.Context, rows []superseded, emptied *Emptied) error {
	r.trashMu.Lock()
	defer r.trashMu.Unlock()
	var gone []index.Removed
	for _, s := range rows {
		row, err := r.index.Removed(s.id)
		first, firstErr := r.index.Removed(s.by)
		switch err := cmp.Or(err, firstErr); {
		case errors.Is(err, index.ErrNotFound):
		case err != nil:
			return err
		case row.Key == first.Key && !row.At.Before(first.At):
			gone = append(gone, row)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	return r.purgeInto(ctx, gone, emptied)
}
