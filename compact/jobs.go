package compact

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"packhouse/index"
	"packhouse/repo"
)

// Jobs lists the jobs of a repository, oldest first: queued and running ones, requests for which a client is waiting, and those
// that ended within the time for which results are kept.
func (e *Engine) Jobs(ctx context.Context, r *repo.Repository) ([]Job, error) {
	var jobs []Job
	err := e.EachJob(ctx, r, func(job Job) error {
		jobs = append(jobs, job)
		return nil
	})
	return jobs, err
}

// EachJob is Jobs for lists of any length: fn is called for each job, and only the order of the others is in memory. (borg
// creates a job for every pack that it rewrites.) An error of fn ends the listing and is returned.
func (e *Engine) EachJob(ctx context.Context, r *repo.Repository, fn func(Job) error) error {
	order, live, err := e.order(ctx, r, nil)
	if err != nil {
		return err
	}
	return visit(ctx, r, order, live, fn)
}

// RecentJobs returns a page of the jobs that want accepts (nil: all): at most `most`, the latest first, behind the first `skip`.
// total is how many there are.
func (e *Engine) RecentJobs(ctx context.Context, r *repo.Repository, want func(Job) bool, skip, most int) (page []Job, total int, err error) {
	order, live, err := e.order(ctx, r, want)
	if err != nil {
		return nil, 0, err
	}
	total = len(order)
	slices.Reverse(order)
	order = order[min(skip, total):]
	err = visit(ctx, r, order[:min(most, len(order))], live, func(job Job) error {
		page = append(page, job)
		return nil
	})
	return page, total, err
}

// position is the place of a job in the order of their creation.
type position struct {
	created time.Time
	id      string
}

