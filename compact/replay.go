package compact

import (
	"context"
	"errors"
	"time"

	"packhouse/index"
	"packhouse/repo"
)

// replay returns the stored result for this plan, if it still matches the repository; nil if there is none.
func (r *run) replay() (*result, error) {
	row, err := r.repo.Job(r.id)
	if errors.Is(err, repo.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	job, rest, err := decodeJob(row.Record)
	if err != nil {
		r.e.o.Logger.Warn("stored result of a job cannot be decoded; the plan is carried out again", "job", r.id, "error", err)
		return nil, nil
	}
	if job.State != Done || r.e.expired(job) {
		return nil, nil
	}
	open := r.open.Load()
	if open != nil && (job.Lock == "" || job.Lock != open.Lock()) {
		return nil, nil // another run of the client, which finds the outputs
	}
	kept, err := decodeResult(rest)
	if err != nil {
		r.e.o.Logger.Warn("stored result of a job cannot be decoded; the plan is carried out again", "job", r.id, "error", err)
		return nil, nil
	}
	if ok, err := kept.holds(r.ctx, r.own, r.records, open != nil); err != nil || !ok {
		return nil, err
	}
	if err := r.repo.Durable(); err != nil {
		return nil, err
	}
	r.job = job
	return kept, nil
}

// expired also tells of a job that has ended longer in the future than results are kept: the clock was wrong then, and nobody
// waits for that time.
func (e *Engine) expired(job Job) bool { return e.o.Now().Sub(job.Finished).Abs() > e.o.Keep }

// Prune deletes jobs that ended longer ago than results are kept.
func (e *Engine) Prune(ctx context.Context, r *repo.Repository) error { return e.prune(ctx, r, r) }

func (e *Engine) prune(ctx context.Context, rows jobRows, files planFiles) error {
	var old []string
	err := rows.Jobs(func(row index.Job) error {
		job, _, err := decodeJob(row.Record)
		if err == nil && job.State.Ended() && e.expired(job) {
			old = append(old, row.ID)
		}
		return nil
	})
	if err == nil {
		err = rows.DeleteJobs(ctx, old)
	}
	if err != nil {
		return err
	}
	for _, id := range old {
		if err := files.RemoveFile(repo.JobsFolder, id); err != nil {
			return err
		}
	}
	return nil
}

// pruneSometimes is Prune, at most once an hour for each repository.
func (e *Engine) pruneSometimes(ctx context.Context, r *repo.Repository, now time.Time) {
	e.mu.Lock()
	due := now.Sub(e.pruned[r]) >= time.Hour
	if due {
		e.pruned[r] = now
	}
	e.mu.Unlock()
	if !due {
		return
	}
	if err := e.Prune(ctx, r); err != nil {
		e.o.Logger.Warn("expired jobs could not be deleted; retried later", "error", err)
	}
}
