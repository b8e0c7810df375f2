package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"packhouse/index"
)

// A rollback makes every item what it was at a moment, by the history: it knows of each change which ref a key had before, and the trash,
// or what is kept after compactions, has the bytes of that ref. What is at a key now goes to the trash, so a rollback can be undone by
// another one. While it is carried out clients get ErrBusy. One that is more than a transaction should hold is recorded first, and
// goes on when the repository is opened again: what there is to do follows from the history up to the change at which it began.

// metaRollback is the name of the meta value that has a rollback which is not complete: a rollbackRecord as JSON.
const metaRollback = "rollback"

// rollbackJob is the job that the history names for what a rollback changes.
const rollbackJob = "rollback"

const (
	rollbackPart  = 2000 // mutations of one transaction
	rollbackLost  = 100  // items that cannot be brought back of which the keys are told
	rollbackTries = 32   // moments that are looked at in the search for one of which all can be brought back
	rollbackRetry = time.Minute
)

// RollbackRequest says what is to be undone.
type RollbackRequest struct {
	To        time.Time
	Principal *string // only what this one changed, and nobody after it; nil: all changes; "": those of the server itself
	Expect    uint64  // the Last of the plan that was looked at: ErrConflict if more has changed since; 0: whatever there is
	Partial   bool    // also if some items cannot be brought back
}

// RollbackPlan is what a rollback does.
type RollbackPlan struct {
	To       time.Time
	Last     uint64  // the ID of the last change that it takes into account; 0: there is none
	Changes  int64   // that are undone
	Returns  Emptied // items that come back under a key that has none now
	Replaces Emptied // that come back in place of another one
	Removes  Emptied // that go, as their keys had none
	Lost     int64   // that cannot be brought back: they stay as they are now
	LostKeys []LostVersion
	// Before and After are the moments next to To of which all can be brought back; zero: there is none, or it was not looked for, because
	// nothing is lost.
	Before, After time.Time

	steps *rollbackSteps // nil: given up
}

// LostVersion is an item that cannot be brought back, and why.
type LostVersion struct{ Key, Why string }

// rollbackRecord is what is stored of a rollback that is not complete.
type rollbackRecord struct {
	To        time.Time `json:"to"`
	Principal *string   `json:"principal,omitempty"`
	Last      uint64    `json:"last"`
	By        string    `json:"by,omitempty"` // who asked for it
	Address   string    `json:"address,omitempty"`
}

// rollback is the state of the one that is carried out.
type rollback struct {
	// gate is held for reading over each change of the index that a client or a job asks for, and for writing while a rollback begins, so that
	// it sees the end of all others.
	gate   sync.RWMutex
	active atomic.Pointer[rollbackProgress] // nil: none is carried out
	left   chan leftRollback                // one that did not come to its end; capacity 1, as there is no other meanwhile
	ended  chan struct{}                    // closed when nobody goes on with what is left
}

type leftRollback struct {
	record rollbackRecord
	open   func(done bool)
}

func (b *rollback) init() {
	b.left = make(chan leftRollback, 1)
	b.ended = make(chan struct{})
}

// leave hands over a rollback that did not come to its end to finishRollbacks, also when that has ended.
func (b *rollback) leave(record rollbackRecord, open func(done bool)) {
	b.left <- leftRollback{record, open}
	select {
	case <-b.ended:
		b.abandon()
	default:
	}
}

// abandon leaves to the next start what is left. What was held for it is let go of: Close waits for who waits for that.
func (b *rollback) abandon() {
	select {
	case left := <-b.left:
		left.open(false)
	default:
	}
}

type rollbackProgress struct {
	to          time.Time
	done, total atomic.Int64
}

// Available is ErrBusy while a rollback is carried out: what clients would see is neither what was nor what will be.
func (r *Repository) Available() error {
	p := r.rollback.active.Load()
	if p == nil {
		return nil
	}
	return Errorf(ErrBusy, "the repository is being rolled back to %s: %d of %d changes are made; try again later",
		p.to.UTC().Format(time.RFC3339), p.done.Load(), p.total.Load())
}

// PlanRollback tells what Rollback would do. Errors: ErrInvalid for a moment that lies in the future, or before the history begins.
func (r *Repository) PlanRollback(ctx context.Context, req RollbackRequest) (RollbackPlan, error) {
	if err := r.mayRollBack(req.To); err != nil {
		return RollbackPlan{}, err
	}
	plan, err := r.planRollback(ctx, req.To, req.Principal, 0)
	defer plan.close()
	if err == nil && plan.Lost > 0 && req.Principal == nil {
		err = r.nearest(ctx, &plan)
	}
	return plan, err
}

func (r *Repository) mayRollBack(to time.Time) error {
	switch since, err := r.HistorySince(); {
	case err != nil:
		return err
	case since.IsZero():
		return Errorf(ErrInvalid, "no history is recorded of this repository: that begins when it has a grace time")
	case to.Before(since):
		return Errorf(ErrInvalid, "the history of this repository begins at %s: nothing before that can be brought back", since.UTC().Format(time.RFC3339))
	case to.After(r.env.Now()):
		return Errorf(ErrInvalid, "%s lies in the future", to.UTC().Format(time.RFC3339))
	}
	return nil
}

