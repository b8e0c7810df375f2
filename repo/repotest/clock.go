package repotest

import (
	"sync/atomic"
	"time"
)

// Clock is a time that tests move on; it is safe for concurrent use.
type Clock struct {
	start time.Time
	ahead atomic.Int64
}

// NewClock begins with the present.
func NewClock() *Clock { return &Clock{start: time.Now()} }

// Now is a millisecond later with each call, as no two changes have the same time.
func (c *Clock) Now() time.Time {
	return c.start.Add(time.Duration(c.ahead.Add(int64(time.Millisecond))))
}

// Advance moves it on.
func (c *Clock) Advance(d time.Duration) { c.ahead.Add(int64(d)) }

// SettableClock stands still until a test moves it on; it is safe for concurrent use.
type SettableClock struct {
	start time.Time
	ahead atomic.Int64
}

// FixedClock begins at start.
func FixedClock(start time.Time) *SettableClock { return &SettableClock{start: start} }

// Now is the same until Advance.
func (c *SettableClock) Now() time.Time { return c.start.Add(time.Duration(c.ahead.Load())) }

// Advance moves it on.
func (c *SettableClock) Advance(d time.Duration) { c.ahead.Add(int64(d)) }
