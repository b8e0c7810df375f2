package compact

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"packhouse/repo"
)

// Options of New. The zero value works.
type Options struct {
	Workers int           // operations at work at once, of clients' calls, and as many of the job in the background; 0 means GOMAXPROCS
	Rate    int64         // bytes read per second, over all plans; 0: no limit
	Keep    time.Duration // how long results are kept for a repeated plan; 0 means 7 days
	Ahead   time.Duration // how far ahead a plan may be queued; 0 means 7 days
	TempDir string        // for plans larger than memory; "" means os.TempDir()
	// Window returns when the maintenance window is open next: now itself, or a time not after it, when it is
	// open. nil: always.
	Window func(now time.Time) time.Time
	// Busy returns how many client requests are being answered: while there are any but those that
	// wait for a job here, jobs in the background read slowly. nil: never any.
	Busy func() int
	// Authorize gives what the principal of a queued plan may do now that the job begins: what p, which is as it was when
	// the job was submitted, still has. trusted: it was submitted so, see Submit. nil: all of it.
	Authorize func(r *repo.Repository, p repo.Principal, trusted bool) repo.Principal
	// Ended is called when a background job has ended that nobody has cancelled. nil: nobody wants to know.
	Ended  func(r *repo.Repository, job Job)
	Now    func() time.Time // nil means time.Now
	Logger *slog.Logger     // nil means silence
}

func (o Options) withDefaults() Options {
	o.Workers = cmp.Or(max(o.Workers, 0), runtime.GOMAXPROCS(0))
	o.Keep = cmp.Or(o.Keep, 7*24*time.Hour)
	o.Ahead = cmp.Or(o.Ahead, 7*24*time.Hour)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Engine carries out plans. Its methods are safe for concurrent use.
type Engine struct {
	o       Options
	budget  int64         // of items, in each lane
	limiter *rate.Limiter // nil: no limit
	polite  *rate.Limiter // of jobs in the background, while clients are served
	metrics *metrics

	watching atomic.Int64  // calls of Watch
	leaving  chan struct{} // closed when those are to end
	leave    sync.Once

	ctx  context.Context // of all runs
	stop context.CancelFunc

	mu      sync.Mutex // held for a look at the fields below only
	gates   map[*repo.Repository]*gate
	runs    map[jobKey]*run    // under way
	tasks   []*task            // background jobs, in order; one of each queue may be under way
	ended   map[jobKey]Job     // how jobs ended whose rows could not say so
	working map[queue]bool     // the queue's goroutine is there
	lanes   map[string]*lane   // by file system
	changed chan struct{}      // closed and replaced when the state of a job changes
	refused map[jobKey]refusal // calls whose retry would fail as they did
	pruned  map[*repo.Repository]time.Time
	closed  bool
	active  sync.WaitGroup // runs and the queues' goroutines
}

// jobKey identifies a job among those of all repositories. The repository is identified by the open object, because two copies of a
// repository have the same ID, and so has one that was closed and opened again.
type jobKey struct {
	repo *repo.Repository
	id   string
}

// gate has the mutexes for what is done one at a time in a repository before a job runs. Each repository has its own, so that none waits
// for the disk of another.
type gate struct {
	submitting sync.Mutex // held over one Submit, so that equal ones become one job, and while a plan that waited is removed; before resuming
	resuming   sync.Mutex // held over the first look at the repository's jobs; before Engine.mu
	resumed    bool       // guarded by resuming
}

func (e *Engine) gate(r *repo.Repository) *gate {
	e.mu.Lock()
	defer e.mu.Unlock()
	g := e.gates[r]
	if g == nil {
		g = new(gate)
		e.gates[r] = g
	}
	return g
}

// New creates an engine.
func New(o Options) *Engine {
	o = o.withDefaults()
	e := &Engine{
		o: o, budget: budgetSize, lanes: make(map[string]*lane), runs: make(map[jobKey]*run), working: make(map[queue]bool), ended: make(map[jobKey]Job), pruned: make(map[*repo.Repository]time.Time),
		refused: make(map[jobKey]refusal), gates: make(map[*repo.Repository]*gate), changed: make(chan struct{}), leaving: make(chan struct{}),
	}
	e.limiter, e.polite = newLimiter(o.Rate), newLimiter(politeRate)
	e.metrics = newMetrics(func() float64 {
		e.mu.Lock()
		defer e.mu.Unlock()
		return float64(len(e.tasks))
	})
	e.ctx, e.stop = context.WithCancel(context.Background())
	return e
}

// StopWatching ends every Watch and Await with ErrBusy, now and later, while jobs continue. A server that is about to stop first
// waits for its requests to finish, and those that watch a job would not finish.
func (e *Engine) StopWatching() { e.leave.Do(func() { close(e.leaving) }) }

// Close cancels running plans and waits for them. Plans that it interrupts have changed nothing. It must be called before the
// repositories are closed.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.stop()
	e.active.Wait()
	return nil
}

