package repo

import (
	"fmt"
	"sync"
	"time"
)

// total counts what the repositories of one data directory use together, and holds it against a limit, as quota does for one of them.
// Like the space of the disk it is theirs in common: who comes first has it. Its zero value has no limit.
//
// A repository counts from when it is opened. Until the set has opened all of them once, nothing can be admitted below a limit, as it is
// not known how much is used.
type total struct {
	mu       sync.Mutex // held for a few additions only; after quota.mu
	limited  bool
	limit    int64         // bytes, if limited
	used     int64         // bytes of items that count, as of the last settled commits
	reserved int64         // by uploads and plans under way
	counted  chan struct{} // closed when used has all repositories; nil: nobody counts
}

// totalSlack is what commit keys of all repositories together may have beyond a limit: without an index nobody could prune what is full.
func totalSlack(limit int64) int64 { return limit/20 + 64<<20 }

// totalPatience is how long work waits until all repositories were counted.
const totalPatience = 20 * time.Second

// errCounting answers what has waited for longer.
var errCounting error = Errorf(ErrBusy, "what all repositories of the server use is still being counted: try again")

// ready waits until it is known how much is used, where there is a limit. No mutex of this package is held that the opening of a
// repository takes.
func (t *total) ready() error {
	t.mu.Lock()
	counted, limited := t.counted, t.limited
	t.mu.Unlock()
	if !limited || counted == nil {
		return nil
	}
	select {
	case <-counted:
		return nil
	default:
	}
	late := time.NewTimer(totalPatience)
	defer late.Stop()
	select {
	case <-counted:
		return nil
	case <-late.C:
		return errCounting
	}
}

// reserve sets n bytes more aside, or refuses. commitKey: for an item that completes what a client has begun.
func (t *total) reserve(n int64, commitKey bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	most := t.limit
	if commitKey {
		most += totalSlack(t.limit)
	}
	if t.limited && t.used+t.reserved+n > most {
		return &TotalError{Limit: t.limit}
	}
	t.reserved += n
	return nil
}

// add records a change of what is used, and of what is reserved.
func (t *total) add(used, reserved int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.used += used
	t.reserved += reserved
}

// join has what a repository uses count in a total, until leave.
func (q *quota) join(t *total) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.total = t
	t.add(q.used, q.reserved)
}

// leave is called when the repository is closed. What is still under way in it counts nowhere.
func (q *quota) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.total != nil {
		q.total.add(-q.used, -q.reserved)
		q.total = nil
	}
}

// addLocked records a change of what is used, also in the total. mu is held.
func (q *quota) addLocked(used, commits int64) {
	q.used += used
	q.commitUsed += commits
	if q.total != nil {
		q.total.add(used, 0)
	}
}

// SetTotalQuota limits what the repositories of the data directory use together, in bytes; negative: there is no limit. What they use above a
// limit stays, and nothing is admitted until it is less. From the first limit on work waits until the function that is returned
// is called: when all repositories that can be were opened. It is nil if that was so before, or is being done.
func (d *Disk) SetTotalQuota(limit int64) (counted func()) {
	t := &d.total
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limited, t.limit = limit >= 0, max(limit, 0)
	if !t.limited || t.counted != nil {
		return nil
	}
	return t.beginLocked()
}

// CountAgain has work wait as SetTotalQuota does: repositories have come that were not counted. nil: there is no limit, or they are being counted.
func (d *Disk) CountAgain() (counted func()) {
	t := &d.total
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counted == nil {
		return nil
	}
	select {
	case <-t.counted:
		return t.beginLocked()
	default:
		return nil
	}
}

func (t *total) beginLocked() (counted func()) {
	done := make(chan struct{})
	t.counted = done
	return func() { close(done) }
}

// TotalUsage is what the repositories that were opened use together, in bytes.
type TotalUsage struct {
	Used, Reserved int64
	Limit          int64 // negative: none
	Complete       bool  // all repositories that can be were opened
}

// TotalUsage returns it.
func (d *Disk) TotalUsage() TotalUsage {
	t := &d.total
	t.mu.Lock()
	defer t.mu.Unlock()
	u := TotalUsage{Used: t.used, Reserved: t.reserved, Limit: -1}
	if t.limited {
		u.Limit = t.limit
	}
	if t.counted != nil {
		select {
		case <-t.counted:
			u.Complete = true
		default:
		}
	}
	return u
}

// TotalError is an ErrQuota: all repositories of the server together have as much as they may. It has no figure of what others use.
type TotalError struct {
	Limit int64 // bytes
}

func (e *TotalError) Error() string {
	return fmt.Sprintf("quota exceeded: all repositories of this server together may have %d bytes, and this does not fit: remove something, or raise the total quota", e.Limit)
}
func (e *TotalError) Is(target error) bool { return target == ErrQuota }
