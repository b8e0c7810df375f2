package repo

import (
	"errors"
	"sync"

	"packhouse/index"
)

// quota counts what a repository uses and what uploads under way may yet add,
// so that concurrent uploads together cannot pass the limit. The index tests
// the limit once more inside the transaction; this is what refuses early,
// and what makes an admitted upload sure of its bytes.
type quota struct {
	mu       sync.Mutex // held for a few additions only
	limit    int64      // bytes; negative: none
	trash    int64      // bytes that the trash may hold; negative: any number, asQuota: as many as limit
	used     int64      // bytes of items that count, as of the last settled commit
	reserved int64      // by uploads and plans under way
	total    *total     // of all repositories, where it counts as well; nil: nowhere

	// Of these two, what belongs to commit keys; see commitKeys.
	commitUsed     int64
	commitReserved int64
}

// quotaReservation is a part of the quota set aside. It ends once, by commit or release.
type quotaReservation struct {
	q       *quota
	ceiling int64 // of who asks, beside q.limit; negative: none
	bytes   int64
	ended   bool
	// bound, if not nil, makes it one for a commit key: it is admitted beyond the limit while all commit keys together
	// hold no more than bound says.
	bound func() (int64, error)
	// trash, if not nil, is whose trash counts where it holds more than it may. It is never a reason to refuse a commit key.
	trash *Access
}

func (q *quota) setLimits(limit, trash int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limit, q.trash = limit, trash
}

// limits are those that are set.
func (q *quota) limits() (limit, trash int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.limit, q.trash
}

func (q *quota) current() (used, reserved, limit int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.used, q.reserved, q.limit
}

// commits is what commit keys hold, and what uploads of them under way may yet add.
func (q *quota) commits() (used, reserved int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.commitUsed, q.commitReserved
}

// lower is the stricter of two limits; a negative one is none.
func lower(a, b int64) int64 {
	if a < 0 || b >= 0 && b < a {
		return b
	}
	return a
}

// refusal tells with figures that n bytes more were refused.
func (q *quota) refusal(n int64) *QuotaError {
	used, _, limit := q.current()
	return &QuotaError{Used: used, Wanted: used + n, Limit: limit, Request: n}
}

// grow adds n bytes to the reservation, or refuses and leaves it as it was. What adds nothing is never refused: so items can be made
// smaller above a limit that was lowered. Before it refuses because of the trash, what may go of that gives way.
func (r *quotaReservation) grow(n int64) error {
	if err := r.ready(n); err != nil {
		return err
	}
	err := r.growWithin(n, 0)
	for again := true; again; {
		full, ok := errors.AsType[*TrashError](err)
		if !ok {
			break
		}
		again = r.trash.shrinkTrash(full.short)
		err = r.growWithin(n, 0) // others may have made space, too
	}
	if err == nil || r.bound == nil {
		return err
	}
	// The bound is asked for without the mutex, as the index may wait for its disk. It only grows.
	bound, boundErr := r.bound()
	if boundErr != nil {
		return boundErr
	}
	return r.growWithin(n, bound)
}

// ready waits until it is known whether n bytes more fit into the total.
func (r *quotaReservation) ready(n int64) error {
	r.q.mu.Lock()
	t := r.q.total
	r.q.mu.Unlock()
	if n <= 0 || t == nil {
		return nil
	}
	return t.ready()
}

// growWithin is grow with the bytes that all commit keys may hold beyond the limit.
func (r *quotaReservation) growWithin(n, bound int64) error {
	if n <= 0 {
		return nil
	}
	q := r.q
	var c index.Counters
	most := int64(-1) // that the trash may hold
	if r.trash != nil && r.bound == nil && r.trash.r.grace.Load() > 0 {
		c, most = r.trash.r.index.Counters(), r.trash.trashLimit()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	limit := lower(q.limit, r.ceiling)
	want := q.used + q.reserved + n
	if limit >= 0 && (want > limit || want < q.used) && n > bound-q.commitUsed-q.commitReserved {
		return &QuotaError{Used: q.used, Wanted: want, Limit: limit, Request: n}
	}
	if limit >= 0 && most >= 0 && c.TrashBytes > most {
		// Of a commit that is not settled yet, used has not what it removed, and the counters have what is still reserved.
		short := min(q.used, c.Counted()) + q.reserved + n + c.TrashBytes - most - limit
		if short > 0 {
			return &TrashError{Trash: c.TrashBytes, Limit: most, short: Emptied{Bytes: short}}
		}
	}
	if q.total != nil {
		if err := q.total.reserve(n, r.bound != nil); err != nil {
			return err
		}
	}
	q.reserved += n
	r.bytes += n
	if r.bound != nil {
		q.commitReserved += n
	}
	return nil
}

// leaveClass makes it a reservation like others: the upload has become larger than a commit key of its kind may be.
// What it has reserved beyond the limit it keeps; it does not grow there.
func (r *quotaReservation) leaveClass() {
	q := r.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if r.bound != nil {
		q.commitReserved -= r.bytes
		r.bound = nil
	}
}

// commit turns the reservation into usage: delta is what the commit really added, may be negative; commits is how much of that
// belongs to commit keys.
func (r *quotaReservation) commit(delta, commits int64) {
	q := r.q
	q.mu.Lock()
	defer q.mu.Unlock()
	q.addLocked(delta, commits)
	r.endLocked()
}

// release gives the reservation back; after commit it does nothing.
func (r *quotaReservation) release() {
	q := r.q
	q.mu.Lock()
	defer q.mu.Unlock()
	r.endLocked()
}

func (r *quotaReservation) endLocked() {
	if r.ended {
		return
	}
	r.ended = true
	r.q.reserved -= r.bytes
	if r.q.total != nil {
		r.q.total.add(0, -r.bytes)
	}
	if r.bound != nil {
		r.q.commitReserved -= r.bytes
	}
}

// add records a change of usage that needed no reservation.
func (q *quota) add(delta, commits int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.addLocked(delta, commits)
}
