package repo

import "sync"

// quota counts what a repository uses and what uploads under way may yet add,
// so that concurrent uploads together cannot pass the limit. The index tests
// the limit once more inside the transaction; this is what refuses early,
// and what makes an admitted upload sure of its place.
type quota struct {
	mu       sync.Mutex // held for a few additions only
	limit    int64      // bytes; negative: none
	used     int64      // bytes of items that count, as of the last settled commit
	reserved int64      // promised to uploads and plans under way
}

// reservation is a promise of bytes. It ends once, by commit or release.
type reservation struct {
	q     *quota
	bytes int64
	ended bool
}

func (q *quota) setLimit(limit int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limit = limit
}

func (q *quota) current() (used, reserved, limit int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.used, q.reserved, q.limit
}

// refusal tells with figures that n bytes more were refused.
func (q *quota) refusal(n int64) *QuotaError {
	used, _, limit := q.current()
	return &QuotaError{Used: used, Wanted: used + n, Limit: limit, Request: n}
}

// reserve promises n bytes more (n may be negative for a write that shrinks: then it
// only tests the limit, as a write above the limit must bring usage back to it).
func (q *quota) reserve(n int64) (*reservation, error) {
	r := &reservation{q: q}
	if err := r.grow(n); err != nil {
		return nil, err
	}
	return r, nil
}

// grow adds n bytes to the promise, or refuses and leaves it as it was.
func (r *reservation) grow(n int64) error {
	q := r.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if want := q.used + q.reserved + n; q.limit >= 0 && (want > q.limit || want < q.used && n > 0) {
		return &QuotaError{Used: q.used, Wanted: want, Limit: q.limit, Request: n}
	}
	if n > 0 {
		q.reserved += n
		r.bytes += n
	}
	return nil
}

// commit turns the promise into usage: delta is what the commit really added, may be negative.
func (r *reservation) commit(delta int64) {
	q := r.q
	q.mu.Lock()
	defer q.mu.Unlock()
	q.used += delta
	if !r.ended {
		r.ended = true
		q.reserved -= r.bytes
	}
}

// release gives the promise back; after commit it does nothing.
func (r *reservation) release() {
	q := r.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if !r.ended {
		r.ended = true
		q.reserved -= r.bytes
	}
}

// add records a change of usage that needed no promise.
func (q *quota) add(delta int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.used += delta
}