// order returns the places of the jobs that want accepts (nil: all), and the jobs whose rows are not up to date.
func (e *Engine) order(ctx context.Context, r *repo.Repository, want func(Job) bool) (order []position, live map[string]Job, err error) {
	if err := e.Resume(ctx, r); err != nil {
		return nil, nil, err
	}
	live = e.live(r)
	err = r.Jobs(func(row index.Job) error {
		job, _, err := decodeJob(row.Record)
		if _, now := live[row.ID]; err == nil && !now && (want == nil || want(job)) {
			order = append(order, position{job.Created, row.ID})
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, nil, err
	}
	for id, job := range live {
		if want == nil || want(job) {
			order = append(order, position{job.Created, id})
		}
	}
	slices.SortFunc(order, func(a, b position) int {
		return cmp.Or(a.created.Compare(b.created), strings.Compare(a.id, b.id))
	})
	return order, live, nil
}

// visit calls fn for the jobs at these places.
func visit(ctx context.Context, r *repo.Repository, order []position, live map[string]Job, fn func(Job) error) (err error) {
	for _, p := range order {
		job, ok := live[p.id]
		if !ok {
			job, err = stored(r, p.id)
		}
		if errors.Is(err, repo.ErrNotFound) {
			continue // forgotten meanwhile
		}
		if err = cmp.Or(err, ctx.Err()); err == nil {
			err = fn(job)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Job returns one job: ErrNotFound when there is none of that ID.
func (e *Engine) Job(r *repo.Repository, id string) (Job, error) {
	if job, ok := e.live(r)[id]; ok {
		return job, nil
	}
	return stored(r, id)
}

// stored is a job as its row says.
func stored(rows jobRows, id string) (Job, error) {
	row, err := rows.Job(id)
	if err != nil {
		return Job{}, err
	}
	job, _, err := decodeJob(row.Record)
	return job, err
}

// live returns the jobs of a repository whose rows are not up to date: those that have not ended, in their current state, and those whose
// end could not be stored.
func (e *Engine) live(r *repo.Repository) map[string]Job {
	jobs := make(map[string]Job)
	e.mu.Lock()
	defer e.mu.Unlock()
	for key, job := range e.ended {
		if key.repo == r {
			jobs[job.ID] = job
		}
	}
	for _, t := range e.tasks {
		if t.repo == r {
			job := t.job
			if t.live != nil {
				job.Progress = t.live()
			}
			jobs[job.ID] = job
		}
	}
	for _, run := range e.runs {
		if run.repo == r {
			job := run.first
			job.Progress = run.progress()
			jobs[job.ID] = job
		}
	}
	return jobs
}

// Cancel cancels a job durably, and returns when it has ended, with its final state: a job that was being committed is done. A job
// that had already ended is returned unchanged.
func (e *Engine) Cancel(ctx context.Context, r *repo.Repository, id string) (Job, error) {
	if err := e.Resume(ctx, r); err != nil {
		return Job{}, err
	}
	e.mu.Lock()
	for _, t := range e.tasks {
		if t.repo == r && t.job.ID == id && t.cancel != nil {
			t.cancel(errCancelled)
		}
	}
	run := e.runs[jobKey{r, id}]
	if run != nil {
		run.cancel(errCancelled)
	}
	waiting := e.waitingLocked(r, id)
	e.dropLocked(waiting) // first, so that it cannot begin any more
	e.mu.Unlock()
	if waiting == nil {
		return e.await(ctx, r, id, run)
	}
	job, err := e.cancelWaiting(ctx, waiting, run)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		e.tasks = append(e.tasks, waiting)
	}
	e.wakeLocked()
	return job, err
}

// cancelWaiting stores the end of a job that was removed from the queue. A client's running request with the same plan ends too; if it has
// committed already, the job is done and its result stays.
func (e *Engine) cancelWaiting(ctx context.Context, t *task, call *run) (Job, error) {
	if call != nil {
		select {
		case <-call.done:
		case <-ctx.Done():
			return Job{}, ctx.Err()
		}
		if call.err == nil {
			return call.last, nil
		}
	}
	// The same plan may be submitted again meanwhile: its file must not be taken for the one that goes.
	g := e.gate(t.repo)
	g.submitting.Lock()
	defer g.submitting.Unlock()
	job := t.job
	job.State, job.Finished = Cancelled, e.o.Now()
	if err := storeEnd(ctx, t.repo, job); err != nil {
		return job, err
	}
	if t.job.Kind == Compaction { // nobody reads the plan any more
		if err := t.repo.RemoveFile(repo.JobsFolder, job.ID); err != nil {
			e.o.Logger.Warn("the plan of a cancelled job could not be removed; it is when its result expires", "job", job.ID, "error", err)
		}
	}
	return stored(t.repo, job.ID)
}

// Outcomes calls each for every operation of a queued plan that is done, in order, while its result is kept. ErrNotFound: there is
// no such job, or it is not done, or its plan belongs to a request for which a client waited.
func (e *Engine) Outcomes(r *repo.Repository, id string, each func(i int, o Outcome) error) error {
	row, err := r.Job(id)
	if err != nil {
		return err
	}
	job, rest, err := decodeJob(row.Record)
	if err != nil {
		return err
	}
	if job.State != Done || job.Kind != Compaction || job.When == "" {
		return repo.ErrNotFound
	}
	res, err := decodeResult(rest)
	if err != nil {
		return err
	}
	_, plan, err := e.load(r, job)
	if err != nil {
		return err
	}
	defer plan.Close()
	if err := plan.records.sync(); err != nil {
		return err
	}
	return res.report(plan.records, each)
}

// Await waits until a job has ended. A request of a client that was cancelled or failed leaves no row: only callers that were
// waiting for it get its end, later ones get ErrNotFound.
func (e *Engine) Await(ctx context.Context, r *repo.Repository, id string) (Job, error) {
	return e.await(ctx, r, id, nil)
}

func (e *Engine) await(ctx context.Context, r *repo.Repository, id string, call *run) (Job, error) {
	return e.watch(ctx, r, id, call, 0, func(Job) error { return nil })
}

// Watch calls fn with the current job whenever its state changes, and at most once in each interval (if positive) while its
// progress changes. It returns when the job has ended and fn was called with that state, or when fn fails.
func (e *Engine) Watch(ctx context.Context, r *repo.Repository, id string, interval time.Duration, fn func(Job) error) (Job, error) {
	return e.watch(ctx, r, id, nil, interval, fn)
}

// now returns the current state of a job, and the run of the client's request to which it belongs, if any. call is that run if the caller
// already has it, because it may have ended and left no row.
func (e *Engine) now(r *repo.Repository, id string, call *run) (Job, *run, error) {
	e.mu.Lock()
	if run := e.runs[jobKey{r, id}]; run != nil {
		call = run
	}
	e.mu.Unlock()
	if job, ok := e.live(r)[id]; ok {
		return job, call, nil
	}
	if call != nil && !call.background {
		<-call.done // it is, or is about to be
		return call.last, call, nil
	}
	job, err := stored(r, id)
	return job, call, err
}

func (e *Engine) watch(ctx context.Context, r *repo.Repository, id string, call *run, interval time.Duration, fn func(Job) error) (Job, error) {
	if err := e.Resume(ctx, r); err != nil {
		return Job{}, err
	}
	e.watching.Add(1)
	defer e.watching.Add(-1)
	var tick <-chan time.Time
	if interval > 0 {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		tick = ticker.C
	}
	var last Job
	for first := true; ; first = false {
		e.mu.Lock()
		changed := e.changed
		e.mu.Unlock()
		var job Job
		var err error
		if job, call, err = e.now(r, id, call); err != nil {
			return Job{}, err
		}
		if first || job.State != last.State || job.Progress != last.Progress {
			if err := fn(job); err != nil {
				return job, err
			}
		}
		if last = job; job.State.Ended() {
			return job, nil
		}
		select {
		case <-ctx.Done():
			return job, ctx.Err()
		case <-e.ctx.Done():
			return job, errStopping
		case <-e.leaving:
			return job, errStopping
		case <-changed:
		case <-tick:
		}
	}
}

// Estimate is what a plan would do.
type Estimate struct {
	Operations int64 `json:"operations"`
	Outputs    int64 `json:"outputs"`
	Read       int64 `json:"bytes_read"`
	Written    int64 `json:"bytes_written"`
	Freed      int64 `json:"bytes_freed"` // sizes of the items deleted
	Saved      int64 `json:"bytes_saved"` // by which the repository's quota usage shrinks; negative: grows
}

// Estimate checks a plan against the index without carrying it out. Its errors are those that Run returns before it reads any
// item, except those about space and quota.
func (e *Engine) Estimate(ctx context.Context, a *repo.Access, p *Plan) (Estimate, error) {
	if p.err != nil {
		return Estimate{}, p.err
	}
	if err := p.records.sync(); err != nil {
		return Estimate{}, err
	}
	r := e.newRun(a, p, nil)
	r.ctx, r.dry = ctx, true
	s, leave, err := r.surveyIn(r.lane.estimates)
	if err != nil {
		return Estimate{}, err
	}
	defer leave()
	return Estimate{
		Operations: int64(p.Len()), Outputs: int64(p.makes), Read: s.read, Written: p.output, Freed: s.freed(), Saved: -s.net,
	}, nil
}
