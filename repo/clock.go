package repo

import (
	"sync"
	"time"
)

// changeClock gives changes their times, such that a change that was not yet visible when a read began is never
// earlier than the time of that read, and one that was visible is always earlier: also when the system's clock is set
// back, and within the millisecond that the index stores. The zero value works.
type changeClock struct {
	mu     sync.Mutex          // held for a few comparisons only
	change time.Time           // of the last change; the latest there has been
	read   time.Time           // of the last read
	under  map[*time.Time]bool // times of the changes that are not visible yet
}

// begin is the time of a change, for which end must be called when it is visible.
func (c *changeClock) begin(now time.Time) *time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now = later(later(now.Truncate(time.Millisecond), c.change), c.read)
	if now.Equal(c.read) {
		now = now.Add(time.Millisecond)
	}
	c.change = now
	if c.under == nil {
		c.under = make(map[*time.Time]bool)
	}
	c.under[&now] = true
	return &now
}

func (c *changeClock) end(at *time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.under, at)
}

// begins is the time of a read that begins now. It runs ahead of the system's clock by no more than the changes since the
// last read do.
func (c *changeClock) begins(now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now = later(later(now.Truncate(time.Millisecond), c.change), c.read)
	if now.Equal(c.change) {
		now = now.Add(time.Millisecond)
	}
	c.read = now
	for at := range c.under {
		if at.Before(now) {
			now = *at
		}
	}
	return now
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
