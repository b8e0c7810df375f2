package compact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo"
)

// scrubCursor is the meta value that holds the key at which the next part of a rolling scrub begins.
const scrubCursor = "scrub.after"

// listedDamaged is how many damaged keys a job names; it counts all.
const listedDamaged = 100

// maxUnreadable is how many items in a row may be unreadable before a scrub ends, because the disk must be the cause.
const maxUnreadable = 100

// SubmitScrub queues a job that reads blobs and compares them with the size and BLAKE3 checksum in the index. A damaged item is
// marked: from then on it is not served, and it is not deleted. An item that cannot be read because of a disk error is reported
// too but not marked, because its bytes may be correct. share is the fraction of the repository's bytes to read, starting
// where the last scrub with a share ended, after the items that no scrub has read since they were adopted; 0, 1 and above mean all of it,
// from the start. A scrub that is already queued
// or running is returned unchanged.
func (e *Engine) SubmitScrub(ctx context.Context, r *repo.Repository, principal string, share float64, when string) (Job, error) {
	if err := CheckWhen(when); err != nil {
		return Job{}, err
	}
	if !(share >= 0) {
		return Job{}, fmt.Errorf("%w: share is a number from 0 to 1", repo.ErrInvalid)
	}
	g := e.gate(r)
	g.submitting.Lock()
	defer g.submitting.Unlock()
	if err := e.Resume(ctx, r); err != nil {
		return Job{}, err
	}
	if job, there := e.underWay(r, Scrub); there {
		return job, nil
	}
	now := e.o.Now()
	usage := r.Usage()
	job := Job{
		ID: fmt.Sprintf("scrub-%s", now.UTC().Format("20060102T150405.000")), Kind: Scrub, State: Queued,
		Principal: principal, When: when, Created: now, Share: share,
		Progress: Progress{OperationsTotal: usage.Items, ReadTotal: usage.Bytes},
	}
	if share = job.share(); share < 1 {
		job.Progress.ReadTotal = max(int64(share*float64(usage.Bytes)), 1)
		job.Progress.OperationsTotal = 0
	}
	if err := r.PutJob(ctx, index.Job{ID: job.ID, Record: encodeJob(job, nil)}); err != nil {
		return job, err
	}
	e.enqueue(r, job)
	return job, nil
}

// share is the part to read, in 0..1.
func (j Job) share() float64 {
	if j.Share <= 0 || j.Share > 1 {
		return 1
	}
	return j.Share
}

// scrub is one scrub under way.
type scrub struct {
	e         *Engine
	r         scrubbed
	items     atomic.Int64
	bytes     atomic.Int64
	total     Progress
	job       *Job
	budget    int64 // bytes
	round     *repo.Round
	lastKey   string // looked at
	exhausted bool   // the budget is
	failures  int    // items in a row that could not be read
}

func (s *scrub) progress() Progress {
	p := s.total
	p.Operations, p.Read = s.items.Load(), s.bytes.Load()
	return p
}

func (e *Engine) carryOutScrub(ctx context.Context, t *task) (Job, error) {
	job := t.job
	s := &scrub{e: e, r: t.repo, total: job.Progress, job: &job, budget: job.Progress.ReadTotal}
	e.mu.Lock()
	t.live = s.progress
	e.mu.Unlock()
	rolling := job.share() < 1
	after := ""
	if rolling {
		cursor, err := s.r.Meta(scrubCursor)
		if err != nil {
			return job, err
		}
		after = string(cursor)
	} else {
		s.budget = -1
	}
	var err error
	if rolling {
		err = s.unverified(ctx)
	}
	if err == nil && !s.exhausted {
		err = s.walk(ctx, after)
	} else {
		s.lastKey = after
	}
	if err == nil && rolling && !s.exhausted && after != "" {
		// The end was reached: go on from the start. A budget below the whole ends before the key at which it began.
		err = s.walk(ctx, "")
	}
	if rolling {
		// Also of one that failed or was cancelled: the next goes on behind it.
		err = errors.Join(err, s.r.SetMeta(context.WithoutCancel(ctx), scrubCursor, []byte(s.lastKey)))
	}
	if job.Bad > 0 {
		e.o.Logger.Error("scrub found damaged items", "job", job.ID, "items", job.Bad, "first", job.Damaged[0])
	}
	if err != nil {
		return job, err
	}
	job.State, job.Finished, job.Progress = Done, e.o.Now(), s.progress()
	job.Progress.OperationsTotal, job.Progress.ReadTotal = job.Progress.Operations, job.Progress.Read
	return job, nil
}

