package compact

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/policy"
)

// Times at which a job is to run.
const (
	WhenNow    = "now"
	WhenWindow = "window" // in the next maintenance window; now, if the server has none
)

// CheckWhen returns an error unless when is "now", "window" or a time in RFC 3339 format.
func CheckWhen(when string) error {
	if when == WhenNow || when == WhenWindow {
		return nil
	}
	if _, err := time.Parse(time.RFC3339, when); err != nil {
		return fmt.Errorf("%w: when is \"now\", \"window\" or a time such as 2026-01-31T01:30:00Z, not %q", repo.ErrInvalid, when)
	}
	return nil
}

// task is a background job in the engine.
type task struct {
	repo   *repo.Repository
	job    Job // queued, or as it was when it began
	cancel context.CancelCauseFunc
	live   func() Progress // nil while it waits
}

var errCancelled = &PlanError{Operation: -1, Range: -1, Err: cancelledError{}}

// cancelledError is the error for a client whose request was cancelled. Its status is not one after which clients retry, so that the client
// does not send the plan again automatically.
type cancelledError struct{}

func (cancelledError) Error() string        { return "the job was cancelled on the server" }
func (cancelledError) Is(target error) bool { return target == repo.ErrDenied }

// Submit queues a plan as a job of its principal. When Submit returns, the job is durable, and is restarted after a restart of
// the server. The plan is checked against the index immediately, and again when the job runs, with the permissions that
// Options.Authorize then returns for the principal. Authorize is told whether the principal is trusted, which means that it came
// over a connection that needs no credentials. The same plan of the same principal is the same job: if it is queued or
// running, or done and its result still matches the repository, it is returned unchanged.
func (e *Engine) Submit(ctx context.Context, a *repo.Access, p *Plan, when string, trusted bool) (Job, error) {
	if p.err != nil {
		return Job{}, p.err
	}
	if err := CheckWhen(when); err != nil {
		return Job{}, err
	}
	if err := p.records.sync(); err != nil {
		return Job{}, err
	}
	g := e.gate(a.Repository())
	g.submitting.Lock()
	defer g.submitting.Unlock()
	if err := e.Resume(ctx, a.Repository()); err != nil {
		return Job{}, err
	}
	r := e.newRun(a, p, nil)
	r.ctx = ctx
	if job, err := e.Job(a.Repository(), r.id); err == nil && !job.State.Ended() {
		return job, nil
	}
	row, err := a.Repository().Job(r.id)
	if err != nil && !errors.Is(err, repo.ErrNotFound) {
		return Job{}, err
	}
	if kept, err := r.replay(); err != nil {
		return Job{}, err
	} else if kept != nil {
		return r.job, nil
	}
	if err := e.mayQueue(a, when, p.records.size); err != nil {
		return Job{}, err
	}
	s, leave, err := r.surveyIn(r.lane.estimates)
	if err != nil {
		return Job{}, err
	}
	defer leave()
	job := r.first
	job.PlanBytes = p.records.size
	job.State, job.When, job.Started = Queued, when, time.Time{}
	job.Permissions, job.Trusted = a.Principal().Permissions.String(), trusted
	job.Progress = Progress{OperationsTotal: int64(p.Len()), ReadTotal: s.read}
	err = a.Repository().WriteFile(repo.JobsFolder, job.ID, func(w io.Writer) error { return writePlan(w, p.records) })
	if err != nil {
		return Job{}, err
	}
	err = a.Repository().ReplaceJob(ctx, index.Job{ID: job.ID, Record: encodeJob(job, nil)}, row.Record)
	switch {
	case errors.Is(err, repo.ErrConflict):
		return e.Job(a.Repository(), job.ID) // a client's own call of the same plan was carried out meanwhile: its result stays
	case errors.Is(err, repo.ErrNoSpace):
		// The row is not there, and the disk is short of what the file takes. After other errors the row may be there; the next
		// start knows.
		return job, errors.Join(err, a.Repository().RemoveFile(repo.JobsFolder, job.ID))
	case err != nil:
		return job, err
	}
	e.enqueue(a.Repository(), job)
	return job, nil
}

// How many plans may wait, of one principal in a repository and of all.
const (
	queuedEach = 16
	queuedAll  = 256
)

