package repo

import (
	"sync"
	"time"
)

// changeClock gives changes their times, such that a change that was not yet visible when a read began is never
// earlier than the time of that read, and one that was visible is always earlier: also when the system's clock is set
// back, and within the millisecond that the index stores. The zero value works.
type changeClock struct {
	mu    sync.Mutex // held for a few comparisons only
	last  time.Time
	under map[*time.Time]bool // times of the changes that are not visible yet
}

func (c *changeClock) advance(now time.Time) time.Time {
	if now = now.Truncate(time.Millisecond); now.After(c.last) {
		c.last = now
	}
	return c.last
}

// begin is the time of a change, for which end must be called when it is visible.
func (c *changeClock) begin(now time.Time) *time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.advance(now)
	if c.under == nil {
		c.under = make(map[*time.Time]bool)
	}
	c.under[&at] = true
	return &at
}

func (c *changeClock) end(at *time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.under, at)
}

// read is the time of a read that begins now.
func (c *changeClock) read(now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now = now.Truncate(time.Millisecond); !now.After(c.last) {
		now = c.last.Add(time.Millisecond)
	}
	c.last = now
	for at := range c.under {
		if at.Before(now) {
			now = *at
		}
	}
	return now
}
