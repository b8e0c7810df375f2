package vykartest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"packhouse/api"
	"packhouse/api/vger"
	"packhouse/api/vger/vykartest"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/compact"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// machine is a server in this process, which requests reach without a network. It can be killed at any call of its
// file system or commit of its index, and started again on what is left.
type machine struct {
	t   testing.TB
	dir string
	now *clock

	// Of the next start; the first three also at once, by configure.
	quota, reserve int64
	grace          time.Duration
	disk           *disk

	careless bool // the sources of each plan are deleted at once, as the reference does

	engine *compact.Engine
	set    *datadir.Set
	server *api.Server
	power  *power
	starts int
}

const repositoryName = "vault"

// clock is a time that passes by request and when a test says so.
type clock struct{ ns atomic.Int64 }

func (c *clock) Now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

func newMachine(t testing.TB, dir string) *machine {
	m := &machine{t: t, dir: dir, now: new(clock), quota: -1, disk: newDisk(dir)}
	m.now.ns.Store(time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC).UnixNano())
	return m
}

func (m *machine) settings(string) repo.Settings {
	return repo.Settings{Quota: m.quota, Grace: m.grace, Reserve: m.reserve}
}

// configure lets changed settings hold.
func (m *machine) configure() { m.set.Reconfigure() }

// start opens the data directory.
func (m *machine) start() {
	m.t.Helper()
	m.power = &power{}
	m.starts++
	failing := vfstest.NewFailing(m.disk)
	m.power.fs = failing
	auth, err := api.NewAuth(api.AuthOptions{Now: m.now.Now, Tokens: []api.Token{{Name: "alpha", Secret: secret("alpha")}, {Name: "beta", Secret: secret("beta")}}})
	if err != nil {
		m.t.Fatal(err)
	}
	m.engine = compact.New(compact.Options{Workers: 1, TempDir: m.dir, Now: m.now.Now})
	m.set = datadir.Open(datadir.Options{
		Dir: filepath.Join(m.dir, "data"), Settings: m.settings,
		Environment: repo.Environment{FS: failing, Now: m.now.Now, Index: index.Options{BeforeCommit: m.power.before, AfterCommit: m.power.after}},
	})
	m.server, err = api.New(api.Options{
		Set: m.set, Auth: auth, Version: "test", Now: m.now.Now,
		Dialects: []api.Dialect{vger.New(vger.Options{Engine: m.engine, KeepAlive: time.Hour})},
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

// secret is the token of a principal.
func secret(name string) string { return strings.Repeat(name, 8) }

// stop ends the server in order.
func (m *machine) stop() {
	m.t.Helper()
	if err := errors.Join(m.engine.Close(), m.set.Close()); err != nil && !m.power.gone() {
		m.t.Errorf("stop: %v", err)
	}
}

// kill lets nothing more take effect, as kill -9 does, and starts the server again. When the power fails, what was
// not synced is gone, too.
func (m *machine) kill(power bool) {
	m.t.Helper()
	m.power.cut()
	m.stop()
	if power {
		m.disk.crash()
	}
	m.start()
}

// repository is the one of all requests; nil: there is none yet.
func (m *machine) repository() *repo.Repository {
	m.t.Helper()
	r, err := m.set.Get(context.Background(), repositoryName)
	if errors.Is(err, repo.ErrNoRepository) {
		return nil
	}
	if err != nil {
		m.t.Fatalf("open the repository: %v", err)
	}
	return r
}

// deleteSources is what the reference does with the sources of a plan.
func (m *machine) deleteSources(plan, answer []byte) {
	m.t.Helper()
	var asked struct {
		Operations []struct {
			Source string `json:"source_pack"`
		}
	}
	var done struct {
		Completed []struct {
			New string `json:"new_pack"`
		}
	}
	if err := errors.Join(json.Unmarshal(plan, &asked), json.Unmarshal(answer, &done)); err != nil {
		m.t.Fatal(err)
	}
	made := make(map[string]bool)
	for _, o := range done.Completed {
		made[o.New] = true
	}
	for _, o := range asked.Operations {
		if made[o.Source] {
			continue
		}
		if err := m.repository().As(repo.Principal{}).Delete(context.Background(), o.Source); err != nil && !errors.Is(err, repo.ErrNotFound) {
			m.t.Fatal(err)
		}
	}
}

// power ends a process at a call of the file system, or at a commit of the index.
type power struct {
	fs *vfstest.Failing

	mu      sync.Mutex
	off     bool
	commits int // until the one at which it ends; 0: none
	when    vfstest.When
}

var errPower = errors.New("the process was killed")

func (p *power) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.off = true
	p.fs.StopAt(1, vfstest.Before, syscall.EIO)
}

// cutAtCall ends it at the n-th call of the file system from now.
func (p *power) cutAtCall(n int, when vfstest.When) { p.fs.StopAt(n, when, syscall.EIO) }

// cutAtCommit ends it at the n-th commit from now.
func (p *power) cutAtCommit(n int, when vfstest.When) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.commits, p.when = n, when
}

// gone tells whether it has ended.
func (p *power) gone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.goneLocked()
}

