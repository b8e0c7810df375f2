package api

import (
	"container/list"
	"crypto/sha256"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A name may fail failBurst times at once from an address, and then once per failPause.
const (
	failBurst = 10
	failPause = 2 * time.Second
)

// remembered is how many addresses or passwords are kept; the one that was unused longest is removed first.
const remembered = 4096

// Bounds of what is kept of one address.
const (
	failingNames = 16 // that have not been right yet; further ones share their attempts
	rightNames   = 64
)

// throttle counts failed attempts per address and name, in bounded memory: who fails with one name does not cost those who are right with
// another their attempts.
type throttle struct {
	now func() time.Time
	mu  sync.Mutex // held for one look-up
	lru lru[*attempts]
}

// attempts are those of one address.
type attempts struct {
	names  map[nameSum]*nameAttempts
	right  int           // of names, that have been right
	others *rate.Limiter // of names beyond failingNames
	tokens *rate.Limiter // at tokens that can be guessed, which are right with any name
	failed time.Time     // when a secret was last wrong; zero: none was
}

type nameAttempts struct {
	limiter *rate.Limiter
	right   bool
}

// nameSum is a keyed sum of a name.
type nameSum = [sha256.Size]byte

func newThrottle(now func() time.Time) *throttle {
	return &throttle{now: now, lru: newLRU[*attempts]()}
}

func newLimiter() *rate.Limiter { return rate.NewLimiter(rate.Every(failPause), failBurst) }

// of returns the attempts of an address.
func (t *throttle) of(address string) *attempts {
	a, ok := t.lru.get(address)
	if !ok {
		a = &attempts{names: make(map[nameSum]*nameAttempts), others: newLimiter(), tokens: newLimiter()}
		t.lru.put(address, a)
	}
	return a
}

// allow uses one of the attempts that a name has from an address.
func (t *throttle) allow(address string, name nameSum) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.of(address)
	n := a.names[name]
	switch {
	case n != nil:
	case len(a.names)-a.right < failingNames:
		n = &nameAttempts{limiter: newLimiter()}
		a.names[name] = n
	default:
		n = &nameAttempts{limiter: a.others}
	}
	return n.limiter.AllowN(t.now(), 1)
}

// allowToken uses one of the attempts that an address has at tokens.
func (t *throttle) allowToken(address string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.of(address).tokens.AllowN(t.now(), 1)
}

// forgive deletes the failures of a name from an address that has sent a correct secret.
func (t *throttle) forgive(address string, name nameSum, token bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.of(address)
	if token {
		a.tokens = newLimiter()
	}
	n := a.names[name]
	if n == nil { // one of the others
		a.others = newLimiter()
	} else if n.right {
		a.right--
	}
	delete(a.names, name)
	if a.right < rightNames {
		a.names[name] = &nameAttempts{limiter: newLimiter(), right: true}
		a.right++
	}
}

// wrong notes that a secret from an address was wrong.
func (t *throttle) wrong(address string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of(address).failed = t.now()
}

// suspectFor is how long an address is suspect after a secret was wrong.
const suspectFor = 10 * time.Minute

// suspect tells whether a secret from an address was wrong a short time ago.
func (t *throttle) suspect(address string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, ok := t.lru.get(address)
	return ok && !a.failed.IsZero() && t.now().Sub(a.failed).Abs() < suspectFor
}

// expiringSet is a bounded set whose members expire.
type expiringSet struct {
	now func() time.Time
	mu  sync.Mutex // held for one look-up
	lru lru[time.Time]
}

// verifiedFor is how long a password is accepted without comparing it with its slow hash again.
const verifiedFor = 10 * time.Minute

func newExpiringSet(now func() time.Time) *expiringSet {
	return &expiringSet{now: now, lru: newLRU[time.Time]()}
}

func (m *expiringSet) add(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lru.put(key, m.now().Add(verifiedFor))
}

func (m *expiringSet) has(key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	until, ok := m.lru.get(key)
	return ok && m.now().Before(until)
}

// lru maps at most `remembered` strings. Not safe for concurrent use.
type lru[V any] struct {
	order *list.List // of lruEntry[V], the latest used first
	byKey map[string]*list.Element
}

type lruEntry[V any] struct {
	key   string
	value V
}

func newLRU[V any]() lru[V] {
	return lru[V]{order: list.New(), byKey: make(map[string]*list.Element)}
}

func (l lru[V]) get(key string) (value V, ok bool) {
	element, ok := l.byKey[key]
	if !ok {
		return value, false
	}
	l.order.MoveToFront(element)
	return element.Value.(lruEntry[V]).value, true
}

func (l lru[V]) put(key string, value V) {
	l.remove(key)
	l.byKey[key] = l.order.PushFront(lruEntry[V]{key, value})
	if l.order.Len() > remembered {
		l.remove(l.order.Back().Value.(lruEntry[V]).key)
	}
}

func (l lru[V]) remove(key string) {
	if element, ok := l.byKey[key]; ok {
		l.order.Remove(element)
		delete(l.byKey, key)
	}
}