// mayQueue tells whether one more plan may wait: they are outside of what clients see of a repository, and would else fill the
// disk unseen.
func (e *Engine) mayQueue(a *repo.Access, when string, bytes int64) error {
	refuse := func(err error, format string, args ...any) error {
		return &PlanError{Operation: -1, Range: -1, Err: repo.Errorf(err, format, args...)}
	}
	now := e.o.Now()
	if e.due(when, now).Sub(now) > e.o.Ahead && when != WhenWindow {
		return refuse(repo.ErrInvalid, "a plan may be queued for a time within the next %s", e.o.Ahead)
	}
	var own, all int
	var held int64
	e.mu.Lock()
	for _, t := range e.tasks {
		if t.repo == a.Repository() && t.job.Kind == Compaction {
			all++
			held += t.job.PlanBytes
			if t.job.Principal == a.Principal().Name {
				own++
			}
		}
	}
	e.mu.Unlock()
	if own >= queuedEach || all >= queuedAll {
		return refuse(repo.ErrBusy, "%d plans wait already, %d of this user; at most %d and %d may. Cancel some (packhouse job list, packhouse job cancel) or wait until they are done",
			all, own, queuedAll, queuedEach)
	}
	return a.AdmitPlan(held, bytes)
}

// enqueue adds a job, whose row is stored, to the queue.
func (e *Engine) enqueue(r *repo.Repository, job Job) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.ended, jobKey{r, job.ID})
	e.tasks = append(e.tasks, &task{repo: r, job: job})
	e.wakeLocked()
}

// waitingLocked returns the job with an ID that is queued and has not begun, or nil.
func (e *Engine) waitingLocked(r *repo.Repository, id string) *task {
	for _, t := range e.tasks {
		if t.repo == r && t.job.ID == id && t.cancel == nil {
			return t
		}
	}
	return nil
}

// dropLocked takes a job out of the queue.
func (e *Engine) dropLocked(t *task) {
	e.tasks = slices.DeleteFunc(e.tasks, func(other *task) bool { return other == t })
}

// queue is the jobs that are carried out one after the other. Kinds do not wait for each other: a scrub of everything takes days. Nor do
// file systems: one of them may not answer.
type queue struct {
	kind       Kind
	fileSystem string
}

func queueOf(t *task) queue { return queue{t.job.Kind, t.repo.FileSystem()} }

// wakeLocked starts the queues' goroutines, or notifies them of a change. Callers that wait for a job check it again.
func (e *Engine) wakeLocked() {
	close(e.changed)
	e.changed = make(chan struct{})
	for _, t := range e.tasks {
		if q := queueOf(t); !e.working[q] && !e.closed {
			e.working[q] = true
			e.active.Go(func() { e.work(q) })
		}
	}
}

// Resume queues the jobs that were queued or running when the server stopped or crashed. It is done once for each repository; the
// first job that is submitted or requested triggers it too.
func (e *Engine) Resume(ctx context.Context, r *repo.Repository) error {
	g := e.gate(r)
	g.resuming.Lock()
	defer g.resuming.Unlock()
	if g.resumed {
		return nil
	}
	if r.ReadOnlyDisk() {
		g.resumed = true // no job can begin, or end
		return nil
	}
	waiting, err := e.unfinished(r, r)
	if err != nil {
		return err
	}
	g.resumed = true
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, job := range waiting {
		e.tasks = append(e.tasks, &task{repo: r, job: job})
	}
	e.wakeLocked()
	return nil
}

// unfinished returns the jobs that have not ended, oldest first, and removes the plans of jobs that are not known.
func (e *Engine) unfinished(rows jobRows, files planFiles) (waiting []Job, err error) {
	known := make(map[string]bool)
	err = rows.Jobs(func(row index.Job) error {
		known[row.ID] = true
		job, _, err := decodeJob(row.Record)
		if err != nil {
			e.o.Logger.Warn("stored job cannot be decoded and is ignored", "job", row.ID, "error", err)
			return nil
		}
		if !job.State.Ended() {
			job.State = Queued
			waiting = append(waiting, job)
		}
		return nil
	})
	if err == nil {
		err = files.SweepFiles(repo.JobsFolder, func(name string) bool { return known[name] })
	}
	slices.SortFunc(waiting, func(a, b Job) int { return a.Created.Compare(b.Created) })
	return waiting, err
}

// work carries out the jobs of a queue, one after the other, and ends when there are none.
func (e *Engine) work(q queue) {
	for {
		e.mu.Lock()
		t, wait := e.nextLocked(q)
		changed := e.changed
		none := !slices.ContainsFunc(e.tasks, func(t *task) bool { return queueOf(t) == q })
		if t == nil && (none || e.closed) {
			delete(e.working, q)
			e.mu.Unlock()
			return
		}
		e.mu.Unlock()
		if t != nil {
			e.perform(t)
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
		case <-e.ctx.Done():
		}
		timer.Stop()
	}
}

