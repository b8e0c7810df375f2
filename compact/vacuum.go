package compact

import (
	"context"
	"fmt"
	"sync/atomic"

	"packhouse/index"
	"packhouse/repo"
)

// SubmitVacuum queues a job that empties the segments of the log of which less than half is live, see repo.Repository.Vacuum. One that is queued or
// running is returned as it is. When there is no such segment, none is queued, and the job has no ID.
func (e *Engine) SubmitVacuum(ctx context.Context, r *repo.Repository, principal, when string) (Job, error) {
	if err := CheckWhen(when); err != nil {
		return Job{}, err
	}
	g := e.gate(r)
	g.submitting.Lock()
	defer g.submitting.Unlock()
	if err := e.Resume(ctx, r); err != nil {
		return Job{}, err
	}
	if job, there := e.underWay(r, Vacuum); there {
		return job, nil
	}
	segments, live, err := r.Sparse()
	if err != nil || segments == 0 {
		return Job{}, err
	}
	now := e.o.Now()
	job := Job{
		ID: fmt.Sprintf("vacuum-%s", now.UTC().Format("20060102T150405.000")), Kind: Vacuum, State: Queued,
		Principal: principal, When: when, Created: now, Progress: Progress{OperationsTotal: segments, ReadTotal: live},
	}
	if err := r.PutJob(ctx, index.Job{ID: job.ID, Record: encodeJob(job, nil)}); err != nil {
		return job, err
	}
	e.enqueue(r, job)
	return job, nil
}

// underWay is the job of a kind that is queued or running.
func (e *Engine) underWay(r *repo.Repository, kind Kind) (Job, bool) {
	for _, job := range e.live(r) {
		if job.Kind == kind && !job.State.Ended() {
			return job, true
		}
	}
	return Job{}, false
}

// carryOutVacuum is one vacuum. What it moved until an error stays moved.
func (e *Engine) carryOutVacuum(ctx context.Context, t *task) (Job, error) {
	job := t.job
	var done atomic.Pointer[repo.VacuumReport]
	done.Store(new(repo.VacuumReport))
	progress := func() Progress {
		p, d := job.Progress, done.Load()
		p.Operations, p.Read, p.Written, p.Freed = d.Segments, d.Moved, d.Moved, d.Freed
		return p
	}
	e.mu.Lock()
	t.live = progress
	e.mu.Unlock()
	var v vacuumed = t.repo
	report, err := v.Vacuum(ctx, func(n int64) error { return e.throttle(ctx, n, true) },
		func(report repo.VacuumReport) { done.Store(&report) })
	if err != nil {
		return Job{}, err
	}
	done.Store(&report)
	job.Bad = report.Unreadable
	final := progress()
	job.State, job.Finished, job.Progress = Done, e.o.Now(), final
	job.Progress.OperationsTotal, job.Progress.ReadTotal = final.Operations, final.Read
	e.metrics.vacuumed.Add(float64(report.Freed))
	return job, nil
}