// LostError refuses a rollback to a moment of which not all can be brought back. It is an ErrInvalid.
type LostError struct{ Plan RollbackPlan }

func (e *LostError) Error() string {
	text := fmt.Sprintf("%d items of %s cannot be brought back, the first is %s: %s", e.Plan.Lost, e.Plan.To.UTC().Format(time.RFC3339),
		e.Plan.LostKeys[0].Key, e.Plan.LostKeys[0].Why)
	for _, other := range []struct {
		when string
		at   time.Time
	}{{"before", e.Plan.Before}, {"after", e.Plan.After}} {
		if !other.at.IsZero() {
			text += fmt.Sprintf("; the next moment %s it of which all can is %s", other.when, other.at.UTC().Format(time.RFC3339Nano))
		}
	}
	return text
}
func (e *LostError) Is(target error) bool { return target == ErrInvalid }

// Rollback makes the items what they were. What it replaces goes to the trash, for the grace time. When it returns nil all is durable; one
// that was interrupted goes on when the repository is opened. by is who asked for it, for the history. progress, unless nil, is told how many
// changes are made, and of how many. Open plans of compactions are ended first: their sources stay. Errors: those of PlanRollback,
// ErrConflict if more has changed than was expected, a *LostError, ErrBusy if another one is carried out, and those of any change.
func (r *Repository) Rollback(ctx context.Context, req RollbackRequest, by Principal, progress func(done, total int64)) (RollbackPlan, error) {
	if err := errors.Join(r.mayRollBack(req.To), r.writable()); err != nil {
		return RollbackPlan{}, err
	}
	open, err := r.closeGate(req.To)
	if err != nil {
		return RollbackPlan{}, err
	}
	closed := true // by this call
	defer func() {
		if closed {
			open(true)
		}
	}()
	plan, err := r.planRollback(ctx, req.To, req.Principal, 0)
	defer plan.close()
	switch {
	case err != nil:
		return plan, err
	case req.Expect != 0 && req.Expect != plan.Last:
		return plan, Errorf(ErrConflict, "more has changed since the plan was made; look at it again")
	case plan.Lost > 0 && !req.Partial:
		closed = false
		open(true) // nobody waits for what follows
		if req.Principal == nil {
			err = r.nearest(ctx, &plan)
		}
		return plan, errors.Join(err, &LostError{plan})
	}
	record := rollbackRecord{To: req.To, Principal: req.Principal, Last: plan.Last, By: by.Name, Address: by.Address}
	r.env.Logger.Warn("rollback begins", "repository", r.Name(), "to", req.To, "returns", plan.Returns.Items,
		"replaces", plan.Replaces.Items, "removes", plan.Removes.Items, "by", by.Name)
	if err := r.carryOutRollback(context.WithoutCancel(ctx), record, plan, progress); err != nil {
		if _, left, leftErr := r.rollbackLeft(); left || leftErr != nil {
			closed = false
			r.rollback.leave(record, open)
			err = fmt.Errorf("the rollback is tried again in the background, and the repository is not served until it is complete: %w", err)
		}
		return plan, err
	}
	r.env.Logger.Warn("rollback is complete", "repository", r.Name(), "to", req.To)
	return plan, nil
}

// closeGate lets the changes under way end, and refuses all that come until open is called. Nothing is removed from the trash meanwhile. Where
// the rollback is not done, clients go on being refused.
func (r *Repository) closeGate(to time.Time) (open func(done bool), err error) {
	c := &r.compactions
	c.mu.Lock() // before all other locks
	r.trashMu.Lock()
	r.rollback.gate.Lock()
	defer r.rollback.gate.Unlock()
	if err := r.Available(); err != nil {
		r.trashMu.Unlock()
		c.mu.Unlock()
		return nil, err
	}
	r.rollback.active.Store(&rollbackProgress{to: to})
	c.calls = nil // of plans that were open nothing is proven any more
	c.mu.Unlock()
	return func(done bool) {
		if done {
			r.rollback.active.Store(nil)
		}
		r.trashMu.Unlock()
		r.kick()
	}, nil
}

// carryOutRollback makes the changes of a plan: first what is there now goes, then what was there comes.
func (r *Repository) carryOutRollback(ctx context.Context, record rollbackRecord, plan RollbackPlan, progress func(done, total int64)) error {
	now := r.changes.begin(r.env.Now())
	defer r.changes.end(now)
	cause := &index.Cause{Principal: record.By, Address: record.Address, Job: rollbackJob}
	undo := undoing{r: r, state: r.rollback.active.Load(), progress: progress, total: plan.mutations()}
	endPlans := r.index.Counters().Plans > 0
	if endPlans {
		undo.total++
	}
	undo.state.total.Store(undo.total)
	if undo.total > rollbackPart {
		value, err := json.Marshal(record)
		if err != nil {
			return err
		}
		if _, err := r.record(ctx, index.SetMeta{Name: metaRollback, Value: value}); err != nil {
			return err
		}
	}
	if endPlans {
		if err := undo.add(ctx, index.EndPlans{Now: *now, LeaveKept: true}); err != nil {
			return err
		}
	}
	err := plan.steps.each(func(step *rollbackStep) error {
		if step.current == "" || step.why != "" {
			return nil
		}
		return undo.add(ctx, index.Delete{Key: step.key, IfRef: step.current, TrashUntil: r.trashUntil(*now), Now: *now, Cause: cause})
	})
	if err != nil {
		return err
	}
	return plan.steps.each(func(step *rollbackStep) error {
		if step.target == "" || step.why != "" {
			return nil
		}
		return undo.add(ctx, index.Restore{Ref: step.target, Key: step.key, Limit: -1, Now: *now, TrashUntil: r.trashUntil(*now), Cause: cause})
	})
}

