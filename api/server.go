package api

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/julienschmidt/httprouter"
	"github.com/prometheus/client_golang/prometheus"

	"packhouse/api/tokens"
	"packhouse/internal/logwriter"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// Options of New. Set, Dialects and Auth are required.
type Options struct {
	Set      *datadir.Set
	Dialects []Dialect // asked in this order; the last serves what none claims
	Auth     *Auth
	// Admin serves our own API: paths "/-/…" and "/{repo}/-/…", and "/-/" of a single repository. It
	// gets authenticated requests only; PrincipalFrom tells whose. nil: 404.
	Admin http.Handler
	// Local serves paths "/-/local/…" of the trusted side: what the program's own commands ask of
	// the process that holds the repositories. Elsewhere these paths are 404. nil: 404.
	Local http.Handler
	// UI serves the pages for people: paths "/-/ui/…", and "/" where a browser asks for it without credentials. It gets requests that are
	// not authenticated. nil: there are none.
	UI http.Handler
	// Root is the repository mounted at "/" of a set of many; see Reserved. "": none.
	Root string
	// Authorize gives what a principal may do in one repository ("": in the server as a whole), e.g. less when
	// the repository is append-only. d is nil when the request is in no dialect. nil: what the principal may do
	// anyway. On the trusted side it is asked for requests that name their principal: those of a client,
	// not of the administrator; trusted says so, as such a name is none of Auth's.
	Authorize   func(repository string, d Dialect, p repo.Principal, trusted bool) repo.Principal
	Limits      Limits
	Proxies     *Proxies               // nil means DefaultProxies
	Logger      *slog.Logger           // nil means silence
	Audit       slog.Handler           // of the audit log; nil: there is none
	Version     string                 // of the program
	Now         func() time.Time       // nil means time.Now
	Collectors  []prometheus.Collector // besides the server's own
	OpenMetrics bool                   // GET /metrics without authentication
	NoMetrics   bool                   // GET /metrics is a request to a repository of that name
	// Metrics admits a user to /metrics who may not list what the server has. nil: nobody.
	Metrics func(p repo.Principal) bool
	// Quiet logs requests that have not failed at the level debug.
	Quiet bool
	// AccessLog gets a line for each request in the combined format of Apache, in one Write. It must not wait: see package logwriter. nil: there is
	// none.
	AccessLog io.Writer
	// LocalAdmin leaves Admin to the trusted side; elsewhere its paths are 404.
	LocalAdmin bool
}

// Server serves the repositories of a set. It is an http.Handler, safe for concurrent use.
type Server struct {
	o       Options
	auth    atomic.Pointer[Auth]
	proxies atomic.Pointer[Proxies]
	router  *httprouter.Router
	metrics *metrics
	slots   *slots        // of requests that are being answered
	streams chan struct{} // a token per response without an end of its own: see Stream
	started time.Time
	health  healthCache
	clients *clients
	ids     requestIDs
	lines   *logwriter.Queue[slog.Record] // of the request log
	audit   *audit                        // nil: there is none

	failedLogins atomic.Int64

	active     atomic.Int64 // requests being answered
	lastActive atomic.Int64 // Unix ns

	mu       sync.Mutex // held while a listener joins, or all are told to stop
	serving  []serving
	stopping bool
	stop     chan struct{} // closed when all are told to stop
}

