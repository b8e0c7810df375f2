package api

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/bcrypt"

	"packhouse/internal/logwriter"
	"packhouse/repo"
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
func NewFairQueue(places, most, each int, suspects ...string) *FairQueue {
	return newFairQueue(places, most, each, func(address string) bool { return slices.Contains(suspects, address) })
}

// Enter and Leave are enter and leave.
func (q *FairQueue) Enter(ctx context.Context, address string) error { return q.enter(ctx, address) }
func (q *FairQueue) LeaveAfter(took time.Duration)                   { q.leaveAfter(took) }
func (q *FairQueue) Leave()                                          { q.leave() }

// Waiting is how many wait.
func (q *FairQueue) Waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.all
}

// Slots are those for requests.
type Slots struct{ s *slots }

// NewSlots makes n of them.
func NewSlots(n int) *Slots { return &Slots{newSlots(n)} }

// Enter takes one.
func (s *Slots) Enter(ctx context.Context, principal, repository string, large bool, wait time.Duration) error {
	return s.s.enter(ctx, claimsOf(principal, repository), large, wait)
}

// Leave gives one back.
func (s *Slots) Leave(principal, repository string) { s.s.leave(claimsOf(principal, repository)) }

// Free is how many nobody has.
func (s *Slots) Free() int {
	s.s.mu.Lock()
	defer s.s.mu.Unlock()
	return s.s.free
}

// Owners is how many hold one, or have it counted.
func (s *Slots) Owners() int {
	s.s.mu.Lock()
	defer s.s.mu.Unlock()
	return len(s.s.held)
}

// NamelessURL is the URL of Nameless for a request that came to a server.
func NamelessURL(r *http.Request) (string, error) {
	p, err := ParseProxies(DefaultProxies)
	x := new(requestState)
	x.address, x.secure = p.client(r)
	return Nameless(r.WithContext(context.WithValue(context.Background(), stateKey, x))).URL, err
}

// MaxLines is how many lines of the request log may wait.
const MaxLines = maxLines

// NewLogQueue is the queue of the request log by itself.
func NewLogQueue(handler slog.Handler) *logwriter.Queue[slog.Record] { return newLogQueue(handler) }

// Follow follows the heads in what is read in pieces, and tells which request is the last on the connection; 0: none.
func Follow(pieces ...[]byte) (last int64) {
	var f framing
	for _, p := range pieces {
		f.see(p)
	}
	return f.last.Load()
}

// Suspect tells whether tries from an address wait for others.
func (a *Auth) Suspect(address string) bool { return a.throttle.suspect(address) }

// CountComparisons counts those with bcrypt hashes from now on. No request may be under way.
func (a *Auth) CountComparisons() *atomic.Int64 {
	n, compare := new(atomic.Int64), a.hashes.compare
	a.hashes.compare = func(hash, password []byte) error { n.Add(1); return compare(hash, password) }
	return n
}

// ParsePasswords reads the text of a password file.
func ParsePasswords(text []byte) (users []User, remarks []string) {
	known := parsePasswords(text)
	return known.users, known.remarks
}

// Hashes are users by their names, with their hashes.
type Hashes struct{ h hashedUsers }

// NewHashes makes some that have these hashes. It panics on one that cannot be used.
func NewHashes(users map[string]string) *Hashes {
	h := newHashedUsers()
	for name, hash := range users {
		if err := h.add(nameSum{name[0]}, hash, repo.Principal{}); err != nil {
			panic(err)
		}
	}
	return &Hashes{h}
}

// CostOfWrong is how many rounds of bcrypt a wrong password of a user takes.
func (h *Hashes) CostOfWrong(user string) (rounds int) {
	h.h.compare = func(hash, _ []byte) error {
		cost, err := bcrypt.Cost(hash)
		if err != nil {
			panic(err)
		}
		rounds += 1 << cost
		return bcrypt.ErrMismatchedHashAndPassword
	}
	h.h.match(nameSum{user[0]}, "wrong")
	return rounds
}
