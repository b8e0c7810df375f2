package repo

import (
	"context"
	"fmt"
	"path/filepath"
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

// metaHistorySince is the name of the meta value that says since when each change is recorded, and none was forgotten; Unix ms, decimal. Where
// nothing is recorded there is none.
const metaHistorySince = "history since"

// historyMark is the change of metaHistorySince that belongs to the grace time, until it is stored: with the next change of the index, so that
// it is durable before the first change that is recorded, or is not. A repository in which nothing is changed is not written to.
type historyMark struct {
	set   index.SetMeta
	since time.Time // zero: nothing is recorded
}

// setGrace changes the grace time, with which the history begins and ends.
func (r *Repository) setGrace(grace time.Duration) {
	since, err := r.HistorySince()
	if err != nil {
		r.env.Logger.Warn("since when changes are recorded is not known", "repository", filepath.Base(r.dir), "error", err)
	}
	now := r.env.Now()
	switch {
	case grace <= 0 && (err != nil || !since.IsZero()):
		r.history.Store(&historyMark{set: historySince(nil)}) // before the first change that is not recorded
	case grace > 0 && (err != nil || since.IsZero() || since.After(now)):
		r.history.Store(&historyMark{set: historySince(&now), since: now})
	}
	r.grace.Store(int64(grace))
}

func historySince(at *time.Time) index.SetMeta {
	m := index.SetMeta{Name: metaHistorySince}
	if at != nil {
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

// forgetChanges removes the rows of the history that are older than the grace time.
func (r *Repository) forgetChanges(ctx context.Context) error {
	for {
		now := r.env.Now()
		before := now.Add(-time.Duration(r.grace.Load()))
		oldest, ok, err := r.index.OldestChange()
		if err != nil || !ok || !oldest.At.After(now) && !oldest.At.Before(before) {
			return r.translate(err)
		}
		muts := []index.Mutation{index.ForgetChanges{Before: before, Now: now, Most: reclaimBatch}}
		if r.grace.Load() > 0 {
			muts = append(muts, historySince(&before))
		}
		results, err := r.apply(ctx, muts...)
		if err != nil || results[0].Items == 0 {
			return err
		}
	}
}