// unverified verifies the items of which nothing is known that their bytes could be held against, as far as the budget reaches: each is
// known from then on, or marked as damaged, so the next scrub goes on behind it. A scrub of everything comes to them in any case.
func (s *scrub) unverified(ctx context.Context) error {
	if s.r.Usage().UnverifiedItems == 0 {
		return nil
	}
	const found = index.FlagDamaged | index.FlagMissing
	unknown := func(e index.Entry) bool { return e.Item.Flags&(index.FlagUnverified|found) == index.FlagUnverified }
	for after := ""; ; {
		batch, err := s.list(ctx, after, unknown)
		if err != nil || len(batch) == 0 {
			return err
		}
		for _, entry := range batch {
			if s.exhausted = s.bytes.Load() >= s.budget; s.exhausted {
				return nil
			}
			if err := s.item(ctx, entry, s.r.Verify); err != nil {
				return err
			}
			after = entry.Key
		}
	}
}

// scrubBatch is how many items are listed before they are read: nothing may be changed, such as marked as
// damaged, while the index is being listed.
const scrubBatch = 256

// walk verifies items from behind a key until the budget is used up.
func (s *scrub) walk(ctx context.Context, after string) error {
	s.lastKey = after
	s.round = s.r.BeginRound(after)
	all := false
	defer func() { s.round.End(all) }()
	for {
		batch, err := s.list(ctx, s.lastKey, func(index.Entry) bool { return true })
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			s.lastKey = "" // the end
			all = true
			return nil
		}
		for _, entry := range batch {
			if s.exhausted = s.budget >= 0 && s.bytes.Load() >= s.budget; s.exhausted {
				return nil
			}
			if err := s.item(ctx, entry, s.round.Verify); err != nil {
				return err
			}
			s.lastKey = entry.Key
		}
	}
}

// list returns those of the items that follow a key that are wanted.
func (s *scrub) list(ctx context.Context, after string, wanted func(index.Entry) bool) ([]index.Entry, error) {
	var batch []index.Entry
	err := s.r.Items(ctx, after, func(entry index.Entry) error {
		if !wanted(entry) {
			return nil
		}
		if batch = append(batch, entry); len(batch) == scrubBatch {
			return io.EOF // enough
		}
		return nil
	})
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return batch, err
}

// item reads one by verify, which is that of the repository or of the round.
func (s *scrub) item(ctx context.Context, entry index.Entry, verify func(context.Context, index.Entry, func(int64) error) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	before := s.bytes.Load()
	// Also one that is marked already: what is whole again, is served again.
	err := verify(ctx, entry, func(n int64) error {
		if err := s.e.throttle(ctx, n, true); err != nil {
			return err
		}
		s.bytes.Add(n)
		return nil
	})
	damaged := err != nil
	if damaged && !errors.Is(err, repo.ErrCorrupt) {
		if err := s.unreadable(ctx, entry.Key, err); err != nil {
			return err
		}
	} else {
		s.failures = 0
	}
	if damaged {
		s.e.metrics.damaged.Inc()
		if s.job.Bad++; len(s.job.Damaged) < listedDamaged {
			s.job.Damaged = append(s.job.Damaged, entry.Key)
		}
	}
	s.items.Add(1)
	s.bytes.Store(before + entry.Item.Size) // a damaged file may be shorter
	return nil
}

// unreadable continues after an item that the disk cannot read, or returns why the scrub must end.
func (s *scrub) unreadable(ctx context.Context, key string, err error) error {
	if ctx.Err() != nil || errors.Is(err, context.Canceled) || errors.Is(err, repo.ErrBusy) || errors.Is(err, repo.ErrNoRepository) || errors.Is(err, repo.ErrDetached) {
		return err
	}
	s.e.o.Logger.Error("item cannot be read", "job", s.job.ID, "key", key, "error", err)
	if s.failures++; s.failures < maxUnreadable {
		return nil
	}
	return fmt.Errorf("%d items in a row cannot be read: %w", maxUnreadable, vfs.WithoutPath(err))
}
