package repo

import (
	"context"
	"time"

	"packhouse/index"
)

// cause is what the history says of a change that the principal asks for; job is the ID of the compaction, if it is one.
// nil: removed items have no grace time, so there would be nothing to go back to, and nothing is recorded.
func (a *Access) cause(job string) *index.Cause {
	if a.r.grace.Load() <= 0 {
		return nil
	}
	return &index.Cause{Principal: a.p.Name, Address: a.p.Address, Job: job}
}

// ownCause is cause of a change that the server makes itself, or an administrator.
func (r *Repository) ownCause() *index.Cause {
	return r.As(Principal{}).cause("")
}

// causeOf is cause of all that a batch changes.
func (a *Access) causeOf(b Batch) *index.Cause {
	switch {
	case b.Open != nil:
		return a.cause(b.Open.Compaction.id)
	case b.Job != nil:
		return a.cause(b.Job.ID)
	}
	return a.cause("")
}

// Changes calls fn for the changes of items, the oldest first. They are recorded where removed items have a grace time, and
// kept for as long. No transaction is held while fn runs.
func (r *Repository) Changes(ctx context.Context, fn func(index.Change) error) error {
	return inPages(func(last *index.Change, fn func(index.Change) error) error {
		after := uint64(0)
		if last != nil {
			after = last.ID
		}
		return r.translate(r.index.Changes(ctx, after, fn))
	}, fn)
}

// forgetChanges removes the rows of the history that are older than the grace time.
func (r *Repository) forgetChanges(ctx context.Context) error {
	for {
		now := r.env.Now()
		before := now.Add(-time.Duration(r.grace.Load()))
		oldest, ok, err := r.index.OldestChange()
		if err != nil || !ok || !oldest.At.After(now) && !oldest.At.Before(before) {
			return r.translate(err)
		}
		results, err := r.apply(ctx, index.ForgetChanges{Before: before, Now: now, Most: reclaimBatch})
		if err != nil || results[0].Items == 0 {
			return err
		}
	}
}