func (p *power) goneLocked() bool {
	p.off = p.off || p.fs.Hit()
	return p.off
}

// disarm lets it run on if it has not ended.
func (p *power) disarm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.goneLocked() {
		p.commits = 0
		p.fs.Reset()
	}
}

func (p *power) before() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.commits == 1 && p.when == vfstest.Before {
		p.endLocked()
	}
	if p.goneLocked() {
		return errPower
	}
	return nil
}

func (p *power) after() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.commits > 0 {
		if p.commits--; p.commits == 0 && !p.off {
			p.endLocked()
		}
	}
	if p.off {
		return errPower
	}
	return nil
}

func (p *power) endLocked() {
	p.off, p.commits = true, 0
	p.fs.StopAt(1, vfstest.Before, syscall.EIO)
}

// link carries the requests of one machine to the server. It behaves like a connection of net/http: what a handler
// writes is buffered, and an error shows when the buffer is full or flushed.
type link struct {
	m       *machine
	address string
	// before is called before each request, which may be that of another client meanwhile. nil: nothing.
	before func(n int, r *http.Request)
	// choose tells how the n-th request fails, and how the server. nil: nothing fails.
	choose func(n int, r *http.Request) (vykartest.Cut, outage)
	// seen is called when the server is done with a request, with the status of its answer.
	seen func(r *http.Request, status int)

	n    int
	dead bool
}

// outage is how the server dies while it answers a request.
type outage struct {
	at    outageAt
	n     int
	when  vfstest.When
	power bool // not the process dies, but the machine
}

type outageAt int

const (
	stays      outageAt = iota
	diesBefore          // before the request reaches it
	diesAtCall          // at the n-th call of the file system
	diesCommit          // at the n-th commit of the index
	diesAfter           // when it has done all, before the answer is sent
	diesSilent          // when the answer has arrived
)

// reborn lets a new process of the client use the link of its machine.
func (l *link) reborn() { l.dead = false }

func (l *link) RoundTrip(r *http.Request) (*http.Response, error) {
	if l.dead {
		return nil, vykartest.ErrKilled
	}
	l.n++
	l.m.now.advance(time.Millisecond)
	if l.before != nil {
		l.before(l.n, r)
	}
	cut, out := vykartest.Whole, outage{}
	if l.choose != nil {
		cut, out = l.choose(l.n, r)
	}
	switch cut {
	case vykartest.KilledBefore:
		l.dead = true
		return nil, vykartest.ErrKilled
	case vykartest.Refused, vykartest.Before:
		return nil, vykartest.Reset(r, cut)
	}
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body.Close()
	}
	if cut == vykartest.Midway && len(body) == 0 {
		return nil, vykartest.Reset(r, cut)
	}
	if out.at == diesBefore {
		l.m.kill(out.power)
		return nil, l.lost(r, cut)
	}
	return l.exchange(r, body, cut, out)
}

// exchange lets the server answer.
func (l *link) exchange(r *http.Request, body []byte, cut vykartest.Cut, out outage) (*http.Response, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := &connection{header: make(http.Header), cancel: cancel, cut: cut}
	switch cut {
	case vykartest.Midway:
		c.body = io.MultiReader(bytes.NewReader(body[:len(body)/2]), endless{func() { cancel() }, io.ErrUnexpectedEOF})
	case vykartest.Unanswered:
		c.body = io.MultiReader(bytes.NewReader(body), endless{func() { cancel() }, io.EOF})
		if len(body) == 0 {
			cancel()
		}
	default:
		c.body = bytes.NewReader(body)
	}
	switch out.at {
	case diesAtCall:
		l.m.power.cutAtCall(out.n, out.when)
	case diesCommit:
		l.m.power.cutAtCommit(out.n, out.when)
	}
	q := r.Clone(ctx)
	q.RequestURI, q.RemoteAddr, q.Proto, q.ProtoMajor, q.ProtoMinor = r.URL.RequestURI(), l.address+":4711", "HTTP/1.1", 1, 1
	q.Body = io.NopCloser(c.body)
	q.ContentLength = int64(len(body))
	if len(body) == 0 {
		q.Body = http.NoBody
	}
	aborted := c.serve(l.m.server, q)
	if l.m.careless && r.URL.RawQuery == "repack" && c.status == http.StatusOK {
		l.m.deleteSources(body, append(c.sent, c.buffered...))
	}
	if l.seen != nil {
		l.seen(r, c.status)
	}
	died := l.m.power.gone()
	l.m.power.disarm()
	if out.at == diesAfter || died {
		l.m.kill(out.power)
		return nil, l.lost(r, cut)
	}
	if !aborted {
		c.finish()
	}
	if out.at == diesSilent {
		defer l.m.kill(out.power)
	}
	return l.deliver(r, c, aborted, cut)
}

