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
	q       *quota
	ceiling int64 // of who asks, beside q.limit; negative: none
	bytes   int64
	ended   bool
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

// grow adds n bytes to the promise, or refuses and leaves it as it was.
func (r *reservation) grow(n int64) error {
	q := r.q
	q.mu.Lock()
	defer q.mu.Unlock()
	limit := lower(q.limit, r.ceiling)
	if want := q.used + q.reserved + n; limit >= 0 && (want > limit || want < q.used && n > 0) {
		return &QuotaError{Used: q.used, Wanted: want, Limit: limit, Request: n}
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
