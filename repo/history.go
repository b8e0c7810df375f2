package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
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

// job is the ID of the compaction that a batch is a part of, for cause.
func (b *Batch) job() string {
	switch {
	case b.Open != nil:
		return b.Open.Compaction.id
	case b.Job != nil:
		return b.Job.ID
	}
	return ""
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

// LatestChanges calls fn for changes of items, the latest first, from the one before an ID on (0: from the last), until fn returns an error,
// which is returned, or the history ends. No transaction is held while fn runs. Memory does not depend on the length of the history.
func (r *Repository) LatestChanges(ctx context.Context, before uint64, fn func(index.Change) error) error {
	oldest, ok, err := r.index.OldestChange()
	if err != nil || !ok {
		return r.translate(err)
	}
	next, err := r.index.NextChange()
	if err != nil {
		return r.translate(err)
	}
	if before == 0 || before > next {
		before = next
	}
	// Rows are only read forwards, so that the last ones are found by their IDs, of which no row takes more than MaxChangeCharge. Most take one or
	// two, and most callers want few.
	const widest = pageSize * index.MaxChangeCharge
	for window := uint64(256); before > oldest.ID && ctx.Err() == nil; window = min(2*window, widest) {
		from := max(oldest.ID, before-min(before, window))
		var page []index.Change
		err := r.index.Changes(ctx, from-1, func(c index.Change) error {
			if c.ID >= before {
				return errFull
			}
			page = append(page, c)
			return nil
		})
		if err != nil && !errors.Is(err, errFull) {
			return r.translate(err)
		}
		for _, c := range slices.Backward(page) {
			if err := fn(c); err != nil {
				return err
			}
		}
		before = from
	}
	return ctx.Err()
}

// metaHistorySince is the name of the meta value that says since when each change is recorded, and none was forgotten; Unix ms, decimal. Where
// nothing is recorded there is none.
const metaHistorySince = "history since"

// historyMark is the change of metaHistorySince that belongs to the grace time, until it is stored: with the next change of the index, so that
// it is durable before the first change that is recorded, or is not. A repository in which nothing is changed is not written to.
//
// So is metaImpliedGrace, which is of no use without a change either.
type historyMark struct {
	stored  bool      // metaHistorySince is right already
	since   time.Time // zero: nothing is recorded
	implied bool      // metaImpliedGrace is to be stored
}

func (m *historyMark) mutations() (sets []index.Mutation) {
	if !m.stored {
		sets = append(sets, historySince(m.since))
	}
	if m.implied {
		sets = append(sets, index.SetMeta{Name: metaImpliedGrace, Value: []byte("1")})
	}
	return sets
}

// setGrace changes the grace time, with which the history begins and ends.
func (r *Repository) setGrace(settings Settings) {
	grace, implies := r.graceOf(settings)
	since, err := r.HistorySince()
	if err != nil {
		r.env.Logger.Warn("since when changes are recorded is not known", "repository", r.Name(), "error", err)
	}
	now := r.env.Now()
	mark := historyMark{stored: true, since: since, implied: implies}
	if before := r.history.Load(); before != nil {
		mark.stored = before.stored
	}
	switch {
	case grace <= 0 && (err != nil || !since.IsZero()):
		mark.stored, mark.since = false, time.Time{} // before the first change that is not recorded
	case grace > 0 && (err != nil || since.IsZero() || since.After(now)):
		mark.stored, mark.since = false, now
	}
	if !mark.stored || mark.implied {
		r.history.Store(&mark)
	}
	r.grace.Store(int64(grace))
	r.graceNotSet.Store(settings.Grace < 0 && grace < ImpliedGrace && !settings.Restricted)
}

// historySince is the change of metaHistorySince; zero: nothing is recorded.
func historySince(at time.Time) index.SetMeta {
	m := index.SetMeta{Name: metaHistorySince}
	if !at.IsZero() {
		m.Value = []byte(strconv.FormatInt(at.UnixMilli()+1, 10)) // what was changed within the same millisecond is not known
	}
	return m
}

// HistorySince is the moment since which every change is recorded; zero: none is.
func (r *Repository) HistorySince() (time.Time, error) {
	if mark := r.history.Load(); mark != nil {
		return mark.since, nil
	}
	value, err := r.index.Meta(metaHistorySince)
	if err != nil || value == nil {
		return time.Time{}, r.translate(err)
	}
	ms, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("meta value %s: %w", metaHistorySince, index.ErrCorrupt)
	}
	return time.UnixMilli(ms), nil
}

// heldMargin is how long before the first removal that is held the history begins at least: it is rolled back to a moment before that.
const heldMargin = time.Second

// forgetChanges removes the rows of the history that are older than the grace time, but those that what is held is brought back by.
func (r *Repository) forgetChanges(ctx context.Context) error {
	r.historyMu.Lock()
	defer r.historyMu.Unlock()
	for {
		now := r.env.Now()
		before, err := r.notHeld(ctx, now.Add(-time.Duration(r.grace.Load())))
		if err != nil {
			return err
		}
		oldest, ok, err := r.index.OldestChange()
		if err != nil || !ok || !oldest.At.After(now) && !oldest.At.Before(before) {
			return r.translate(err)
		}
		if gone, err := r.forgetBefore(ctx, before, now); err != nil || gone == 0 {
			return err
		}
	}
}

// notHeld is a time, or an earlier one if what is held is brought back by changes since then.
func (r *Repository) notHeld(ctx context.Context, before time.Time) (time.Time, error) {
	held, err := r.HeldSince(ctx)
	if first := held.Add(-heldMargin); err == nil && !held.IsZero() && first.Before(before) {
		before = first
	}
	return before, err
}

// forgetBefore removes up to reclaimBatch rows that are older than before, and moves the beginning of the history there. historyMu is held.
func (r *Repository) forgetBefore(ctx context.Context, before, now time.Time) (gone int64, err error) {
	muts := []index.Mutation{index.ForgetChanges{Before: before, Now: now, Most: reclaimBatch}}
	if since, err := r.HistorySince(); r.grace.Load() > 0 && (err != nil || since.Before(before)) {
		muts = append(muts, historySince(before))
	}
	results, err := r.apply(ctx, muts...)
	if err != nil {
		return 0, err
	}
	return results[0].Items, nil
}
