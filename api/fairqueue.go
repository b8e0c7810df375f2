package api

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// fairQueue admits a few at once and lets the others wait: addresses take turns, so that many who come from one do not hold
// up one who comes from another. Those that are suspect wait for all others. It is safe for concurrent use.
type fairQueue struct {
	suspect func(address string) bool // it may change its mind while one waits
	mu      sync.Mutex                // held for a few steps
	free    int
	resting int                        // places that only others than suspects may have, for a while
	most    int                        // that may wait
	each    int                        // of one address
	waiting map[string][]chan struct{} // by address, the first first
	turns   []string                   // addresses of waiting, each once, the next first
	all     int                        // that wait
	passed  int                        // turns since a suspect that waited had one
}

func newFairQueue(places, most, each int, suspect func(address string) bool) *fairQueue {
	return &fairQueue{suspect: suspect, free: places, most: most, each: each, waiting: make(map[string][]chan struct{})}
}

// passedBy is how many others may go before a suspect that waits: many addresses that are new must not hold it up for ever.
const passedBy = 16

// errQueueFull tells that more wait than may.
var errQueueFull = errors.New("too many passwords are being checked")

// enter waits for a place; leave gives it back. Errors: errQueueFull at once, ctx.Err().
func (q *fairQueue) enter(ctx context.Context, address string) error {
	q.mu.Lock()
	suspect := q.suspect(address)
	switch {
	case q.free > 0:
		q.free--
		q.mu.Unlock()
		return nil
	case q.resting > 0 && !suspect:
		q.resting--
		q.mu.Unlock()
		return nil
	}
	own, most := q.waiting[address], q.most
	if suspect {
		most -= most / 4 // the rest is for others
	}
	if q.all >= most || len(own) >= q.each {
		q.mu.Unlock()
		return errQueueFull
	}
	turn := make(chan struct{})
	if len(own) == 0 {
		q.turns = append(q.turns, address)
	}
	q.waiting[address] = append(own, turn)
	q.all++
	q.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	if !q.remove(address, turn) { // its turn has just come
		q.leave()
	}
	return ctx.Err()
}

// remove takes one that waits out of the queue; false: it does not wait any more.
func (q *fairQueue) remove(address string, turn chan struct{}) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	own := q.waiting[address]
	for i, waits := range own {
		if waits == turn {
			q.all--
			if own = append(own[:i:i], own[i+1:]...); len(own) == 0 {
				// Else who comes and goes would have a turn for each time that he came.
				turn := slices.Index(q.turns, address)
				q.turns = slices.Delete(q.turns, turn, turn+1)
			}
			q.set(address, own)
			return true
		}
	}
	return false
}

// set is what waits of an address; mu is held.
func (q *fairQueue) set(address string, own []chan struct{}) {
	if len(own) == 0 {
		delete(q.waiting, address)
		return
	}
	q.waiting[address] = own
}

// leave gives a place to the next, or back.
func (q *fairQueue) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.leaveLocked()
}

// leaveAfter is leave for who was found to be suspect, after so long: for as long again the place is only for others, so that suspects
// together get half of what the places can do. After no time it is leave.
func (q *fairQueue) leaveAfter(took time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if took <= 0 || q.firstOther() >= 0 {
		q.leaveLocked()
		return
	}
	q.resting++
	time.AfterFunc(took, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.resting > 0 { // else another has the place, and leaves it
			q.resting--
			q.leaveLocked()
		}
	})
}

func (q *fairQueue) leaveLocked() {
	if len(q.turns) == 0 {
		q.free++
		return
	}
	q.admit(q.next())
}

// admit gives a place to who is next of an address, by its place in turns; mu is held.
func (q *fairQueue) admit(next int) {
	address := q.turns[next]
	q.turns = slices.Delete(q.turns, next, next+1)
	own := q.waiting[address]
	q.all--
	q.set(address, own[1:])
	if len(own) > 1 {
		q.turns = append(q.turns, address)
	}
	close(own[0])
}

// next is whose turn it is, by its place in turns, which is not empty; mu is held.
func (q *fairQueue) next() int {
	if first := q.firstOther(); first > 0 && q.passed < passedBy {
		q.passed++
		return first
	}
	q.passed = 0
	return 0
}

// firstOther is the first in turns that is not suspect; negative: there is none.
func (q *fairQueue) firstOther() int {
	return slices.IndexFunc(q.turns, func(address string) bool { return !q.suspect(address) })
}