// nextLocked returns the first job of a queue that is due, or how long to wait for one.
func (e *Engine) nextLocked(q queue) (*task, time.Duration) {
	now := e.o.Now()
	wait := time.Hour
	if e.closed {
		return nil, wait
	}
	for _, t := range e.tasks {
		if queueOf(t) != q {
			continue
		}
		due := e.due(t.job.When, now)
		if !due.After(now) {
			return t, 0
		}
		wait = min(wait, due.Sub(now))
	}
	return nil, wait
}

// due is when a job may start.
func (e *Engine) due(when string, now time.Time) time.Time {
	if when == WhenWindow && e.o.Window != nil {
		return e.o.Window(now)
	}
	if at, err := time.Parse(time.RFC3339, when); err == nil {
		return at
	}
	return now
}

// perform carries out one job and stores how it ended.
func (e *Engine) perform(t *task) {
	ctx, cancel := context.WithCancelCause(e.ctx)
	defer cancel(nil)
	e.mu.Lock()
	if !slices.Contains(e.tasks, t) { // cancelled this moment
		e.mu.Unlock()
		return
	}
	t.job.State, t.job.Started, t.cancel = Running, e.o.Now(), cancel
	t.live = func() Progress { return t.job.Progress }
	e.wakeLocked()
	e.mu.Unlock()

	job, err := e.carryOut(ctx, t)
	if e.ctx.Err() != nil && err != nil {
		return // the row still says running: it starts over
	}
	if err != nil && (context.Cause(ctx) == errAbandoned || errors.Is(err, repo.ErrDetached)) {
		// So it does where the repository is opened next.
		e.mu.Lock()
		defer e.mu.Unlock()
		e.dropLocked(t)
		e.wakeLocked()
		return
	}
	if err != nil {
		if context.Cause(ctx) == errCancelled {
			err = errCancelled
		}
		if t.job.Kind != Scrub || job.ID == "" { // a scrub says what it has found until then
			job = t.job
		}
		job = failed(job, err, t.live(), e.o.Now())
		e.o.Logger.Warn("job ended", "job", job.ID, "kind", string(job.Kind), "state", string(job.State), "error", err)
	}
	if job.Kind != Compaction || err != nil && !isUnknown(err) {
		// A compaction that succeeded has stored its row in its own transaction, and one that may have is told by that row.
		if err := storeEnd(context.WithoutCancel(ctx), t.repo, job); err != nil {
			e.o.Logger.Error("the end of a job could not be stored; the job runs again after a restart", "job", job.ID, "error", err)
			e.mu.Lock()
			e.ended[jobKey{t.repo, job.ID}] = job // who waits for it must learn of it all the same
			e.mu.Unlock()
		}
	}
	e.metrics.ended.WithLabelValues(string(job.Kind), string(job.State)).Inc()
	if e.o.Ended != nil && job.State != Cancelled {
		e.o.Ended(t.repo, job)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dropLocked(t)
	e.wakeLocked()
}

// storeEnd stores how a job ended, unless a client's own request with the same plan has stored a result meanwhile, which stays.
func storeEnd(ctx context.Context, rows jobRows, job Job) error {
	row, err := rows.Job(job.ID)
	if err != nil {
		return err
	}
	if stored, _, err := decodeJob(row.Record); err == nil && stored.State == Done {
		return nil
	}
	err = rows.ReplaceJob(ctx, index.Job{ID: job.ID, Record: encodeJob(job, nil)}, row.Record)
	if errors.Is(err, repo.ErrConflict) {
		return nil
	}
	return err
}

// failed is a job that ended by err.
func failed(job Job, err error, progress Progress, now time.Time) Job {
	job.State, job.Finished, job.Progress = Failed, now, progress
	if errors.Is(err, errCancelled) {
		job.State = Cancelled
		return job
	}
	if isUnknown(err) {
		job.State = Unknown
	}
	job.Fault = faultOf(err)
	return job
}

func (e *Engine) carryOut(ctx context.Context, t *task) (Job, error) {
	// A client may have asked for the same plan meanwhile, and it is done: its result must stay.
	if stored, err := stored(t.repo, t.job.ID); err != nil || stored.State == Done {
		return stored, err
	}
	if t.job.Kind != Compaction {
		row := index.Job{ID: t.job.ID, Record: encodeJob(t.job, nil)}
		if err := t.repo.PutJob(ctx, row); err != nil {
			return Job{}, err
		}
	}
	switch t.job.Kind {
	case Scrub:
		return e.carryOutScrub(ctx, t)
	case Vacuum:
		return e.carryOutVacuum(ctx, t)
	}
	a, plan, err := e.load(t.repo, t.job)
	if err != nil {
		return Job{}, err
	}
	defer plan.Close()
	before := a.Principal()
	if e.o.Authorize != nil {
		a = t.repo.As(e.o.Authorize(t.repo, before, t.job.Trusted))
	}
	r, err := e.start(a, plan, &t.job, nil)
	if err != nil {
		return Job{}, err
	}
	e.mu.Lock()
	t.live = r.progress
	e.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { r.cancel(context.Cause(ctx)) })
	defer stop()
	<-r.done
	return r.job, rightsChanged(r.err, before)
}

