package api

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"
)

// slots bounds how many requests are answered at once, and shares them: what a principal may hold, in one repository and in
// all, goes by how many slots are free. With n that want all there are, each gets a (n+1)th part, and as much stays free for
// the next who comes. So a single client has half of them, and nobody waits for it. It is safe for concurrent use.
//
// The rule is that of dynamic thresholds for shared buffers (Choudhury and Hahne, 1998).
type slots struct {
	mu      sync.Mutex // held for a few steps
	all     int
	free    int
	held    map[slotOwner]int // of those that hold any
	waiting list.List         // of *slotWaiter, the first first
}

// slotOwner is who holds slots: a principal in a repository, or in all (empty).
type slotOwner struct{ principal, repository string }

// slotClaims are those under which a request counts, with how many slots each may hold for each one that is free.
type slotClaims [2]slotClaim

// claimsOf are the claims of a request. A principal may have many repositories, and then three quarters of the slots.
func claimsOf(principal, repository string) slotClaims {
	return slotClaims{{slotOwner{principal, "/" + repository}, 1}, {slotOwner{principal, ""}, 3}}
}

type slotClaim struct {
	owner  slotOwner
	weight int
}

type slotWaiter struct {
	claims slotClaims
	large  bool
	turn   chan struct{}
}

func newSlots(n int) *slots { return &slots{all: n, free: n, held: make(map[slotOwner]int)} }

// errNoSlot tells that no slot came free in time.
var errNoSlot = errors.New("too many requests at once")

// enter takes a slot, and waits for it for a limited time. large is for a request with a large body, or one of unknown length:
// an eighth of the slots is left for the others. leave gives the slot back.
func (s *slots) enter(ctx context.Context, claims slotClaims, large bool, wait time.Duration) error {
	w := &slotWaiter{claims: claims, large: large}
	s.mu.Lock()
	if s.admits(w) {
		s.take(w)
		s.mu.Unlock()
		return nil
	}
	w.turn = make(chan struct{})
	place := s.waiting.PushBack(w)
	s.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	var err error
	select {
	case <-w.turn:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
		err = errNoSlot
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-w.turn: // just now
		return nil
	default:
	}
	s.waiting.Remove(place)
	return err
}

// admits tells whether a request may have one of the free slots; mu is held.
func (s *slots) admits(w *slotWaiter) bool {
	if s.free <= 0 || w.large && s.free <= s.all/8 {
		return false
	}
	for _, c := range w.claims {
		if s.held[c.owner] >= c.weight*s.free {
			return false
		}
	}
	return true
}

func (s *slots) take(w *slotWaiter) {
	s.free--
	for _, c := range w.claims {
		s.held[c.owner]++
	}
}

// leave gives a slot back, and lets in those that may come now.
func (s *slots) leave(claims slotClaims) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free++
	for _, c := range claims {
		if s.held[c.owner]--; s.held[c.owner] == 0 {
			delete(s.held, c.owner)
		}
	}
	for place := s.waiting.Front(); place != nil && s.free > 0; {
		next := place.Next()
		if w := place.Value.(*slotWaiter); s.admits(w) {
			s.take(w)
			s.waiting.Remove(place)
			close(w.turn)
		}
		place = next
	}
}
