package repo

import (
	"context"
	"errors"

	"packhouse/index"
)

// Batch is what Commit makes one index transaction.
type Batch struct {
	Puts     []BatchPut
	Deletes  []BatchDelete
	Requires []index.Require // items that must still be what they were
	Job      *index.Job      // stored with the outcome
	// Reservation is ended by a Commit that succeeds.
	Reservation *Reservation
}

// BatchPut stores a finished upload under its key.
type BatchPut struct {
	Upload   *Upload
	IfAbsent bool   // ErrExists when an item is there
	IfRef    string // if not empty: ErrConflict unless the item there has this reference
	Backup   bool   // counts as a completed backup of the principal
}

// BatchDelete removes an item, if it still has Ref (when Ref is not empty).
type BatchDelete struct {
	Key, Ref      string
	IgnoreMissing bool
}

// PutResult is what a Put found and did.
type PutResult struct {
	Item         index.Item
	Created      bool  // no item was there
	PreviousSize int64 // of the item replaced
	Unchanged    bool  // the same bytes were there already; nothing was written
}

// Commit makes everything in the batch true in one index transaction, or nothing. The uploads
// are durable already (Finish); when Commit returns nil so is all that refers to them.
// This is the commit order of the design: bytes first, index second, unlink last.
func (a *Access) Commit(ctx context.Context, b Batch) ([]PutResult, error) {
	outcome, _, err := a.commit(ctx, b)
	return outcome, err
}

// commit also returns how many items the batch deleted.
func (a *Access) commit(ctx context.Context, b Batch) ([]PutResult, int, error) {
	muts, err := a.mutations(b)
	if err != nil {
		return nil, 0, err
	}
	if err := ctx.Err(); err != nil {
		return nil, 0, err // nothing was asked of the index yet
	}
	results, err := a.r.apply(context.WithoutCancel(ctx), muts...)
	if err != nil {
		var refused *index.GroupError
		if !errors.As(err, &refused) && !errors.Is(err, ErrNoSpace) {
			// The outcome is unknown until the next start, so the blobs stay:
			// Sweep will decide by what the index then says.
			for _, put := range b.Puts {
				put.Upload.ended = true
				put.Upload.release()
			}
		}
		return nil, 0, a.withFigures(err, b)
	}
	outcome, deleted := a.settle(b, results)
	return outcome, deleted, nil
}

// withFigures says of a quota that the index found exceeded by how much.
func (a *Access) withFigures(err error, b Batch) error {
	if !errors.Is(err, ErrQuota) {
		return err
	}
	var bytes int64
	for _, put := range b.Puts {
		bytes += put.Upload.item.Counted() - put.Upload.credit
	}
	return a.refusal(bytes)
}

// mutations puts the deletions first: quota is tested on what the whole batch leaves.
func (a *Access) mutations(b Batch) ([]index.Mutation, error) {
	now := a.r.env.Now()
	muts := make([]index.Mutation, 0, len(b.Requires)+len(b.Deletes)+len(b.Puts)+1)
	for _, require := range b.Requires {
		muts = append(muts, require)
	}
	for _, d := range b.Deletes {
		if err := a.mayChange(d.Key, "D"); err != nil {
			return nil, err
		}
		muts = append(muts, index.Delete{
			Key: d.Key, IfRef: d.Ref, IgnoreMissing: d.IgnoreMissing, TrashUntil: a.r.trashUntil(now), Now: now,
		})
	}
	limits := a.limits(b)
	for i, put := range b.Puts {
		u := put.Upload
		if err := a.mayChange(u.o.Key, "wW"); err != nil {
			return nil, err
		}
		u.item.Modified = now
		muts = append(muts, index.Put{
			Key: u.o.Key, Item: u.item, IfRef: put.IfRef, IfAbsent: put.IfAbsent || put.IfRef == "" && a.May(u.o.Key, "W") != nil,
			Limit: limits[i], Exempt: u.exempt, TrashUntil: a.r.trashUntil(now), Now: now, Backup: put.Backup,
		})
	}
	if b.Job != nil {
		muts = append(muts, index.PutJob{Job: *b.Job})
	}
	return muts, nil
}

// mayChange is May of a key that comes from a plan.
func (a *Access) mayChange(key, letters string) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	return a.May(key, letters)
}

// limits are those of a batch's puts. The last that counts is held against the limit, when all the others have been
// counted; between two of them usage may pass it.
func (a *Access) limits(b Batch) []int64 {
	limits := make([]int64, len(b.Puts))
	last := -1
	for i, put := range b.Puts {
		limits[i] = -1
		if !put.Upload.exempt {
			last = i
		}
	}
	if limit := a.limit(); last >= 0 && limit >= 0 {
		if b.Reservation != nil {
			limit = max(limit, b.Reservation.atMost)
		}
		limits[last] = limit
	}
	return limits
}

// settle does what follows a durable commit: counts, markers, trash.
func (a *Access) settle(b Batch, results []index.Result) (outcome []PutResult, deleted int) {
	results = results[len(b.Requires):]
	var delta int64
	for i := range b.Deletes {
		if previous := results[i].Previous; previous != nil {
			delta -= previous.Counted()
			deleted++
		}
	}
	removed := deleted > 0
	results = results[len(b.Deletes):]
	outcome = make([]PutResult, len(b.Puts))
	for i, put := range b.Puts {
		u := put.Upload
		stored := u.item
		if u.exempt {
			stored.Flags |= index.FlagExempt
		}
		out := PutResult{Item: stored, Created: results[i].Previous == nil}
		added := stored.Counted()
		if previous := results[i].Previous; previous != nil {
			added -= previous.Counted()
			out.PreviousSize = previous.Size
			removed = true
		}
		outcome[i] = out
		u.ended = true
		u.claim.end()
		if u.res != nil {
			u.res.commit(added)
		} else {
			delta += added
		}
		if err := a.r.blobs.Settle(u.ref); err != nil {
			a.r.env.Logger.Warn("marker of a stored blob stays until the next start", "error", err)
		}
	}
	// In one step: between two, others would be promised the bytes of one of them.
	if b.Reservation != nil {
		b.Reservation.r.commit(delta)
		b.Reservation.claim.end()
	} else {
		a.r.quota.add(delta)
	}
	if removed {
		a.r.kick()
	}
	return outcome, deleted
}
