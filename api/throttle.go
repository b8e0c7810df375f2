package api

import (
	"container/list"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// An address may fail failBurst times at once and then once per failPause.
const (
	failBurst = 10
	failPause = 2 * time.Second
)

// remembered is how many addresses or passwords are kept; the one that was unused longest is removed first.
const remembered = 4096

// throttle counts failed attempts per address, in bounded memory.
type throttle struct {
	now func() time.Time
	mu  sync.Mutex // held for one look-up
	lru lru[*rate.Limiter]
}

func newThrottle(now func() time.Time) *throttle {
	return &throttle{now: now, lru: newLRU[*rate.Limiter]()}
}

// allow uses one of the address's attempts.
func (t *throttle) allow(address string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	limiter, ok := t.lru.get(address)
	if !ok {
		limiter = rate.NewLimiter(rate.Every(failPause), failBurst)
		t.lru.put(address, limiter)
	}
	return limiter.AllowN(t.now(), 1)
}

// forgive deletes the failures of an address that has sent a correct secret.
func (t *throttle) forgive(address string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lru.remove(address)
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

// clientAddress returns the address of a request's client: the peer, or the address named by a proxy on this machine. For IPv6 it is the
// network of 64 bits, because a client that has one address in it has them all.
func clientAddress(r *http.Request) string {
	address := peerAddress(r)
	if mayBeProxy(address) {
		forwarded := r.Header.Values("X-Forwarded-For")
		if len(forwarded) > 0 {
			all := strings.Split(forwarded[len(forwarded)-1], ",")
			if named, err := netip.ParseAddr(strings.TrimSpace(all[len(all)-1])); err == nil {
				address = named
			}
		}
	}
	// One spelling: a zone may be any text, and an address of IPv4 may be written as one of IPv6.
	address = address.Unmap().WithZone("")
	switch {
	case !address.IsValid():
		return "local" // a Unix socket without a proxy that names anyone
	case address.Is6():
		if network, err := address.Prefix(64); err == nil {
			return network.Addr().String() + "/64"
		}
	}
	return address.String()
}

// peerAddress is the other end of a request's connection; invalid: it has no address.
func peerAddress(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	address, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return address
}

// mayBeProxy reports whether a peer is on this machine; then the address that it names is used.
func mayBeProxy(peer netip.Addr) bool { return !peer.IsValid() || peer.IsLoopback() }