// New creates a server. Its error lists the missing options.
func New(o Options) (*Server, error) {
	var faults []error
	if o.Set == nil {
		faults = append(faults, errors.New("api: no set of repositories"))
	}
	if len(o.Dialects) == 0 {
		faults = append(faults, errors.New("api: no dialect"))
	}
	if o.Auth == nil {
		faults = append(faults, errors.New("api: no authentication is configured; set NoAuth to serve without"))
	}
	if o.Auth != nil && o.Auth.issued != nil && o.Authorize == nil {
		faults = append(faults, errors.New("api: nothing narrows what issued tokens may do; set Authorize"))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Limits = o.Limits.withDefaults()
	ids, err := newRequestIDs()
	if err != nil {
		return nil, err
	}
	s := &Server{
		o: o, slots: newSlots(o.Limits.Requests), streams: make(chan struct{}, o.Limits.Streams),
		started: o.Now(), ids: ids, stop: make(chan struct{}),
	}
	s.lines = newLogQueue(o.Logger.Handler())
	if s.audit = newAudit(o.Audit, o.Logger); s.audit != nil {
		s.o.Collectors = append(slices.Clone(o.Collectors), s.audit.lost)
	}
	s.clients = newClients(s.started)
	s.auth.Store(o.Auth)
	if s.o.Proxies == nil {
		local, err := ParseProxies(DefaultProxies)
		if err != nil {
			return nil, err
		}
		s.o.Proxies = &local
	}
	s.SetProxies(*s.o.Proxies)
	s.lastActive.Store(s.started.UnixNano())
	if s.metrics, err = newMetrics(s.o, s.Active, s.countRepositories, s.FailedLogins); err != nil {
		return nil, err
	}
	s.router = s.routes()
	return s, nil
}

// SetAuth replaces the users and tokens. Running requests are not affected.
func (s *Server) SetAuth(a *Auth) { s.auth.Store(a) }

// SetProxies replaces the proxies that are trusted. Running requests are not affected.
func (s *Server) SetProxies(p Proxies) { s.proxies.Store(&p) }

// routes are the server's own paths; NotFound handles all others. The router neither redirects nor corrects paths.
func (s *Server) routes() *httprouter.Router {
	router := &httprouter.Router{NotFound: http.HandlerFunc(s.serveRepository)}
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		router.HandlerFunc(method, "/health", s.serveHealth)
		router.HandlerFunc(method, "/metrics", s.serveMetrics)
	}
	for _, method := range []string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
	} {
		router.HandlerFunc(method, "/-/*path", s.serveAdmin)
	}
	return router
}

// ServeHTTP serves one request of any client.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.serve(w, r, false) }

// requestState is the server's state of one request.
type requestState struct {
	id         requestID
	address    string // of the client
	secure     bool   // the client asked a trusted proxy by TLS
	out        *response
	in         *body // nil: there is none
	trusted    bool
	dialect    Dialect
	name, rest string // the repository and what follows it in the path
	query      string
	principal  repo.Principal
	stop       <-chan struct{} // closed when the server stops
	life       *lifetime       // nil: the sender's token does not end
	release    func()          // gives back what the request holds among Limits.Requests, or Streams; nil: it holds nothing
	streams    chan struct{}   // the server's
	log        Record

	refusedLogin bool   // in spite of a client certificate
	login        string // the name of a login that failed, as the log has it; "": none was given
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, trusted bool) {
	start := s.o.Now()
	rc := http.NewResponseController(w)
	out := &response{ResponseWriter: w, rc: rc, conn: connOf(r), stall: s.o.Limits.Stall, pace: s.newPace(), stop: s.stop}
	in := s.wrapBody(r, rc)
	last, folded := ambiguous(r)
	if last {
		w.Header().Set("Connection", "close")
	}
	x := &requestState{id: s.ids.next(), out: out, in: in, trusted: trusted, dialect: s.dialect(r), stop: s.stop, streams: s.streams}
	x.address, x.secure = s.proxies.Load().client(r)
	path, query := splitTarget(r.RequestURI)
	x.query = query
	x.name, x.rest = s.locate(x.dialect, r, path, query)
	if named := r.Header.Values(headerRepository); trusted && len(named) > 0 {
		x.name, x.rest = named[0], path
	}
	s.touch(1)
	defer func() {
		defer s.touch(-1) // last: who waits until nothing is active finds the lines of all requests queued
		abort := s.recovered(out, r, x, recover())
		if x.life.over() {
			// Whatever its handler says, nothing more is answered.
			abort, out.cut = true, context.Cause(x.life.token)
			x.log.Reason = out.cut.Error()
			out.status = cmp.Or(out.status, http.StatusUnauthorized)
		}
		if !abort && out.status == 0 {
			out.WriteHeader(http.StatusOK) // of a handler that wrote nothing
		}
		if in != nil {
			in.leave()
		}
		s.record(r, x, out, in, s.o.Now().Sub(start))
		if abort {
			panic(http.ErrAbortHandler)
		}
	}()
	r = r.WithContext(context.WithValue(r.Context(), stateKey, x))
	if folded {
		x.log.Reason = foldedHeader
		WriteText(out, r, http.StatusBadRequest, foldedHeader)
		return
	}
	if !r.ProtoAtLeast(1, 1) && !s.admitOld(out, r, x) {
		return
	}
	s.route(out, r, x, path)
}

