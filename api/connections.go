package api

import (
	"container/list"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// boundedListener accepts only so many connections at once, and knows which of them are busy, and which are strangers: of whom
// no request has been authenticated yet. When all places are taken, strangers give way to new connections, those of the address
// that has most of them first; then the connection that has been idle longest.
type boundedListener struct {
	net.Listener
	stall   time.Duration // see conn
	slots   chan struct{}
	each    int             // strangers of one address
	proxies func() *Proxies // whose connections are those of many clients
	logger  *slog.Logger
	once    sync.Once
	closed  chan struct{}
	fault   error // of closing; set by once

	mu        sync.Mutex                // held over a change of what follows
	all       map[net.Conn]*connection  // that are open
	strangers map[netip.Addr]*list.List // of *connection, the oldest first
	idle      list.List                 // of *connection: known ones that wait for the next request, the longest first
	waiting   bool                      // a connection waits for a place
	gaveWay   int                       // connections, since it was last logged
	told      time.Time
}

// connection is one that was accepted.
type connection struct {
	net.Conn
	address netip.Addr // invalid: of a proxy, or none
	known   bool
	state   http.ConnState
	since   time.Time // in that state
	opened  time.Time
	place   *list.Element // among the strangers of its address, or the idle; nil: in neither
}

// A new connection of an address with few strangers is left alone for firstAnswer: it may be about to show who it is.
const (
	firstAnswer  = 500 * time.Millisecond
	fewStrangers = 8
)

// strangersEach is how many strangers an address may have at least.
const strangersEach = 64

func newBoundedListener(l net.Listener, limits Limits, logger *slog.Logger, proxies func() *Proxies) *boundedListener {
	return &boundedListener{
		Listener: l, stall: limits.Stall, slots: make(chan struct{}, limits.Connections), each: max(strangersEach, limits.Connections/8), proxies: proxies, logger: logger,
		closed: make(chan struct{}), all: make(map[net.Conn]*connection), strangers: make(map[netip.Addr]*list.List),
	}
}

// Accept waits for a connection, and then for a free place.
func (l *boundedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.enter()
	if tcp, ok := conn.(*net.TCPConn); ok {
		// A peer that vanished is noticed in about two minutes; an error leaves the system's default.
		_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4})
	}
	return newConn(conn, l.stall), nil
}

// Close stops Accept. It may be called again.
func (l *boundedListener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.fault = l.Listener.Close()
	})
	return l.fault
}

// enter waits for a place. If the listener is closed meanwhile, the connection continues without one: it was accepted, so no other
// process would serve it.
func (l *boundedListener) enter() {
	select {
	case l.slots <- struct{}{}:
		return
	default:
	}
	for l.giveWay(); ; l.giveWay() {
		again := time.NewTimer(firstAnswer / 4)
		select {
		case l.slots <- struct{}{}:
		case <-l.closed:
		case <-again.C:
			continue
		}
		again.Stop()
		break
	}
	l.mu.Lock()
	l.waiting = false
	l.mu.Unlock()
}

// giveWay closes a connection for a new one: a stranger's, else the one that was idle longest, else the next one that becomes idle.
func (l *boundedListener) giveWay() {
	l.mu.Lock()
	victim := l.victim()
	l.waiting = victim == nil
	gone := 0
	if victim != nil {
		l.forget(victim)
		if l.gaveWay++; time.Since(l.told) >= time.Minute {
			gone, l.gaveWay, l.told = l.gaveWay, 0, time.Now()
		}
	}
	l.mu.Unlock()
	if victim == nil {
		return
	}
	hangUp(victim.Conn) // net/http notices, and state gives back its place
	if gone > 0 {
		l.logger.Info("all connections are in use; some gave way to new ones", "limit", cap(l.slots), "closed", gone)
	}
}

// victim is the connection that gives way next; nil: there is none yet. mu is held.
func (l *boundedListener) victim() *connection {
	var most *list.List
	now := time.Now()
	for _, strangers := range l.strangers {
		if strangers.Len() <= fewStrangers && now.Sub(oldest(strangers).opened) < firstAnswer {
			continue
		}
		if most == nil || strangers.Len() > most.Len() ||
			strangers.Len() == most.Len() && oldest(strangers).opened.Before(oldest(most).opened) {
			most = strangers
		}
	}
	switch {
	case most != nil:
		return oldest(most)
	case len(l.strangers) == 0 && l.idle.Len() > 0:
		return oldest(&l.idle)
	}
	return nil
}

func oldest(l *list.List) *connection { return l.Front().Value.(*connection) }

// hangUp closes a connection at once: to send the close_notify of TLS may take seconds.
func hangUp(conn net.Conn) {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	_ = conn.Close() // it is being given up
}

// forget takes a connection out of the list that it is in; mu is held.
func (l *boundedListener) forget(c *connection) {
	if c.place == nil {
		return
	}
	if c.known {
		l.idle.Remove(c.place)
	} else if strangers := l.strangers[c.address]; strangers != nil {
		if strangers.Remove(c.place); strangers.Len() == 0 {
			delete(l.strangers, c.address)
		}
	}
	c.place = nil
}

// opened notes a new connection, and returns the one of its address that must go for it, if that has too many strangers; mu is held.
func (l *boundedListener) opened(conn net.Conn) (tooMany *connection) {
	c := &connection{Conn: conn, opened: time.Now()}
	address := addressOf(conn.RemoteAddr().String())
	if !l.proxies().trusts(address) {
		c.address = address
	}
	l.all[conn] = c
	strangers := l.strangers[c.address]
	if strangers == nil {
		strangers = list.New()
		l.strangers[c.address] = strangers
	}
	c.place = strangers.PushBack(c)
	if c.address.IsValid() && strangers.Len() > l.each {
		tooMany = oldest(strangers)
		l.forget(tooMany)
	}
	return tooMany
}

// state records the state of a connection, and releases the place of one that ended.
func (l *boundedListener) state(conn net.Conn, state http.ConnState) {
	l.mu.Lock()
	var tooMany *connection
	if state == http.StateNew {
		tooMany = l.opened(conn)
	}
	c := l.all[conn]
	if c == nil { // given up by a stop
		c = &connection{Conn: conn}
	}
	c.state, c.since = state, time.Now()
	ended := state == http.StateClosed || state == http.StateHijacked
	if ended {
		delete(l.all, conn)
	}
	if ended || c.known {
		l.forget(c)
	}
	if c.known && state == http.StateIdle {
		c.place = l.idle.PushBack(c)
	}
	waiting := l.waiting && c.place != nil
	l.mu.Unlock()
	switch {
	case tooMany != nil:
		hangUp(tooMany.Conn)
	case ended:
		select {
		case <-l.slots:
		default: // it had none
		}
	case waiting:
		l.giveWay()
	}
}

// connectionOf is what requests know of their connection.
type connectionOf struct {
	l     *boundedListener
	conn  net.Conn
	known atomic.Bool

	// Of the goroutine that serves the requests.
	requests int64      // so far
	proven   provenName // of the client's certificate; zero: nothing yet
}

func (l *boundedListener) context(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey, &connectionOf{l: l, conn: conn})
}

// isKnown notes that a request of the connection was authenticated.
func (c *connectionOf) isKnown() {
	if c.known.Swap(true) {
		return
	}
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	if known := c.l.all[c.conn]; known != nil {
		c.l.forget(known)
		known.known = true
	}
}
