package repo

import (
	"context"
	"errors"
	"hash/maphash"
	"time"

	"packhouse/index"
)

// Some keys are overwritten with each backup, as the index of V'Ger, of hundreds of megabytes. Of what was removed under a
// key longer ago than protectedTime, only the last version of each day (UTC) stays: else the trash of an honest client
// would be full within weeks.

// thinRows is how many keys are remembered while the trash is looked through. If it has more rows, it is looked through in
// parts, by a hash of the key.
const thinRows = 64 << 10

// thinParts is in how many parts the trash is looked through.
func (r *Repository) thinParts() int {
	return 1 + int(r.index.Counters().TrashItems/thinRows)
}

// superseded is a row of the trash, and the key that it should have.
type superseded struct{ id, key string }

// thinVersions removes versions of keys that a later one of the same day has superseded, of one part of the keys. It adds
// to emptied what was removed.
func (r *Repository) thinVersions(ctx context.Context, part, parts int, emptied *Emptied) error {
	seed := r.thinSeed
	protected := r.env.Now().Add(-protectedTime)
	var day int64
	last := make(map[uint64]string) // of the day: the row that was removed last, by the hash of its key
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
			if row.At.Before(protected) && hash%uint64(parts) == uint64(part) {
				if d := row.At.Unix() / (24 * 60 * 60); d != day {
					day = d
					clear(last)
				}
				if id, ok := last[hash]; ok {
					rows = append(rows, superseded{id, row.Key})
				}
				if len(last) < 2*thinRows {
					last[hash] = row.ID
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

// removeSuperseded removes rows for good. Meanwhile some may have been restored, and a key may have the hash of another.
func (r *Repository) removeSuperseded(ctx context.Context, rows []superseded, emptied *Emptied) error {
	r.trashMu.Lock()
	defer r.trashMu.Unlock()
	var gone []index.Removed
	for _, s := range rows {
		row, err := r.index.Removed(s.id)
		switch {
		case errors.Is(err, index.ErrNotFound):
		case err != nil:
			return err
		case row.Key == s.key:
			gone = append(gone, row)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	return r.purgeInto(ctx, gone, emptied)
}
