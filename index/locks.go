package index

import (
	"context"
	"fmt"
	"time"
)

// heldAt reports whether the lock is held at now, which has the precision of the record.
func (l *Lock) heldAt(now time.Time) bool { return now.Sub(l.Acquired) <= l.TTL }

// lockAt returns the lock, nil when there is none.
func (t *tx) lockAt(id string) (*Lock, error) {
	value := t.locks.Get([]byte(id))
	if value == nil {
		return nil, nil
	}
	l, err := decodeLock(id, value)
	if err != nil {
		return nil, err
	}
	return &l, nil
}

func (t *tx) acquireLock(m AcquireLock) (r Result, err error) {
	now := time.UnixMicro(m.Now.UnixMicro()).UTC()
	held, err := t.lockAt(m.ID)
	if err != nil {
		return r, err
	}
	l := &Lock{ID: m.ID, Holder: m.Holder, Data: m.Data, Acquired: now, Since: now, TTL: m.TTL}
	switch {
	case held == nil:
		if err := t.limitLocks(m.Now); err != nil {
			return r, err
		}
	case !held.heldAt(now): // whoever had it, it is taken anew
	case held.Holder == m.Holder:
		l.Since = held.Since
	default:
		return Result{Lock: held}, ErrLocked
	}
	t.put(t.locks, []byte(m.ID), encodeLock(l))
	return Result{Lock: l}, nil
}

// limitLocks refuses a lock beyond maxLocks rows. Those that have ended go first.
func (t *tx) limitLocks(now time.Time) error {
	if t.countLocks() < maxLocks {
		return nil
	}
	if err := t.expireLocks(ExpireLocks{Now: now}); err != nil {
		return err
	}
	if t.countLocks() < maxLocks {
		return nil
	}
	return fmt.Errorf("%w: %d locks are held, more a repository does not have", ErrQuota, maxLocks)
}

// countLocks looks at the keys alone, of which there are at most maxLocks but in a file of an older program.
func (t *tx) countLocks() (n int) {
	c := t.locks.Cursor()
	for id, _ := c.First(); id != nil; id, _ = c.Next() {
		n++
	}
	return n
}

func (t *tx) releaseLock(m ReleaseLock) (r Result, err error) {
	held, err := t.lockAt(m.ID)
	if err != nil {
		return r, err
	}
	if held == nil {
		return r, ErrNotFound
	}
	if m.Holder != "" && m.Holder != held.Holder {
		return Result{Lock: held}, ErrLocked
	}
	t.remove(t.locks, []byte(m.ID))
	return r, nil
}

// clockSlack is how far ahead of now a lock may have been acquired: callers read the clock before they queue.
const clockSlack = time.Minute

func (t *tx) expireLocks(m ExpireLocks) error {
	now := time.UnixMicro(m.Now.UnixMicro()).UTC()
	var expired [][]byte // first found, then changed: a cursor does not like both at once
	var ahead []Lock
	c := t.locks.Cursor()
	for id, value := c.First(); id != nil; id, value = c.Next() {
		l, err := decodeLock(string(id), value)
		if err != nil {
			return err
		}
		if !l.heldAt(now) {
			expired = append(expired, append([]byte(nil), id...))
		} else if l.Acquired.Sub(now) > clockSlack {
			ahead = append(ahead, l)
		}
	}
	for _, id := range expired {
		t.remove(t.locks, id)
	}
	for _, l := range ahead {
		l.Acquired = now
		t.put(t.locks, []byte(l.ID), encodeLock(&l))
	}
	return nil
}

// Locks returns the TTL locks by ID, expired ones included.
func (x *Index) Locks() (locks []Lock, err error) {
	err = x.scan(context.Background(), walk{bucket: bucketLocks}, func(id, value []byte) ([]byte, error) {
		l, err := decodeLock(string(id), value)
		locks = append(locks, l)
		return nil, err
	})
	if err != nil {
		return nil, err
	}
	return locks, nil
}

// Lock returns one TTL lock, also an expired one, or ErrNotFound.
func (x *Index) Lock(id string) (l Lock, err error) {
	err = x.view(func(b *view) error {
		value := b.Bucket(bucketLocks).Get([]byte(id))
		if value == nil {
			return ErrNotFound
		}
		l, err = decodeLock(id, value)
		return err
	})
	return l, err
}