// admitOld refuses an upload over HTTP/1.0 whose length is not known. No second request on its connection is accepted, because
// net/http may take the body of the first one for it.
func (s *Server) admitOld(w http.ResponseWriter, r *http.Request, x *requestState) bool {
	w.Header().Set("Connection", "close")
	if r.Method == http.MethodPut && LengthMissing(r) {
		x.log.Reason = lengthMissing
		WriteText(w, r, http.StatusLengthRequired, lengthMissing)
		return false
	}
	return true
}

const foldedHeader = "a header is continued on the next line"

const lengthMissing = "an upload by HTTP/1.0 must have a Content-Length"

// LengthMissing reports whether a request may have a body that the server cannot see: HTTP/1.0 has no chunks, and net/http drops
// the header that announces them. A POST that stores its body must then be refused with 411, as a PUT is before it reaches a
// dialect. A POST that needs no body is accepted, because proxies send it in this form.
func LengthMissing(r *http.Request) bool {
	return !r.ProtoAtLeast(1, 1) && r.Header.Get("Content-Length") == ""
}

// wrapBody puts the limits around the request's body; nil when there is none.
func (s *Server) wrapBody(r *http.Request, rc *http.ResponseController) *body {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	b := &body{
		rc: rc, src: r.Body, stall: s.o.Limits.Stall, pace: s.newPace(), drain: strangerDrain, limit: -1, announced: r.ContentLength,
		expects: strings.EqualFold(r.Header.Get("Expect"), "100-continue") && r.ProtoAtLeast(1, 1),
	}
	r.Body = b
	return b
}

func (s *Server) newPace() pace { return pace{now: s.o.Now, least: s.o.Limits.MinRate} }

// route sends a request to the server's own pages or to a repository.
func (s *Server) route(w http.ResponseWriter, r *http.Request, x *requestState, path string) {
	named := x.trusted && r.Header.Get(headerRepository) != "" // by a header
	own := serverPath(x.dialect, r) && !named
	repository, administers := s.administers(path)
	switch {
	case own && !x.trusted && s.o.UI != nil && (isUI(path) || asksWho(r, path, x.query)):
		x.name = ""
		s.serveUI(w, r, x)
	case own && (path == "/health" || path == "/metrics" && !s.o.NoMetrics || strings.HasPrefix(path, "/-/")):
		x.name = "" // the first segment is not a repository's name
		s.router.ServeHTTP(w, r)
	case own && x.rest == "/health" && readOnly(r):
		s.serveHealth(w, r)
	case administers && !named && !ownsPath(x.dialect, r):
		x.name = repository
		s.serveAdmin(w, r)
	default:
		s.serveRepository(w, r)
	}
}

func readOnly(r *http.Request) bool {
	return r.Method == http.MethodGet || r.Method == http.MethodHead
}

// serveRepository authenticates a request and gives it to its dialect.
func (s *Server) serveRepository(w http.ResponseWriter, r *http.Request) {
	x := stateOf(r)
	if d, ok := x.dialect.(Prechecker); ok && !d.Precheck(w, r) {
		x.log.Reason = "refused before authentication"
		return
	}
	r, ok := s.admit(w, r, x)
	if !ok {
		return
	}
	if !s.enter(w, r, x) {
		return
	}
	defer x.leave()
	s.remembered(r, x) // which may open a repository
	defer s.watch(r, x)()
	x.dialect.Serve(w, r, Target{
		Set: s.o.Set, Name: x.name, Path: x.rest, Query: x.query, Principal: s.authorized(r, x, x.name), Limits: s.o.Limits, Log: &x.log,
		Lists: func(name string) bool { return s.authorized(r, x, name).Permissions.Allows("", "l") },
	})
}

// authorized returns the sender of a request with its permissions in a repository; "": in the server as a whole.
func (s *Server) authorized(r *http.Request, x *requestState, repository string) repo.Principal {
	if s.o.Authorize == nil || x.trusted && r.Header.Get(headerPrincipal) == "" {
		return x.principal
	}
	return s.o.Authorize(repository, x.dialect, x.principal, x.trusted)
}

