package bench

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"packhouse/repo/digest"
)

// honestParts are the requests of honest clients, in hundredths: small puts and gets, a listing of a directory, a lock that is taken,
// listed with the others and released, and a get on a new connection. First logins are made beside.
var honestParts = []struct {
	name string
	part int
}{{"put", 30}, {"get", 40}, {"list", 10}, {"lock", 10}, {"connect", 10}}

// firstLogin is the operation of a user whose password the server has not seen yet.
const firstLogin = "login"

// Sizes of what honest clients do.
const (
	honestSize  = 8 << 10
	honestItems = 256         // that are read
	loginEvery  = time.Second // a new user
)

// honest are the honest clients of a fairness run.
type honest struct {
	addr     string
	each     time.Duration // from one request of a connection to its next
	sides    []*honestSide // one for each protocol
	logins   atomic.Int64  // first logins so far: each is of another user
	mostName int           // users for them
}

// honestSide are the clients of one protocol.
type honestSide struct {
	client    *Client // of all its connections
	driver    Driver
	fresh     Driver // makes a new connection for each request
	vger      bool
	algorithm digest.Algorithm
	read      []string
	series    series
	number    atomic.Uint64 // of the last item that was put
}

// newHonestSide makes a repository and what is read of it.
func newHonestSide(ctx context.Context, s *Store, server *Server, of series, connections int) (*honestSide, error) {
	h := &honestSide{vger: server.Info.Dialect == "vger", series: of}
	var err error
	if h.algorithm, err = digest.Lookup(server.Hash); err != nil {
		return nil, err
	}
	connect := func(keep bool) (*Client, Driver) {
		c := NewClient("http://"+s.addr+server.Path, server.Header.Clone(), connections, nil)
		c.http.Transport.(*http.Transport).DisableKeepAlives = !keep
		return c, server.Driver(c)
	}
	h.client, h.driver = connect(true)
	_, h.fresh = connect(false)
	if err := h.driver.Create(ctx); err != nil {
		return nil, err
	}
	body := newBody(honestSize)
	for i := range honestItems {
		name := nameOf(h.algorithm, body, uint64(getSeries)+uint64(i))
		if err := h.driver.Put(ctx, name, body); err != nil {
			return nil, err
		}
		h.read = append(h.read, name)
	}
	return h, nil
}

// run lets the clients work for some time, and returns what they saw: an operation for each of honestParts, and the first logins.
func (h *honest) run(ctx context.Context, connections int, during time.Duration, seed uint64) []Operation {
	ctx, cancel := context.WithTimeout(ctx, during+honestPatience)
	defer cancel()
	end := time.Now().Add(during)
	workers := make([]honestWorker, connections)
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			workers[w] = honestWorker{side: h.sides[w%len(h.sides)], body: newBody(honestSize), number: w}
			workers[w].run(ctx, end, h.each, rand.New(rand.NewPCG(seed, uint64(w))))
		})
	}
	logins := Operation{Name: firstLogin}
	group.Go(func() { h.logIn(ctx, end, &logins) })
	group.Wait()
	all := make([]Operation, 0, len(honestParts)+1)
	for i, p := range honestParts {
		var parts []Operation
		for _, w := range workers {
			parts = append(parts, w.operations[i])
		}
		all = append(all, merge(p.name, parts))
	}
	return append(all, logins)
}

// honestPatience is how long a request may take that began before the end of a phase; one that takes longer has failed.
const honestPatience = time.Minute

type honestWorker struct {
	side       *honestSide
	operations [5]Operation // as honestParts
	body       []byte
	number     int
}

// run sends a request each so often. One that begins late because the request before it took so long is counted from when it should
// have begun: who waits for a server waits with all that he wants of it.
func (w *honestWorker) run(ctx context.Context, end time.Time, each time.Duration, random *rand.Rand) {
	due := time.Now().Add(time.Duration(random.Int64N(int64(each))))
	for idle := true; due.Before(end); {
		if wait := time.Until(due); wait > 0 {
			time.Sleep(wait)
			idle = true
		}
		begin := due
		if idle { // what a timer is late by is nobody's wait
			begin = time.Now()
		}
		i, n := 0, random.IntN(100)
		for n >= honestParts[i].part {
			n -= honestParts[i].part
			i++
		}
		err := w.send(ctx, honestParts[i].name, random)
		w.operations[i].add(time.Since(begin), done{items: 1}, err)
		if ctx.Err() != nil {
			return
		}
		due, idle = due.Add(each), false
	}
}

func (w *honestWorker) send(ctx context.Context, what string, random *rand.Rand) error {
	s := w.side
	name := s.read[random.IntN(len(s.read))]
	switch what {
	case "put":
		return s.driver.Put(ctx, nameOf(s.algorithm, w.body, uint64(s.series)+s.number.Add(1)), w.body)
	case "get":
		return whole(s.driver.Get(ctx, name, 0, 0, nil))
	case "list":
		_, err := s.driver.ListPart(ctx, name[:2])
		return err
	case "lock":
		return w.lock(ctx)
	default:
		return whole(s.fresh.Get(ctx, name, 0, 0, nil))
	}
}

// whole says of a get that it must have come whole.
func whole(n int64, err error) error {
	if err == nil && n != honestSize {
		err = fmt.Errorf("got %d bytes, want %d", n, honestSize)
	}
	return err
}

// lock does what clients do with a lock: three requests.
func (w *honestWorker) lock(ctx context.Context) error {
	s := w.side
	body := fmt.Appendf(nil, `{"hostname":"bench-%d"}`, w.number)
	put, list, target := http.MethodPost, "/locks/", fmt.Sprintf("/locks/%x", sha256.Sum256(body))
	if s.vger {
		put, list, target = http.MethodPut, "/locks?list", fmt.Sprintf("/locks/%020d-%032x.json", time.Now().UnixMicro(), w.number)
	}
	for _, r := range []request{
		{method: put, target: target, body: body},
		{method: http.MethodGet, target: list},
		{method: http.MethodDelete, target: target},
	} {
		if _, err := s.client.do(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// logIn lets one user after the other log in for the first time.
func (h *honest) logIn(ctx context.Context, end time.Time, o *Operation) {
	for due := time.Now().Add(loginEvery / 2); due.Before(end); due = due.Add(loginEvery) {
		time.Sleep(time.Until(due))
		begin := due
		n := int(h.logins.Add(1))
		if n > h.mostName || ctx.Err() != nil {
			return
		}
		c := NewClient("http://"+h.addr+"/"+repository, http.Header{"Authorization": {basicOf(guestName(n), guestWord)}}, 1, nil)
		s := h.sides[0]
		_, err := NewBorgStore(c).Get(ctx, s.read[n%len(s.read)], 0, 0, nil)
		c.Close()
		o.add(time.Since(begin), done{items: 1}, err)
	}
}

// The users that log in for the first time.
const guestWord = "a password of all guests"

func guestName(n int) string { return fmt.Sprintf("guest%d", n) }

// close closes the connections.
func (h *honest) close() {
	for _, s := range h.sides {
		s.client.Close()
	}
}

// operationNames are those of a fairness run, in the order of a table.
func operationNames() []string {
	var names []string
	for _, p := range honestParts {
		names = append(names, p.name)
	}
	return slices.Concat(names, []string{firstLogin})
}
