package api

import (
	"context"
	"strconv"
	"time"
)

// ThrottleEntries counts what is kept of so many addresses.
func ThrottleEntries(addresses int) int {
	t := newThrottle(time.Now)
	for i := range addresses {
		for n := range 100 {
			t.allow(strconv.Itoa(i), nameSum{byte(n)})
		}
	}
	return t.lru.order.Len()
}

// ThrottleNames counts the names that are kept of an address with so many.
func ThrottleNames(names int) int {
	t := newThrottle(time.Now)
	for n := range names {
		name := nameSum{byte(n), byte(n >> 8)}
		t.allow("a", name)
		if n%2 == 0 {
			t.forgive("a", name, false)
		}
	}
	return len(t.of("a").names)
}

// FairQueue is the queue of passwords that are to be compared.
type FairQueue = fairQueue

// NewFairQueue makes one.
func NewFairQueue(places, most, each int) *FairQueue { return newFairQueue(places, most, each) }

// Enter and Leave are enter and leave.
func (q *FairQueue) Enter(ctx context.Context, address string) error { return q.enter(ctx, address) }
func (q *FairQueue) Leave()                                          { q.leave() }

// Waiting is how many wait.
func (q *FairQueue) Waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.all
}