// serveAdmin authenticates a request and gives it to our own API.
func (s *Server) serveAdmin(w http.ResponseWriter, r *http.Request) {
	x := stateOf(r)
	x.dialect, x.log.Operation = nil, "admin" // until the handler knows better
	r, ok := s.admit(w, r, x)
	if !ok {
		return
	}
	handler := s.o.Admin
	if s.o.LocalAdmin && !x.trusted {
		handler = nil
	}
	local := strings.HasPrefix(r.URL.Path, "/-/local/")
	if local {
		if handler = s.o.Local; !x.trusted {
			handler = nil
		}
	}
	if handler == nil {
		WriteText(w, r, http.StatusNotFound, "there is nothing at this path")
		return
	}
	if b, ok := r.Body.(*body); ok {
		b.limit = s.o.Limits.PlanBytes
	}
	if !local { // whoever administers this machine need not wait behind clients
		if !s.enter(w, r, x) {
			return
		}
		defer x.leave()
	}
	handler.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), principalKey, x.principal)))
}

// Unauthorized is the text of a 401 of which no more is known.
const Unauthorized = "Unauthorized"

// admit authenticates the sender of a request, and returns the request with the context that ends with the sender's token. If
// that fails it answers and returns false.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, x *requestState) (*http.Request, bool) {
	if x.trusted {
		return r, s.admitTrusted(w, r, x)
	}
	p, err := s.auth.Load().authenticate(r, x.address, s.proxies.Load().trusts(peerAddress(r)))
	if err == nil {
		x.principal = p.Principal
		x.principal.Address = x.address
		s.known(r)
		if p.life != nil {
			x.life, r = bind(r, p.life)
		}
		return r, true
	}
	x.log.Reason = err.Error()
	s.failedLogin(r, x, err)
	if refused := new(loginError); errors.As(err, &refused) {
		x.refusedLogin = true
		if refused.status == http.StatusUnauthorized {
			w.Header().Set("Connection", "close") // on another one the client may have a newer certificate
			challenge(w)
		}
		WriteText(w, r, refused.status, refused.text)
		return r, false
	}
	if errors.Is(err, errThrottled) || errors.Is(err, errQueueFull) {
		w.Header().Set("Retry-After", strconv.Itoa(int(failPause/time.Second)))
		WriteText(w, r, http.StatusTooManyRequests, err.Error()+": wait a little, then use the right credentials")
		return r, false
	}
	if d, ok := x.dialect.(Challenger); ok {
		d.Unauthorized(w, r)
		return r, false
	}
	challenge(w)
	text := Unauthorized
	if errors.Is(err, tokens.ErrExpired) || errors.Is(err, tokens.ErrUnknown) || errors.Is(err, tokens.ErrMalformed) {
		text = err.Error()
	}
	WriteText(w, r, http.StatusUnauthorized, text)
	return r, false
}

// challenge says in a 401 how clients can authenticate.
func challenge(w http.ResponseWriter) {
	w.Header()["Www-Authenticate"] = []string{"Bearer", `Basic realm="Packhouse"`}
}

// known allows that more of an authenticated client's body is read when it is refused, and that its connection stays.
func (s *Server) known(r *http.Request) {
	if c, ok := r.Context().Value(connectionKey).(*connectionOf); ok {
		c.isKnown()
	}
	if b, ok := r.Body.(*body); ok {
		b.drain = s.o.Limits.DrainBytes
	}
}

// largeBody is from which size a body is large, for the slots.
const largeBody = 1 << 20

// enter takes a slot for requests and waits for it for a limited time; leave releases it.
func (s *Server) enter(w http.ResponseWriter, r *http.Request, x *requestState) bool {
	claims := claimsOf(x.principal.Name, x.name)
	large := r.ContentLength < 0 || r.ContentLength > largeBody
	err := s.slots.enter(r.Context(), claims, large, s.o.Limits.Wait)
	if err == nil {
		x.release = func() { s.slots.leave(claims) }
		return true
	}
	x.log.Reason = err.Error()
	if !errors.Is(err, errNoSlot) {
		x.log.Reason = "client left while waiting"
		RecordGone(r, err)
	}
	w.Header().Set("Retry-After", "10")
	WriteText(w, r, http.StatusServiceUnavailable, "too many requests at once; try again")
	return false
}

func (x *requestState) leave() { x.release() }

func stateOf(r *http.Request) *requestState {
	x, _ := r.Context().Value(stateKey).(*requestState)
	return x
}