// undoing makes the mutations of a rollback, in parts.
type undoing struct {
	r        *Repository
	state    *rollbackProgress
	progress func(done, total int64)
	total    int64 // mutations
	part     []index.Mutation
	done     int64 // with those of part
}

// add adds a mutation to a part, and applies that when it is full, or the mutation is the last one. If there was more than one part, the
// last of them removes what was recorded of the rollback.
func (u *undoing) add(ctx context.Context, m index.Mutation) error {
	u.part, u.done = append(u.part, m), u.done+1
	if len(u.part) < rollbackPart && u.done < u.total {
		return nil
	}
	if u.total > rollbackPart && u.done == u.total {
		u.part = append(u.part, index.SetMeta{Name: metaRollback})
	}
	if err := u.r.rollBackPart(ctx, u.part); err != nil {
		return err
	}
	u.part = u.part[:0]
	u.state.done.Store(u.done)
	if u.progress != nil {
		u.progress(u.done, u.total)
	}
	return nil
}

// rollBackPart applies some mutations of a rollback, and counts what they change. If one is refused, which nothing that is known explains, the
// others are made without it, rather than that nobody can use the repository any more.
func (r *Repository) rollBackPart(ctx context.Context, muts []index.Mutation) error {
	results, err := r.record(ctx, muts...)
	switch {
	case refused(err) && len(muts) > 1:
		for i := range muts {
			if err := r.rollBackPart(ctx, muts[i:i+1]); err != nil {
				return err
			}
		}
		return nil
	case refused(err):
		r.env.Logger.Error("a change of a rollback is not possible; it is left out", "repository", r.Name(), "change", fmt.Sprintf("%+v", muts[0]), "error", err)
		return nil
	case err != nil:
		return err
	}
	var delta, commits int64
	for i, result := range results {
		switch m := muts[i].(type) {
		case index.EndPlans:
			delta += result.Delta
		case index.Delete:
			counted := result.Previous.Counted()
			delta -= counted
			commits -= r.commit.counts(m.Key, counted)
		case index.Restore:
			counted := result.Moved.Counted()
			delta += counted
			commits += r.commit.counts(m.Key, counted)
		}
	}
	r.quota.add(delta, commits)
	return nil
}

// rollbackLeft reads what is left of a rollback that did not come to its end.
func (r *Repository) rollbackLeft() (record rollbackRecord, there bool, err error) {
	value, err := r.index.Meta(metaRollback)
	if err != nil || value == nil {
		return record, false, err
	}
	if err := json.Unmarshal(value, &record); err != nil {
		return record, false, fmt.Errorf("meta value %s: %w: %w", metaRollback, index.ErrCorrupt, err)
	}
	return record, true, nil
}

// finishRollbacks goes on with what did not come to its end, until it is complete, or ctx ends.
func (r *Repository) finishRollbacks(ctx context.Context) {
	defer r.rollback.abandon() // what came when it was about to end
	defer close(r.rollback.ended)
	for {
		select {
		case <-ctx.Done():
			return
		case left := <-r.rollback.left:
			left.open(r.finishRollback(ctx, left.record))
		}
	}
}

// finishRollback returns whether it came to the end.
func (r *Repository) finishRollback(ctx context.Context, record rollbackRecord) bool {
	for {
		plan, err := r.planRollback(ctx, record.To, record.Principal, record.Last)
		if err == nil {
			err = r.carryOutRollback(context.WithoutCancel(ctx), record, plan, nil)
		}
		plan.close()
		if err == nil {
			_, err = r.record(context.WithoutCancel(ctx), index.SetMeta{Name: metaRollback}) // what was left may have been one part
		}
		if err == nil {
			r.env.Logger.Warn("a rollback that was interrupted is complete", "repository", r.Name(), "to", record.To)
			return true
		}
		if ctx.Err() == nil {
			r.env.Logger.Error("a rollback that was interrupted cannot go on; retried later", "repository", r.Name(), "error", err)
		}
		if rest(ctx, rollbackRetry) != nil {
			return false // the next start goes on
		}
	}
}

// beginLeftRollback closes the gate of a repository with a rollback that did not come to its end, which then goes on in the background.
func (r *Repository) beginLeftRollback() error {
	record, there, err := r.rollbackLeft()
	if err != nil || !there {
		return err
	}
	open, err := r.closeGate(record.To)
	if err == nil {
		r.rollback.leave(record, open)
	}
	return err
}
