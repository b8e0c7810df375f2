package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"syscall"

	bolt "go.etcd.io/bbolt"
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

// Apply carries out the mutations as one group: all of them or, when one fails, none.
// Groups of concurrent callers share one transaction; one that fails does not fail
// its neighbours.
//
// When err is nil the group is on stable storage and there is one Result per
// mutation. A failed precondition is a *GroupError that wraps the error and gives
// the mutation's position. After a write or sync error, whose outcome is not known
// until the index is opened again, Apply refuses with ErrFailed. ErrNoSpace:
// nothing was changed, and a later group may succeed. ErrMoved: the file is not, or no longer,
// what lies under its name. The file that was opened may have the group, wherever it is; the index takes no others.
//
// ctx counts only until the group is queued: from then on Apply waits for the outcome.
func (x *Index) Apply(ctx context.Context, muts ...Mutation) ([]Result, error) {
	if x.opts.ReadOnly {
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
	for n := len(g.mutations); len(groups) < maxGroups && n < maxMutations; n += len(g.mutations) {
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
	err := x.Failed()
	if err == nil {
		err = x.moved()
	}
	if err == nil {
		if err = x.transact(groups); err == nil {
			return
		}
		err = withoutPath(err, x.dir)
		switch {
		case fullDisk(err):
			err = fmt.Errorf("%w: %w", ErrNoSpace, err)
		case errors.Is(err, ErrMoved): // what was written is durable, where it is
		default:
			err = fmt.Errorf("%w: %w", ErrFailed, err)
			x.failed.Store(&err)
			x.durable.end()
		}
	}
	for _, g := range groups {
		g.results, g.err = nil, err
	}
}

// fullDisk reports an error from which the index can go on: a page that the disk
// had no room for. It was not yet part of the database, and bbolt has taken the
// transaction back. A sync that finds the disk full is not such an error.
func fullDisk(err error) bool {
	var p *fs.PathError
	return errors.As(err, &p) && p.Op == "write" && (errors.Is(p.Err, syscall.ENOSPC) || errors.Is(p.Err, syscall.EDQUOT))
}

// transact runs the groups in one transaction, and commits it if one of them
// changed something. Failed groups have their error and left no trace. A returned
// error is about the whole transaction.
func (x *Index) transact(groups []*group) (err error) {
	// A damaged page must end this repository's writes, not the process.
	defer faultIsCorrupt(&err)()
	btx, err := x.db.Begin(true)
	if err != nil {
		return err
	}
	defer btx.Rollback() // after Commit it does nothing

	t, changed := newTx(btx), false
	for _, g := range groups {
		if g.results, g.err = t.apply(g.mutations); t.broken != nil {
			return t.broken
		}
		if g.err == nil {
			changed = changed || len(t.log) > 0
			t.log = t.log[:0]
		} else if t.undo(); t.broken != nil {
			return t.broken
		}
	}
	if !changed {
		return nil
	}
	return x.publish(t, btx)
}

// publish commits, and then shows readers the totals of this commit.
func (x *Index) publish(t *tx, btx *bolt.Tx) error {
	counters, err := t.total()
	if err != nil {
		return err
	}
	lastBackup, id := readLastBackup(t.writers), btx.ID()
	if x.opts.BeforeCommit != nil {
		if err := x.opts.BeforeCommit(); err != nil {
			return err
		}
	}
	if err := btx.Commit(); err != nil {
		return err
	}
	x.counters.Store(&counters)
	x.lastBackup.Store(lastBackup)
	if x.opts.AfterCommit != nil {
		if err := x.opts.AfterCommit(); err != nil {
			return err
		}
	}
	x.durable.reached(id)
	// Last, for an acknowledgement says that the file which lies under the name has the change: one that
	// is moved away after this takes it along.
	if err := x.InPlace(); err != nil {
		x.gone.Store(&err)
		return err
	}
	return nil
}
