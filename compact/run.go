package compact

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"packhouse/index"
	"packhouse/repo"
)

// run is one plan being carried out.
type run struct {
	e       *Engine
	lane    *lane
	repo    *repo.Repository
	a       access                          // on behalf of the principal
	dry     bool                            // nothing is to change
	open    atomic.Pointer[repo.Compaction] // of the last request of RunOpen; nil: what the plan deletes goes with its commit
	own     looker
	id      string // identity of the plan
	records *recordList
	named   int   // items read or deleted, at most
	makes   int   // operations with an output
	output  int64 // bytes of all outputs
	ctx     context.Context
	cancel  context.CancelCauseFunc

	read       atomic.Int64 // bytes read
	written    atomic.Int64 // bytes written
	operations atomic.Int64 // operations done

	readTotal  atomic.Int64
	first      Job  // as it began
	job        Job  // as stored or to be stored; of the goroutine that runs, until done
	background bool // a job from the queue: nobody waits for it as for an answer

	done     chan struct{} // closed when last, result and err are set
	last     Job           // as it ended
	replayed bool          // result was kept from before
	result   *result
	err      error
}

// progress returns the progress of the run. It may be called at any time.
func (r *run) progress() Progress {
	return Progress{
		Operations: r.operations.Load(), OperationsTotal: int64(r.records.len()),
		Read: r.read.Load(), ReadTotal: r.readTotal.Load(), Written: r.written.Load(),
	}
}

// output is the output of one operation, until the commit.
type output struct {
	op      int
	key     string
	size    int64        // of one that was found before anything was written
	sum     []byte       // nil: named explicitly
	upload  *repo.Upload // nil: kept is what stands at key already
	kept    string       // reference of what stands there
	replace string       // reference of damaged bytes that stand there, to be replaced
	existed bool

	uncounted bool // see run.uncounted
}

// carryOut is a complete run: a stored result, or survey, copying and commit. From the commit on the outcome no longer depends on the run's
// context.
func (r *run) carryOut() (*result, error) {
	if kept, err := r.replay(); kept != nil || err != nil {
		if kept != nil {
			r.replayed = true
			r.e.metrics.plans.WithLabelValues(planReplayed).Inc()
		}
		return kept, err
	}
	if r.background {
		// Written here, where no other run of the plan can have stored a result since replay looked.
		row := index.Job{ID: r.id, Record: encodeJob(r.job, nil)}
		if err := r.repo.PutJob(r.ctx, row); err != nil {
			return nil, err
		}
	}
	s, leave, err := r.surveyIn(r.budget())
	if err != nil {
		return nil, err
	}
	defer leave()
	r.readTotal.Store(s.read)
	if open := r.open.Load(); open != nil {
		if err := r.a.MayOpen(open, s.opens, s.closes); err != nil {
			return nil, &PlanError{Operation: -1, Range: -1, Err: err}
		}
	}
	outputs := make([]output, r.makes)
	defer func() {
		for i := range outputs {
			if outputs[i].upload != nil {
				outputs[i].upload.Discard() // nothing, after a commit
			}
		}
	}()
	var reservation *repo.PlanReservation
	if r.makes > 0 {
		if reservation, err = r.reserve(s, outputs); err != nil {
			return nil, err
		}
		defer reservation.Release()
		if err := r.copyAll(s, outputs, reservation); err != nil {
			return nil, err
		}
	}
	return r.commit(s, outputs, reservation)
}

// budget returns the item budget that the run uses.
func (r *run) budget() *itemBudget {
	if r.background {
		return r.lane.jobs
	}
	return r.lane.calls
}

// workers returns the tokens for operations that run in parallel.
func (r *run) workers() chan struct{} {
	if r.background {
		return r.lane.behind
	}
	return r.lane.workers
}

// acquire takes a worker's token, or gives up with ctx.
func (r *run) acquire(ctx context.Context) bool {
	select {
	case r.workers() <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// copyAll writes the outputs that were not found.
func (r *run) copyAll(s *survey, outputs []output, reservation *repo.PlanReservation) error {
	r.operations.Add(int64(r.records.len() - r.makes))
	return r.each(outputs, func(ctx context.Context, i int, op *Operation, out *output) error {
		if out.kept == "" {
			if err := r.perform(ctx, s, i, op, out, reservation); err != nil {
				return err
			}
		}
		r.operations.Add(1)
		return nil
	})
}

// each calls fn for the operations that have an output, as many at once as the engine has workers. It ends with the first error, which
// then says in which operation it came up.
func (r *run) each(outputs []output, fn func(ctx context.Context, i int, op *Operation, out *output) error) error {
	group, ctx := errgroup.WithContext(r.ctx)
	cursors := sync.Pool{New: func() any { return &cursor{records: r.records} }}
	first := &cursor{records: r.records}
	n := 0
	for i := range r.records.len() {
		op, err := first.at(i)
		if err != nil {
			group.Go(func() error { return err })
			break
		}
		if !op.makes() {
			continue
		}
		if !r.acquire(ctx) {
			break
		}
		out := &outputs[n]
		n++
		group.Go(func() error {
			defer func() { <-r.workers() }()
			c := cursors.Get().(*cursor)
			defer cursors.Put(c)
			op, err := c.at(i)
			if err != nil {
				return err
			}
			if err := fn(ctx, i, op, out); err != nil {
				return r.inOperation(i, op, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return r.ctx.Err()
}

// inOperation adds to an error the operation in which it occurred.
func (r *run) inOperation(i int, op *Operation, err error) error {
	var already *PlanError
	if errors.As(err, &already) || errors.Is(err, context.Canceled) {
		return err
	}
	return &PlanError{Operation: i, Range: -1, Key: op.Target, Err: err}
}