// Abandon ends running jobs in a repository whose directory was moved, replaced or removed, and forgets queued ones, and all
// else about it. Their rows stay: the process that opens the repository again, wherever it is, resumes them.
func (e *Engine) Abandon(r *repo.Repository) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for key, run := range e.runs {
		if key.repo == r {
			run.cancel(errAbandoned)
		}
	}
	for _, t := range e.tasks {
		if t.repo == r && t.cancel != nil {
			t.cancel(errAbandoned)
		}
	}
	e.tasks = slices.DeleteFunc(e.tasks, func(t *task) bool { return t.repo == r })
	ofIt := func(key jobKey) bool { return key.repo == r }
	maps.DeleteFunc(e.ended, func(key jobKey, _ Job) bool { return ofIt(key) })
	maps.DeleteFunc(e.refused, func(key jobKey, _ refusal) bool { return ofIt(key) })
	delete(e.pruned, r)
	delete(e.gates, r)
	e.wakeLocked()
}

var errAbandoned = &PlanError{Operation: -1, Range: -1, Err: repo.ErrDetached, Detail: "the repository was moved or removed while it worked"}

// Active is the number of running plans and jobs, including those whose clients have disconnected.
func (e *Engine) Active() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := len(e.runs)
	for _, t := range e.tasks {
		if t.cancel != nil && e.runs[jobKey{t.repo, t.job.ID}] == nil {
			n++
		}
	}
	return n
}

var errStopping = &PlanError{Operation: -1, Range: -1, Err: repo.ErrBusy, Detail: "the server is stopping"}

// Run carries out the plan for a principal, or joins an identical plan that is running, or returns the stored result of an
// identical plan that is done (same plan, same principal, same repository). All new items, all deletions and the result are
// one index transaction; when Run returns nil they are durable. On error nothing was changed; a *PlanError says what is wrong
// with the plan.
//
// If a plan was cancelled, or was found wrong after it had run for several seconds, the same plan gets the same error for a minute,
// so that a client that retries automatically does not start it again. When ctx ends the work continues and Run returns
// ctx.Err(); a retry joins it.
//
// each is called for every operation in order, after the commit; an error of each is returned unchanged.
func (e *Engine) Run(ctx context.Context, a *repo.Access, p *Plan, each func(i int, o Outcome) error) error {
	return e.call(ctx, a, p, nil, each)
}

// RunOpen is Run for a client that stores what refers to the outputs only after it has got the answer. Until that is proven (see
// repo.Compaction), or the client removes them itself, items that the plan both reads and deletes stay, in addition to the
// outputs. The items of operations without an output are removed, unless another client may have come to use them; the outcome
// says "deleted" in both cases. The stored result is returned only under the lock that existed the first time; under
// another lock the plan is carried out again, and finds its outputs.
//
// The caller sends the answer, and reports it to the returned Compaction, which is nil on error and for a plan without operations.
func (e *Engine) RunOpen(ctx context.Context, a *repo.Access, p *Plan, each func(i int, o Outcome) error) (*repo.Compaction, error) {
	if p.err != nil || p.Len() == 0 {
		return nil, p.err
	}
	open, err := a.BeginCompaction(identity(a.Principal(), p, true), p.makes > 0)
	if err != nil {
		return nil, err
	}
	if err := e.call(ctx, a, p, open, each); err != nil {
		return nil, err
	}
	return open, nil
}

// call is Run, or with open RunOpen.
func (e *Engine) call(ctx context.Context, a *repo.Access, p *Plan, open *repo.Compaction, each func(i int, o Outcome) error) error {
	if p.err != nil {
		return p.err
	}
	if p.Len() == 0 {
		return nil
	}
	r, err := e.start(a, p, nil, open)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-r.done:
	}
	if r.err != nil {
		if open != nil {
			open.Failed()
		}
		return r.err
	}
	if open != nil && r.replayed {
		open.Replayed()
	}
	return r.result.report(p.records, each)
}

// newRun creates a run of a plan for a principal. open is nil, or the request of RunOpen.
func (e *Engine) newRun(a *repo.Access, p *Plan, open *repo.Compaction) *run {
	id := identity(a.Principal(), p, open != nil)
	now := e.o.Now()
	job := Job{ID: id, Kind: Compaction, State: Running, Principal: a.Principal().Name, Created: now, Started: now}
	r := &run{
		e: e, lane: e.lane(a.Repository()), repo: a.Repository(), a: a, own: a.Repository().As(repo.Principal{}), id: id, records: p.records, named: p.named, makes: p.makes,
		output: p.output, first: job, job: job, done: make(chan struct{}),
	}
	r.open.Store(open)
	return r
}

