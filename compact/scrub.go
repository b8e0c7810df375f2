package compact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"packhouse/index"
	"packhouse/repo"
)

// scrubPlace is the meta value that holds the key at which the next part of a rolling scrub begins.
const scrubPlace = "scrub.after"

// listedDamaged is how many damaged keys a job names; it counts all.
const listedDamaged = 100

// SubmitScrub queues a job that reads blobs and compares them with the size and BLAKE3 in the index. A damaged
// item is marked: not served from then on, and not deleted either. share is the part of the
// repository's bytes to read, going on where the last scrub with a share ended; 0 or 1 and above: all of it, from the
// start. A scrub that is queued or running is returned as it is.
func (e *Engine) SubmitScrub(ctx context.Context, r *repo.Repository, principal string, share float64, when string) (Job, error) {
	if err := CheckWhen(when); err != nil {
		return Job{}, err
	}
	if !(share >= 0) {
		return Job{}, fmt.Errorf("%w: share is a number from 0 to 1", repo.ErrInvalid)
	}
	e.submitting.Lock()
	defer e.submitting.Unlock()
	if err := e.Resume(ctx, r); err != nil {
		return Job{}, err
	}
	for _, job := range e.live(r) {
		if job.Kind == Scrub && !job.State.Ended() {
			return job, nil
		}
	}
	now := e.o.Now()
	usage := r.Usage()
	job := Job{
		ID: fmt.Sprintf("scrub-%s", now.UTC().Format("20060102T150405.000")), Kind: Scrub, State: Queued,
		Principal: principal, When: when, Created: now, Share: share,
		Progress: Progress{OperationsTotal: usage.Items, ReadTotal: usage.Bytes},
	}
	if share = job.share(); share < 1 {
		job.Progress.ReadTotal = int64(share * float64(usage.Bytes))
		job.Progress.OperationsTotal = 0
	}
	return job, e.enqueue(ctx, r, job)
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
	r         *repo.Repository
	items     atomic.Int64
	bytes     atomic.Int64
	total     Progress
	job       *Job
	budget    int64  // bytes
	lastKey   string // looked at
	exhausted bool   // the budget is
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
		place, err := t.repo.Index().Meta(scrubPlace)
		if err != nil {
			return Job{}, err
		}
		after = string(place)
	} else {
		s.budget = -1
	}
	err := s.walk(ctx, after)
	if err == nil && rolling && !s.exhausted && after != "" {
		// The end was reached: go on from the start. A budget below the whole ends before the place it began.
		err = s.walk(ctx, "")
	}
	if rolling && (err == nil || ctx.Err() != nil) {
		if err := t.repo.SetMeta(context.WithoutCancel(ctx), scrubPlace, []byte(s.lastKey)); err != nil {
			return Job{}, err
		}
	}
	if err != nil {
		return Job{}, err
	}
	job.State, job.Finished, job.Progress = Done, e.o.Now(), s.progress()
	job.Progress.OperationsTotal, job.Progress.ReadTotal = job.Progress.Operations, job.Progress.Read
	if job.Bad > 0 {
		e.metrics.damaged.Add(float64(job.Bad))
		e.o.Logger.Error("scrub found damaged items", "job", job.ID, "items", job.Bad, "first", job.Damaged[0])
	}
	return job, nil
}

// scrubBatch is how many items are listed before they are read: nothing may be changed, such as marked as
// damaged, while the index is being listed.
const scrubBatch = 256

// walk verifies items from behind a key until the budget is used up.
func (s *scrub) walk(ctx context.Context, after string) error {
	s.lastKey = after
	for {
		batch, err := s.list(ctx)
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			s.lastKey = "" // the end
			return nil
		}
		for _, entry := range batch {
			if s.exhausted = s.budget >= 0 && s.bytes.Load() >= s.budget; s.exhausted {
				return nil
			}
			if err := s.item(ctx, entry); err != nil {
				return err
			}
			s.lastKey = entry.Key
		}
	}
}

// list returns the items that follow lastKey.
func (s *scrub) list(ctx context.Context) ([]index.Entry, error) {
	var batch []index.Entry
	err := s.r.Index().List(ctx, index.ListOptions{Recursive: true, After: s.lastKey}, func(entry index.Entry) error {
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

func (s *scrub) item(ctx context.Context, entry index.Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.e.throttle(ctx, entry.Item.Size, true); err != nil {
		return err
	}
	damaged := entry.Item.Flags&index.FlagDamaged != 0
	if !damaged {
		err := s.r.Verify(ctx, entry)
		if err != nil && !errors.Is(err, repo.ErrCorrupt) {
			return err
		}
		damaged = err != nil
	}
	if damaged {
		if s.job.Bad++; len(s.job.Damaged) < listedDamaged {
			s.job.Damaged = append(s.job.Damaged, entry.Key)
		}
	}
	s.items.Add(1)
	s.bytes.Add(entry.Item.Size)
	return nil
}
