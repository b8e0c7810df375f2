package api

import (
	"container/list"
	"fmt"
	"net/http"
	"sync"
	"time"

	"packhouse/repo/datadir"
)

// Activity records the requests of a client to a repository, as far as the server has seen them. It helps an administrator to
// judge whether the owner of a lock is still running. Requests to the administration API do not count.
type Activity struct {
	Running bool      // a request is being answered now
	Request time.Time // when the last one ended; zero: none did since Since
	Change  time.Time // when the last one that was not only read succeeded; zero: none did since Since
	Since   time.Time // what was before is not known
	Started bool      // Since is the start of the server
}

// Silence describes in one line how long ago, at the given time, the client sent its last request.
func (a Activity) Silence(now time.Time) string {
	unknown := "for " + briefly(now.Sub(a.Since)) + " or longer"
	if a.Started {
		unknown = "since the server started, " + briefly(now.Sub(a.Since)) + " ago"
	}
	ago := func(at time.Time) string {
		if at.IsZero() {
			return unknown
		}
		return "for " + briefly(now.Sub(at))
	}
	text := "no request " + ago(a.Request)
	if a.Running {
		text = "a request is being answered"
	}
	// A client that was kept out by the lock reads as well, from the same machine with the same token.
	if a.Running || !a.Request.IsZero() && ago(a.Change) != ago(a.Request) {
		text += "; nothing stored or removed " + ago(a.Change)
	}
	return text
}

// briefly formats a duration in words.
func briefly(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", max(d, 0)/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

// client identifies the sender of requests, as far as the server can tell: clients on one machine with one token are the same.
type client struct{ repository, principal, address string }

// maxClients is how many clients are remembered, in addition to those with running requests.
const maxClients = 4096

// clients remembers the last requests of each client. It is safe for concurrent use.
type clients struct {
	mu        sync.Mutex // held for a look or a change
	of        map[client]*list.Element
	order     *list.List // of *clientSeen; the longest silent first
	since     time.Time  // what was before is forgotten
	forgotten bool       // a client was: since is later than the start
}

// clientSeen is what is remembered of one client.
type clientSeen struct {
	client
	running         int
	request, change time.Time
}

func newClients(started time.Time) *clients {
	return &clients{of: make(map[client]*list.Element), order: list.New(), since: started}
}

// begin takes note of a request; end must follow.
func (c *clients) begin(who client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.of[who]
	if !ok {
		element = c.order.PushBack(&clientSeen{client: who})
		c.of[who] = element
	}
	c.order.MoveToBack(element)
	element.Value.(*clientSeen).running++
	var next *list.Element
	for first := c.order.Front(); first != nil && len(c.of) > maxClients; first = next {
		next = first.Next()
		seen := first.Value.(*clientSeen)
		if seen.running > 0 {
			continue // of which there are at most Limits.Requests
		}
		c.order.Remove(first)
		delete(c.of, seen.client)
		if seen.request.After(c.since) {
			c.since, c.forgotten = seen.request, true
		}
	}
}

// end takes note of a request's end; changed: it succeeded and was not only read.
func (c *clients) end(who client, now time.Time, changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element := c.of[who] // not forgotten while running
	c.order.MoveToBack(element)
	seen := element.Value.(*clientSeen)
	seen.running--
	seen.request = now
	if changed {
		seen.change = now
	}
}

// activity is that of a client; an empty address: of all who are the principal.
func (c *clients) activity(who client) Activity {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := Activity{Since: c.since, Started: !c.forgotten}
	add := func(seen *clientSeen) {
		a.Running = a.Running || seen.running > 0
		a.Request, a.Change = later(a.Request, seen.request), later(a.Change, seen.change)
	}
	if who.address != "" {
		if element, ok := c.of[who]; ok {
			add(element.Value.(*clientSeen))
		}
		return a
	}
	for key, element := range c.of {
		if key.repository == who.repository && key.principal == who.principal {
			add(element.Value.(*clientSeen))
		}
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// Activity returns what the server has recorded of a principal in a repository ("" if there is only one), from one address, or
// from any address if it is empty.
func (s *Server) Activity(repository, principal, address string) Activity {
	return s.clients.activity(client{repository, principal, address})
}

// watch takes note of an authenticated request to a repository, until ended.
func (s *Server) watch(r *http.Request, x *requestState) (ended func()) {
	if x.name != "" && datadir.CheckName(x.name) != nil {
		return func() {} // there is none of this name
	}
	who := client{x.name, x.principal.Name, x.principal.Address}
	s.clients.begin(who)
	return func() {
		s.clients.end(who, s.o.Now(), !readOnly(r) && !x.log.Reads && x.out.status < 400)
	}
}
