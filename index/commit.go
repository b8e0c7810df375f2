package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"syscall"
	"time"

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

// Apply carries out the mutations as one group: all of them or, if one fails, none. Groups of concurrent callers share one
// transaction; a group that fails does not affect the others.
//
// When err is nil the group is on stable storage and there is one Result for each mutation. A failed precondition is a *GroupError
// that wraps the error and has the position of the mutation. After a write or sync error, whose outcome is not known until the
// index is opened again, Apply returns ErrFailed. After ErrNoSpace, and ErrCorrupt without ErrFailed, nothing was changed, and a
// later group may succeed. ErrMoved: the open file is no longer the one at its path. The moved file may contain the group,
// and the index accepts no further groups.
//
// ctx is checked only until the group is queued; from then on Apply waits for the outcome.
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
		if err = x.transact(groups); errors.Is(err, errMapFull) {
			err = x.remap(groups)
		}
		if err == nil {
			return
		}
		err = withoutPath(err, x.dir)
		x.note(err)
		switch _, none := errors.AsType[*unchanged](err); {
		case none && len(groups) > 1: // a damaged page, perhaps: who does not need it must not suffer
			for i := range groups {
				x.commit(groups[i : i+1])
			}
			return
		case none:
		case fullDisk(err):
			err = fmt.Errorf("%w: %w", ErrNoSpace, err)
		case errors.Is(err, ErrMoved): // what was written is durable, where it is
		default:
			err = fmt.Errorf("%w: %w", ErrFailed, err)
			x.failed.Store(&err)
		}
	}
	for _, g := range groups {
		g.results, g.err = nil, err
	}
}

// fullDisk reports an error from which the index can go on: a page that the disk
// had no space for. It was not yet part of the database, and bbolt has taken the
// transaction back. A sync that finds the disk full is not such an error.
func fullDisk(err error) bool {
	var p *fs.PathError
	return errors.As(err, &p) && p.Op == "write" && (errors.Is(p.Err, syscall.ENOSPC) || errors.Is(p.Err, syscall.EDQUOT))
}

// unchanged is the error of a transaction that surely changed nothing: another may do better.
type unchanged struct{ error }

func (e *unchanged) Unwrap() error { return e.error }

// transact runs the groups in one transaction, and commits it if one of them
// changed something. Failed groups have their error and left no trace. A returned
// error is about the whole transaction.
func (x *Index) transact(groups []*group) error {
	var counters Counters
	var lastBackup *time.Time
	committed, err := x.write(func(btx *bolt.Tx, guard *guard) (changed bool, err error) {
		t := newTx(btx, guard)
		for _, g := range groups {
			if g.results, g.err = t.apply(g.mutations); t.broken != nil {
				return false, t.broken
			}
			if g.err == nil {
				changed = changed || len(t.log) > 0
				t.log = t.log[:0]
			} else if t.undo(); t.broken != nil {
				return false, t.broken
			}
			x.note(g.err)
		}
		if !changed {
			return false, nil
		}
		lastBackup = readLastBackup(t.writers)
		if counters, err = t.total(); err == nil && x.opts.BeforeCommit != nil {
			err = x.opts.BeforeCommit()
		}
		return true, err
	})
	if err != nil || !committed {
		return err
	}
	x.counters.Store(&counters)
	x.lastBackup.Store(lastBackup)
	if x.opts.AfterCommit != nil {
		if err := x.opts.AfterCommit(); err != nil {
			return err
		}
	}
	x.show()
	if err := x.Lost(); err != nil {
		return err // what was just committed is not in the file any more, or cannot be read: no acknowledgement
	}
	// Last, for an acknowledgement says that the file which lies under the name has the change: one that
	// is moved away after this takes it along.
	if err := x.Attached(); err != nil {
		x.gone.Store(&err)
		return err
	}
	return nil
}