// start returns the run of a plan: a new one, or the one that is running. job is a queued plan whose time has come. There is one run at a
// time of a plan of a principal, so no other run has stored what it stores.
func (e *Engine) start(a *repo.Access, p *Plan, job *Job, open *repo.Compaction) (*run, error) {
	if err := p.records.sync(); err != nil {
		return nil, err
	}
	r := e.newRun(a, p, open)
	if job != nil {
		r.id = job.ID // of the permissions it was submitted with; a may have fewer
	}
	key := jobKey{a.Repository(), r.id}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errStopping
	}
	if other := e.runs[key]; other != nil {
		other.open.Store(open) // the result belongs to who asked last
		return other, nil
	}
	if last, ok := e.refused[key]; ok && job == nil && e.o.Now().Before(last.until) && last.lock == lockOf(open) {
		return nil, last.err
	}
	if job != nil {
		r.first, r.background = *job, true
	} else if t := e.waitingLocked(a.Repository(), r.id); t != nil {
		// What waits in the queue is carried out now.
		started := r.first.Started
		r.first = t.job
		r.first.State, r.first.Started = Running, started
	}
	r.job = r.first
	r.records.retain()
	r.ctx, r.cancel = context.WithCancelCause(e.ctx)
	e.runs[key] = r
	e.active.Go(func() {
		r.result, r.err = r.carryOut()
		if r.err != nil && errors.Is(r.err, context.Canceled) {
			if r.err = cmp.Or(context.Cause(r.ctx), r.err); e.ctx.Err() != nil {
				r.err = errStopping
			}
		}
		r.cancel(nil)
		switch {
		case isUnknown(r.err):
			e.metrics.plans.WithLabelValues(planUnknown).Inc()
		case r.err != nil:
			e.metrics.plans.WithLabelValues(planFailed).Inc()
		}
		if err := r.records.release(); err != nil {
			e.o.Logger.Warn("could not remove the temporary file of a plan", "error", err)
		}
		r.last = r.job
		if r.err != nil {
			r.last = failed(r.first, r.err, r.progress(), e.o.Now())
		}
		e.mu.Lock()
		delete(e.runs, key)
		e.refuseLocked(key, r)
		if isUnknown(r.err) && !errors.Is(r.err, repo.ErrDetached) && context.Cause(r.ctx) != errAbandoned {
			e.ended[key] = r.last // also of a client's request, which would have no row
		}
		if r.err == nil {
			delete(e.ended, key)
			delete(e.refused, key)
			// A queued job of the same plan is done with this: later it would find its sources gone.
			e.dropLocked(e.waitingLocked(a.Repository(), r.id))
		}
		e.wakeLocked()
		e.mu.Unlock()
		close(r.done)
	})
	return r, nil
}

// refusal stores how a client's request ended whose answer may not have reached the client.
type refusal struct {
	err   error
	until time.Time
	lock  string // of RunOpen: under another one it is another run of the client, which may fit where this did not
}

func lockOf(open *repo.Compaction) string {
	if open == nil {
		return ""
	}
	return open.Lock()
}

// Clients send a plan again within seconds when their connection breaks, as it does when a request fails whose answer has already begun
// because it took long. A run that failed after late gives the same error for refusalTime, so that the same work is not repeated. So
// does a cancelled one, because the cancellation would otherwise have no effect.
const (
	late        = 5 * time.Second
	refusalTime = time.Minute
)

// refuseLocked stores how r ended, if a retry would end in the same way.
func (e *Engine) refuseLocked(key jobKey, r *run) {
	now := e.o.Now()
	maps.DeleteFunc(e.refused, func(_ jobKey, last refusal) bool { return !now.Before(last.until) })
	wrong := errors.Is(r.err, repo.ErrInvalid) || errors.Is(r.err, repo.ErrCorrupt) ||
		errors.Is(r.err, repo.ErrNoSpace) || errors.Is(r.err, repo.ErrQuota)
	if !r.background && (errors.Is(r.err, errCancelled) || wrong && now.Sub(r.first.Started) >= late) {
		e.refused[key] = refusal{r.err, now.Add(refusalTime), lockOf(r.open.Load())}
	}
}

// identity identifies a plan of a principal: it is equal only for an equal request. It includes the permissions, because a result must not
// be available longer than the permission to request it, and whether the sources stay.
func identity(p repo.Principal, plan *Plan, open bool) string {
	h := sha256.New()
	if open {
		h.Write([]byte("packhouse open plan 1\n"))
	} else {
		h.Write([]byte("packhouse plan 1\n"))
	}
	h.Write(plan.sum.Sum(nil))
	hashRecord(h, []byte(p.Name))
	hashRecord(h, []byte(p.Permissions.String()))
	return hex.EncodeToString(h.Sum(nil)[:16])
}