// lost is the error of a client whose server died, unless it died with it.
func (l *link) lost(r *http.Request, cut vykartest.Cut) error {
	if cut == vykartest.KilledAfter {
		l.dead = true
		return vykartest.ErrKilled
	}
	return vykartest.Reset(r, vykartest.Late)
}

// deliver is what arrives of the answer at the client.
func (l *link) deliver(r *http.Request, c *connection, aborted bool, cut vykartest.Cut) (*http.Response, error) {
	switch cut {
	case vykartest.KilledAfter:
		l.dead = true
		return nil, vykartest.ErrKilled
	case vykartest.Swallowed:
		if aborted {
			return nil, vykartest.Reset(r, cut)
		}
		return vykartest.BadGateway(r), nil
	case vykartest.Whole, vykartest.Short:
	default:
		return nil, vykartest.Reset(r, cut)
	}
	sent := c.sent
	if cut == vykartest.Short {
		if len(sent) == 0 {
			return nil, vykartest.Reset(r, cut)
		}
		sent = sent[:len(sent)/2]
	}
	if aborted && len(c.sent) == 0 {
		return nil, vykartest.Reset(r, vykartest.Late)
	}
	response := &http.Response{
		StatusCode: c.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: c.header, Request: r,
		ContentLength: -1, Body: io.NopCloser(bytes.NewReader(sent)),
	}
	if length := c.header.Get("Content-Length"); length != "" {
		response.ContentLength = atoi(length)
	} else if r.Method != http.MethodHead && !c.streamed {
		response.ContentLength = int64(len(c.sent))
	}
	if aborted || cut == vykartest.Short {
		response.Body = io.NopCloser(io.MultiReader(bytes.NewReader(sent), endless{func() {}, io.ErrUnexpectedEOF}))
	}
	return response, nil
}

func atoi(text string) int64 {
	n := int64(0)
	for _, digit := range text {
		n = n*10 + int64(digit-'0')
	}
	return n
}

// endless ends a body with an error after telling so.
type endless struct {
	tell func()
	err  error
}

func (e endless) Read([]byte) (int, error) {
	e.tell()
	return 0, e.err
}

// connection is the server's side of one request: an http.ResponseWriter.
type connection struct {
	body     io.Reader
	cancel   context.CancelFunc
	cut      vykartest.Cut
	header   http.Header // as sent, once status is set
	pending  http.Header
	status   int
	buffered []byte
	sent     []byte
	streamed bool // something was sent before the handler returned
	broken   bool
}

// buffer is how much net/http collects of an answer before it writes to the connection.
const buffer = 4 << 10

// serve runs the handler; aborted tells that it cut the connection.
func (c *connection) serve(h http.Handler, r *http.Request) (aborted bool) {
	c.pending = make(http.Header)
	defer func() {
		switch fault := recover(); fault {
		case nil:
		case http.ErrAbortHandler:
			aborted = true
		default:
			panic(fault)
		}
	}()
	h.ServeHTTP(c, r)
	return false
}

func (c *connection) Header() http.Header { return c.pending }

func (c *connection) WriteHeader(status int) {
	if c.status == 0 && status >= 200 {
		c.status, c.header = status, c.pending.Clone()
	}
}

func (c *connection) Write(p []byte) (int, error) {
	c.WriteHeader(http.StatusOK)
	c.buffered = append(c.buffered, p...)
	if len(c.buffered) < buffer {
		return len(p), nil
	}
	if err := c.FlushError(); err != nil {
		return 0, err
	}
	return len(p), nil
}

var errBroken = errors.New("write: broken pipe")

// FlushError writes what is buffered to the connection.
func (c *connection) FlushError() error {
	c.WriteHeader(http.StatusOK)
	c.streamed = true
	return c.flush()
}

func (c *connection) flush() error {
	switch c.cut {
	case vykartest.Unanswered, vykartest.Late, vykartest.Short, vykartest.Midway:
		if !c.broken {
			c.broken = true
			if c.cut == vykartest.Short {
				c.sent, c.buffered = append(c.sent, c.buffered...), nil
			}
			c.cancel()
		}
		return errBroken
	}
	c.sent = append(c.sent, c.buffered...)
	c.buffered = c.buffered[:0]
	return nil
}

// finish is what net/http does when the handler has returned.
func (c *connection) finish() {
	c.WriteHeader(http.StatusOK)
	_ = c.flush() // nobody is told
}

// Deadlines of the connection, which never stands still.
func (c *connection) SetReadDeadline(time.Time) error  { return nil }
func (c *connection) SetWriteDeadline(time.Time) error { return nil }

// random is a source of its own for each purpose of a case.
func random(seed uint64, purpose string) *rand.Rand {
	h := uint64(14695981039346656037)
	for _, b := range []byte(purpose) {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return rand.New(rand.NewPCG(seed, h))
}

// same compares lists of chunks.
func same(got, want [][]byte) bool {
	if len(got) != len(want) {
		return false
	}
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			return false
		}
	}
	return true
}

// base is the URL of the repository.
const base = "http://server/" + repositoryName
