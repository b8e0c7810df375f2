package index

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"packhouse/journal"
)

// Bounds of one transaction, so that none keeps its first waiter long: it takes no
// further group when it has this many. A single group may be larger than maxMutations.
const (
	maxGroups    = 256
	maxMutations = 8192
)

// A group is one call of Apply. The commit loop owns it from the queue until it
// closes done; then results and err stay as they are.
type group struct {
	mutations []Mutation
	results   []Result
	err       error
	done      chan struct{}
}

// Apply carries out the mutations as one group: all of them or, if one fails, none. Groups of concurrent callers share one
// transaction; a group that fails does not affect the others.
//
// When err is nil the group is on stable storage and there is one Result for each mutation. A failed precondition is a *GroupError
// that wraps the error and has the position of the mutation. After a write or sync error Apply returns ErrFailed, now and
// later. After ErrNoSpace, and ErrCorrupt without ErrFailed, nothing was changed, and a later group may succeed. ErrMoved: the
// open file is no longer the one at its path, and the index accepts no further groups. An *UnknownError, which wraps ErrFailed or
// ErrMoved, is for the groups that may be durable all the same.
//
// ctx is checked only until the group is queued; from then on Apply waits for the outcome.
func (x *Index) Apply(ctx context.Context, muts ...Mutation) ([]Result, error) {
	if x.opts.ReadOnly || x.opts.Use == Hold {
		return nil, ErrReadOnly
	}
	for i, m := range muts {
		if err := validate(m); err != nil {
			return nil, &GroupError{Position: i, Err: err}
		}
	}
	g := &group{mutations: muts, done: make(chan struct{})}
	if err := x.enqueue(ctx, g); err != nil {
		return nil, err
	}
	<-g.done
	return g.results, g.err
}

