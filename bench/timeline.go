package bench

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// stallTime is the time without the end of a request that is listed as a stall.
const stallTime = 100 * time.Millisecond

// clock records when the requests of a mixed load end. It is safe for concurrent use.
type clock struct {
	start time.Time
	step  time.Duration
	now   func() time.Time

	mu       sync.Mutex
	last     time.Time // when the last request ended; guarded by mu, as all below
	requests []int64
	stalls   []Span
	longest  time.Duration
	beside   []Span
}

func newClock(step time.Duration, now func() time.Time) *clock {
	start := now()
	return &clock{start: start, last: start, step: step, now: now}
}

// tick counts a request that has just ended.
func (c *clock) tick() {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pause(now)
	c.last = now
	i := int(now.Sub(c.start) / c.step)
	for len(c.requests) <= i {
		c.requests = append(c.requests, 0)
	}
	c.requests[i]++
}

// pause notes the time since the last end. c.mu is held.
func (c *clock) pause(now time.Time) {
	span := now.Sub(c.last)
	c.longest = max(c.longest, span)
	if span >= stallTime {
		c.stalls = append(c.stalls, Span{At: c.last.Sub(c.start).Seconds(), Seconds: span.Seconds()})
	}
}

// ran notes something that ran beside the load, from begin to end.
func (c *clock) ran(name string, begin, end time.Time, err error) {
	s := Span{Name: name, At: begin.Sub(c.start).Seconds(), Seconds: end.Sub(begin).Seconds()}
	if err != nil {
		s.Error = err.Error()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.beside = append(c.beside, s)
}

// timeline is what was recorded; the load has ended.
func (c *clock) timeline() *Timeline {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pause(c.now())
	return &Timeline{StepSeconds: c.step.Seconds(), Requests: c.requests, Stalls: c.stalls, StallSeconds: stallTime.Seconds(),
		LongestStall: c.longest.Seconds()}
}

// spans are what ran beside the load, which has ended too.
func (c *clock) spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.SortFunc(c.beside, func(a, b Span) int { return cmp.Compare(a.At, b.At) })
	return c.beside
}