// rightsChanged adds to a denial that the job had the permission when it was submitted.
func rightsChanged(err error, before repo.Principal) error {
	if denied, ok := errors.AsType[*repo.DeniedError](err); ok && before.Permissions.Allows(denied.Key, denied.Letters) {
		return fmt.Errorf("%w: denied, for the rights of %q have changed since the job was submitted", err, before.Name)
	}
	return err
}

// load reads the plan of a job and its principal, with the permissions from when it was submitted.
func (e *Engine) load(r *repo.Repository, job Job) (*repo.Access, *Plan, error) {
	permissions, err := policy.Parse(job.Permissions)
	if err != nil {
		return nil, nil, err
	}
	a := r.As(repo.Principal{Name: job.Principal, Permissions: permissions})
	plan := e.NewPlan(unlimited)
	err = readPlan(r, job.ID, plan)
	if err == nil && identity(a.Principal(), plan, false) != job.ID {
		err = errPlanDamaged
	}
	if err != nil {
		plan.Close()
		return nil, nil, err
	}
	return a, plan, nil
}

var errPlanDamaged = fmt.Errorf("%w: the stored plan is damaged", repo.ErrCorrupt)

// unlimited is for plans that were checked against the limits before.
var unlimited = Limits{Operations: math.MaxInt32, Ranges: math.MaxInt32, Output: 1 << 62, PlanBytes: 1 << 62}

// faultOf is an error as a job keeps it.
func faultOf(err error) *Fault {
	f := &Fault{Message: err.Error()}
	var plan *PlanError
	if errors.As(err, &plan) {
		f.Key = plan.Key
		if plan.Operation >= 0 {
			f.Operation = &plan.Operation
		}
		if plan.Range >= 0 {
			f.Range = &plan.Range
		}
	}
	return f
}

// Plan file: the magic, then each record behind its length, a varint.
const planMagic = "PACKHOUSE PLAN 1\n"

func writePlan(w io.Writer, s *recordList) error {
	if _, err := io.WriteString(w, planMagic); err != nil {
		return err
	}
	var buffer []byte
	for i := range s.len() {
		record, err := s.read(i, &buffer)
		if err != nil {
			return err
		}
		if _, err := w.Write(binary.AppendUvarint(nil, uint64(len(record)))); err != nil {
			return err
		}
		if _, err := w.Write(record); err != nil {
			return err
		}
	}
	return nil
}

func readPlan(files planFiles, name string, p *Plan) error {
	f, err := files.OpenFile(repo.JobsFolder, name)
	if err != nil {
		return err
	}
	defer f.Close()
	b := bufio.NewReaderSize(f, 256<<10)
	magic := make([]byte, len(planMagic))
	if _, err := io.ReadFull(b, magic); err != nil || !bytes.Equal(magic, []byte(planMagic)) {
		return errPlanDamaged
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	var record []byte
	var op Operation
	for {
		n, err := binary.ReadUvarint(b)
		if err == io.EOF {
			return nil
		}
		if err != nil || n > uint64(info.Size()) {
			return errPlanDamaged
		}
		record = slices.Grow(record[:0], int(n))[:n]
		if _, err := io.ReadFull(b, record); err != nil {
			return errPlanDamaged
		}
		if err := decodeOperation(record, &op, p.records.lookup); err != nil {
			return err
		}
		if err := p.Add(op); err != nil {
			return err
		}
	}
}
