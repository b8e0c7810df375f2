package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
)

// write changes rows of the file in one transaction of bbolt. Readers do not see it before show. It is called by one goroutine at
// a time.
func (x *Index) write(rows []fileRow) error {
	return x.transaction(func(btx *bolt.Tx, g *guard) error {
		var b *bucket
		for _, row := range rows {
			if b == nil || b.id != row.bucket {
				b = g.bucket(btx, row.bucket)
			}
			change := func() error { return b.Put(row.key, row.value) }
			if row.value == nil {
				change = func() error { return b.Delete(row.key) }
			}
			if err := change(); err != nil {
				return err
			}
		}
		return nil
	})
}

// transaction runs fn in a transaction of bbolt and commits it.
func (x *Index) transaction(fn func(*bolt.Tx, *guard) error) error {
	if err := x.ready(); err != nil {
		return &unchanged{corrupt(err)}
	}
	if x.opts.BeforeWrite != nil {
		if err := x.opts.BeforeWrite(); err != nil {
			return &unchanged{err}
		}
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
		if err := fn(btx, newGuard(s)); err != nil {
			return err
		}
		if err = btx.Commit(); err != nil {
			refused = true
			return err
		}
		x.wrote = s.txid + 1
		if x.opts.AfterWrite != nil {
			return x.opts.AfterWrite()
		}
		return nil
	})
	if intact && refused {
		intact, err = x.reloaded(err)
	}
	if intact && btx != nil && err != nil {
		intact, _ = attempt(btx.Rollback) // after a Commit that failed it does nothing
	}
	x.broken = x.broken || !intact
	if intact && errors.Is(err, ErrCorrupt) { // it was found before bbolt was led to it, and before Commit
		err = &unchanged{err}
	}
	return err
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

// show gives readers what was committed, below the rows that are pending.
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
	x.pending.mu.Lock()
	defer x.pending.mu.Unlock()
	x.snapshots.publish(newView(one, x.pending.over))
}

// remapWait is how long a commit waits for readers so that the file can be mapped anew.
const remapWait = time.Minute

// remap is write for what needs a larger mapping of the file: nobody may read meanwhile.
func (x *Index) remap(rows []fileRow) error {
	ended, drained := x.snapshots.drain(remapWait)
	if !drained {
		return &unchanged{fmt.Errorf("%w: the file is to be mapped anew, and readers take too long", ErrNoSpace)}
	}
	err := rollback(ended)
	if err == nil {
		x.db.MaxSize = 0
		err = x.write(rows)
	}
	switch {
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

// fullDisk reports an error from which the index can go on: a page that the disk
// had no space for. It was not yet part of the database, and bbolt has taken the
// transaction back. A sync that finds the disk full is not such an error.
func fullDisk(err error) bool {
	var p *fs.PathError
	return errors.As(err, &p) && p.Op == "write" && (errors.Is(p.Err, syscall.ENOSPC) || errors.Is(p.Err, syscall.EDQUOT))
}