func (x *Index) enqueue(ctx context.Context, g *group) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.closed {
		return ErrClosed
	}
	select {
	case x.queue <- g:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// commitLoop makes the transactions, one after the other, each of all that is
// queued by then: a lone group pays one commit, many groups share one. There is no
// delay to wait for more.
func (x *Index) commitLoop() {
	defer close(x.ended)
	var groups []*group
	for {
		groups = x.take(groups[:0])
		if len(groups) == 0 {
			return
		}
		x.commit(groups)
		for i, g := range groups {
			close(g.done)
			groups[i] = nil
		}
	}
}

// take waits for a group and takes what is queued with it; none when the queue is
// closed and empty.
func (x *Index) take(groups []*group) []*group {
	g, ok := <-x.queue
	if !ok {
		return groups
	}
	groups = append(groups, g)
	// Those woken by the last commit are about to queue their next group. One turn
	// of the scheduler lets them in; without it they miss every other transaction.
	runtime.Gosched()
	bytes := g.payloads()
	for n := len(g.mutations); len(groups) < maxGroups && n < maxMutations && bytes < maxPayloads; n, bytes = n+len(g.mutations), bytes+g.payloads() {
		select {
		case g, ok = <-x.queue:
			if !ok {
				return groups
			}
			groups = append(groups, g)
		default:
			return groups
		}
	}
	return groups
}

// commit gives each group its outcome.
func (x *Index) commit(groups []*group) {
	err := firstError(x.Failed(), x.moved())
	if err == nil {
		err = x.awaitCheckpoint()
	}
	if err == nil {
		if err = x.transact(groups); err == nil {
			return
		}
		if err == errReaches {
			half := len(groups) / 2
			x.commit(groups[:half])
			x.commit(groups[half:])
			return
		}
		_, none := errors.AsType[*unchanged](err)
		if none && len(groups) > 1 { // a damaged page, perhaps: who does not need it must not suffer
			x.note(err)
			for i := range groups {
				x.commit(groups[i : i+1])
			}
			return
		}
		err = x.outcome(err)
	}
	for _, g := range groups {
		g.results, g.err = nil, err
	}
}

// unchanged is the error of a transaction that surely changed nothing: another may do better.
type unchanged struct{ error }

func (e *unchanged) Unwrap() error { return e.error }

// UnknownError is the error of a group of which it is not known whether it is durable, until the index is opened again, where it
// is. All errors without one say that nothing was changed.
type UnknownError struct{ err error }

func (e *UnknownError) Error() string { return e.err.Error() }
func (e *UnknownError) Unwrap() error { return e.err }

// outcome is what callers are told of an error, which ends all changes unless it is known that nothing was changed.
func (x *Index) outcome(err error) error {
	err = withoutPath(err, x.dir)
	x.note(err)
	switch _, none := errors.AsType[*unchanged](err); {
	case none:
	case fullDisk(err):
		err = fmt.Errorf("%w: %w", ErrNoSpace, err)
	case errors.Is(err, ErrMoved): // what was written is durable, where it is
		err = &UnknownError{err}
	default:
		err = fmt.Errorf("%w: %w", ErrFailed, err)
		failed := err // later groups are not even written
		x.failed.CompareAndSwap(nil, &failed)
		err = &UnknownError{err}
	}
	return err
}

// transact evaluates the groups, one after the other, and makes the rows that they change durable with one record of the log.
// Then readers see them. Failed groups have their error and left no trace. A returned error is about all of them.
func (x *Index) transact(groups []*group) error {
	t, counters, lastBackup, err := x.prepare(groups)
	if err != nil || len(t.changed) == 0 {
		return err
	}
	if x.opts.BeforeCommit != nil {
		if err := x.opts.BeforeCommit(); err != nil {
			return err
		}
	}
	rows := t.rows()
	var end journal.Position
	if x.log == nil {
		err = x.writeRows(t.over, end)
	} else {
		end, err = x.appendGroup(t.group)
	}
	if err != nil {
		return err
	}
	if t.hasMeta && t.group.InOne() {
		x.metaIn = t.group.Segment()
	}
	if x.opts.AfterCommit != nil {
		if err := x.opts.AfterCommit(); err != nil {
			return err
		}
	}
	x.counters.Store(&counters)
	x.charges.Store(t.charges)
	x.lastBackup.Store(lastBackup)
	if x.log != nil {
		x.showRows(t, rows, end)
	}
	if err := x.Lost(); err != nil {
		return err
	}
	// Last, for an acknowledgement says that the file which lies under the name has the change: one that
	// is moved away after this takes it along.
	if err := x.Attached(); err != nil {
		x.gone.Store(&err)
		return err
	}
	return nil
}

// errReaches is of groups that would reach over the end of a segment of the log together: half of them may not.
var errReaches = errors.New("groups reach over the end of a segment")

// prepare evaluates the groups, and gives the rows to the group of the log that already has their payloads. Where there are payloads, all
// of that lies in one segment: else the rows of an item, which a file that is made anew needs, could go with the one segment while
// the bytes lie in the other. So there is a transaction of fewer groups, or one group begins in the next segment. Only a group
// that is larger than a segment lies in several.
func (x *Index) prepare(groups []*group) (t *tx, counters Counters, lastBackup *time.Time, err error) {
	for _, skip := range []bool{false, true} {
		t, counters, lastBackup, err = x.evaluate(groups, skip)
		if err != nil || len(t.changed) == 0 || x.log == nil {
			return t, counters, lastBackup, err
		}
		if err := x.addRows(t); err != nil {
			return nil, Counters{}, nil, err
		}
		switch {
		case !t.hasPayloads || t.group.InOne():
			return t, counters, lastBackup, nil
		case len(groups) > 1:
			return nil, Counters{}, nil, errReaches
		case int64(t.group.Size()) > x.log.MaxRecord():
			return t, counters, lastBackup, nil
		}
	}
	return t, counters, lastBackup, nil
}

// evaluate carries out the groups on the last state, in an overlay of their own. skip: what they add to the log begins in its
// next segment.
func (x *Index) evaluate(groups []*group, skip bool) (t *tx, counters Counters, lastBackup *time.Time, err error) {
	var group *journal.Group
	if x.log != nil {
		group = &x.group
		if err := x.log.Begin(group, nil); err != nil {
			return nil, Counters{}, nil, x.logError(err)
		}
		if skip {
			if err := group.Skip(); err != nil {
				return nil, Counters{}, nil, &unchanged{x.logError(err)}
			}
		}
	}
	v, err := x.snapshots.acquire()
	if err != nil {
		return nil, Counters{}, nil, err
	}
	defer x.snapshots.release(v)
	err = protect(func() error {
		if err := v.sound(); err != nil {
			return err
		}
		t = newTx(v, group)
		t.charges = x.Charges()
		for _, g := range groups {
			if g.results, g.err = t.apply(g.mutations); g.err == nil {
				t.stand()
			} else {
				t.undo()
			}
			x.note(g.err)
		}
		if group != nil && len(t.changed) > 0 && group.Segment() != x.metaIn {
			t.repeatMeta()
		}
		if len(t.changed) > 0 {
			t.keepCharges()
		}
		lastBackup = readLastBackup(t.writers)
		counters, err = t.total()
		return err
	})
	if err != nil { // nothing has been written
		err = &unchanged{err}
	}
	return t, counters, lastBackup, err
}