// write runs fn in a transaction, and commits it if fn changed something. Readers do not see it before show.
func (x *Index) write(fn func(*bolt.Tx, *guard) (changed bool, err error)) (committed bool, err error) {
	if err := x.ready(); err != nil {
		return false, &unchanged{corrupt(err)}
	}
	var btx *bolt.Tx
	refused := false
	intact, err := attempt(func() error {
		err := rollback(x.snapshots.unread())
		if err != nil {
			return err
		}
		if btx, err = x.beginWrite(); err != nil {
			return err
		}
		s, err := x.stateOf(btx)
		if err != nil {
			return err
		}
		if err := s.check(&x.last); err != nil {
			return err
		}
		g := newGuard(s)
		if committed, err = fn(btx, g); err != nil || !committed {
			return err
		}
		if err = btx.Commit(); err != nil {
			refused = true
			return err
		}
		x.wrote = s.txid + 1
		return nil
	})
	if intact && refused {
		intact, err = x.reloaded(err)
	}
	if intact && btx != nil && (err != nil || !committed) {
		intact, _ = attempt(btx.Rollback) // after a Commit that failed it does nothing
	}
	x.broken = x.broken || !intact
	if intact && errors.Is(err, ErrCorrupt) { // it was found before bbolt was led to it, and before Commit
		err = &unchanged{err}
	}
	return committed && err == nil, err
}

// reloaded is called after a Commit that returned an error: bbolt has read the list of free pages from the file again, for
// the next transaction, which would write over pages in use if it were not right any more. It returns err, or
// what is wrong.
func (x *Index) reloaded(err error) (intact bool, _ error) {
	c := structureCheck{meta: x.last.meta, ctx: context.Background(), file: x.file, problem: func(err error) error { return err }}
	if bad := c.run(); bad != nil {
		return false, fmt.Errorf("%w, after a commit that failed: %v", corrupt(bad), err) // nothing goes on after it, whatever err is
	}
	return true, err
}

// beginWrite begins a transaction for writing. bbolt then decides which pages it may use again: those of the last commit but
// one, unless there is a transaction from before the new one. So where nobody reads, the one of the current snapshot
// is not there for that moment.
func (x *Index) beginWrite() (btx *bolt.Tx, err error) {
	s := &x.snapshots
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil || s.current.readers > 0 {
		return x.db.Begin(true)
	}
	if err := s.current.tx.Rollback(); err != nil {
		return nil, err
	}
	if btx, err = x.db.Begin(true); err == nil {
		s.current.tx, err = x.db.Begin(false)
	}
	return btx, err
}

// ready looks at the pages that bbolt reads while it holds its mutexes, to begin a transaction. They are those of the last
// commit, or another process has written to the file.
func (x *Index) ready() error {
	info, err := x.file.Stat()
	if err != nil {
		return err
	}
	m, bad, err := readMetas(x.file, info.Size())
	x.note(bad)
	if err == nil && m != x.last.meta {
		err = fmt.Errorf("%w: the last transaction is %d in the file and was %d", ErrCorrupt, m.txid, x.last.txid)
	}
	return err
}

// show gives readers what was committed.
func (x *Index) show() {
	one, err := x.snapshot()
	if err == nil && one.txid < x.wrote {
		// bbolt takes what it finds: it would go on from there, with the free pages of the other.
		err = fmt.Errorf("%w: the last transaction is %d in the file and was %d", ErrCorrupt, one.txid, x.wrote)
	}
	if err != nil {
		x.lose(err)
		return
	}
	x.last = one.committed
	x.snapshots.publish(one)
}

// remapWait is how long a commit waits for readers so that the file can be mapped anew.
const remapWait = time.Minute

// remap is transact for what needs a larger mapping of the file: nobody may read meanwhile.
func (x *Index) remap(groups []*group) error {
	ended, drained := x.snapshots.drain(remapWait)
	if !drained {
		return &unchanged{fmt.Errorf("%w: the file must be mapped again, and readers take too long", ErrNoSpace)}
	}
	err := rollback(ended)
	if err == nil {
		x.db.MaxSize = 0
		err = x.transact(groups)
	}
	switch {
	case !x.snapshots.none():
	case x.broken:
		x.lose(err)
	default:
		x.show()
	}
	if s, stateErr := x.snapshots.acquire(); stateErr == nil {
		x.mapped = max(x.mapped, mapSizeOf(int(s.end+1)*s.pageSize))
		x.snapshots.release(s)
		x.limitGrowth()
	}
	return err
}
