package borgstore

import (
	"errors"
	"net/http"
	"strings"

	"packhouse/api"
	"packhouse/compact"
	"packhouse/repo"
)

// Name is stored in repositories of this dialect.
const Name = "borgstore"

// mediaType marks a request: clients send it with each, byte for byte.
const mediaType = "application/vnd.x.borgstore.rest.v1"

// Options of New. Engine is required.
type Options struct {
	Engine  *compact.Engine // carries out defrag
	TempDir string          // for listings too large for memory; "" means os.TempDir()
}

// Dialect serves clients of borgstore. It is safe for concurrent use.
type Dialect struct {
	o Options
}

var (
	_ api.Dialect    = (*Dialect)(nil)
	_ api.Prechecker = (*Dialect)(nil)
	_ api.Challenger = (*Dialect)(nil)
	_ api.PathOwner  = (*Dialect)(nil)
)

// New creates a dialect.
func New(o Options) *Dialect { return &Dialect{o} }

// Name is "borgstore".
func (d *Dialect) Name() string { return Name }

// Claims tells whether the request has the dialect's media type as its first Accept header.
func (d *Dialect) Claims(r *http.Request) bool {
	accept := r.Header["Accept"]
	return len(accept) > 0 && accept[0] == mediaType
}

// OwnsPath is true for each request of the dialect: its objects may have any name.
func (d *Dialect) OwnsPath(r *http.Request) bool { return d.Claims(r) }

// Precheck refuses requests of other protocols, before credentials are checked.
func (d *Dialect) Precheck(w http.ResponseWriter, r *http.Request) bool {
	if d.Claims(r) {
		return true
	}
	w.Header().Set("Vary", "Accept")
	api.WriteText(w, r, http.StatusNotAcceptable, "Not Acceptable: unsupported or missing Accept header")
	return false
}

// Unauthorized writes the dialect's 401.
func (d *Dialect) Unauthorized(w http.ResponseWriter, r *http.Request) {
	// The spelling net/http would give it is the same header; this is the reference's.
	w.Header()["WWW-Authenticate"] = []string{`Basic realm="BorgStore REST Server"`}
	noStore(w)
	api.WriteBytes(w, r, http.StatusUnauthorized, "", []byte("Unauthorized"))
}

// Values of headers that many answers have; they must not be changed.
var (
	neverCached = []string{"no-store, no-cache, must-revalidate, max-age=0"}
	octets      = []string{"application/octet-stream"}
)

func noStore(w http.ResponseWriter) { w.Header()["Cache-Control"] = neverCached }

// request is one request, as far as all operations need it.
type request struct {
	*http.Request
	d      *Dialect
	w      http.ResponseWriter
	t      api.Target
	query  query
	raw    string // the name as sent, without slashes at its ends
	access *repo.Access
}

// Serve answers one request.
func (d *Dialect) Serve(w http.ResponseWriter, r *http.Request, t api.Target) {
	noStore(w)
	q := &request{Request: r, d: d, w: w, t: t, raw: trimSlashes(t.Path)}
	operation, serve := q.operation()
	t.Log.Operation = operation
	switch err := serve(q).(type) {
	case nil:
	case *statusError:
		t.Log.Reason = err.text
		api.WriteText(w, r, err.status, err.text)
	default:
		errorTable.WriteError(w, r, t.Log, err)
		if errors.Is(err, repo.ErrNotFound) {
			t.Log.Reason = "not found" // the client gets the name alone
		}
	}
}

// operation finds what is asked for; query is set where the protocol looks at it.
func (q *request) operation() (name string, serve func(*request) error) {
	switch q.Method {
	case http.MethodHead:
		return "info", (*request).info
	case http.MethodGet:
		if q.t.Path == "" || q.t.Path[len(q.t.Path)-1] == '/' {
			return "list", (*request).list
		}
		return "load", (*request).load
	case http.MethodPost, http.MethodDelete:
		q.query = parseQuery(q.t.Query)
	default:
		return "none", (*request).unsupported
	}
	command := q.query["cmd"]
	if q.Method == http.MethodDelete {
		switch command {
		case "destroy":
			return command, (*request).destroy
		case "rmdir":
			return command, (*request).removeDir
		}
		return "delete", (*request).remove
	}
	switch command {
	case "create":
		return command, (*request).create
	case "mkdir":
		return command, (*request).makeDir
	case "move":
		return command, (*request).move
	case "hash":
		return command, (*request).hash
	case "quota":
		return command, (*request).quota
	case "defrag":
		return command, (*request).defrag
	case "gather":
		return command, (*request).gather
	}
	return "store", (*request).store
}

// unsupported answers a method that the protocol does not have.
func (q *request) unsupported() error {
	return &statusError{http.StatusNotImplemented, "Unsupported method ('" + printable(q.Method) + "')"}
}

// open gives access to the repository, for the request's principal.
func (q *request) open() error {
	r, err := api.OpenRepository(q.Context(), q.t, Name)
	if q.nameless(err) {
		return api.Nameless(q.Request)
	}
	if err != nil {
		return err
	}
	q.access = r.As(q.t.Principal)
	return nil
}

// nameless tells of a request whose repository could not be opened whether its URL names none: the first segment of its
// path is where borg keeps something, and what follows it is not.
func (q *request) nameless(err error) bool {
	switch {
	case q.t.Set.Single():
		return false
	case q.t.Name == "":
		return true
	case !errors.Is(err, repo.ErrNoRepository) && !errors.Is(err, repo.ErrDenied), !api.Reserved(q.t.Name), q.whole(), q.t.Path == "//":
		return false
	}
	first, _, _ := strings.Cut(q.raw, "/")
	return !api.Reserved(first)
}

// whole tells whether the request is about the repository, not about something in it.
func (q *request) whole() bool {
	switch q.query["cmd"] {
	case "create", "destroy", "move", "quota", "defrag", "gather":
		return true
	}
	return false
}

// openAt is open for an operation on the name in the path, which it returns in its one spelling. The
// repository is looked for first: without one, every name answers 410.
func (q *request) openAt() (key string, err error) {
	if err := q.open(); err != nil {
		return "", err
	}
	key, err = cleanName(q.raw)
	q.t.Log.Key = key
	return key, err
}

// openObject is openAt for an operation that needs a name: the root has none.
func (q *request) openObject(missing string) (string, error) {
	key, err := q.openAt()
	if err == nil && key == "" {
		err = badRequest("%s", missing)
	}
	return key, err
}

// done answers 200 with no body.
func (q *request) done() error {
	api.WriteText(q.w, q.Request, http.StatusOK, "")
	return nil
}
