package restic

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"packhouse/api"
	"packhouse/repo"
)

// Name is stored in repositories of this dialect.
const Name = "restic"

// Media types of listings; clients compare them byte for byte.
const (
	mediaPrefix = "application/vnd.x.restic.rest."
	mediaV1     = mediaPrefix + "v1"
	mediaV2     = mediaPrefix + "v2"
)

// Options of New. The zero value works.
type Options struct {
	Metrics *Metrics // of rest-server; nil: they are not kept
	Object  int64    // bytes of an object; 0: 8 GiB, as clients have packs of up to 4 GiB
	// Initialize is how long a client has to store the config of a repository that it has created, while others wait; 0: 30 s.
	Initialize time.Duration
}

// Dialect serves restic and rustic. It is safe for concurrent use.
type Dialect struct {
	o          Options
	beginnings beginnings
}

var (
	_ api.Dialect   = (*Dialect)(nil)
	_ api.PathOwner = (*Dialect)(nil)
	_ api.Namer     = (*Dialect)(nil)
)

// New creates the dialect.
func New(o Options) *Dialect {
	if o.Object == 0 {
		o.Object = 8 << 30
	}
	if o.Initialize == 0 {
		o.Initialize = 30 * time.Second
	}
	return &Dialect{o: o, beginnings: beginnings{time: o.Initialize}}
}

// Name implements api.Dialect.
func (d *Dialect) Name() string { return Name }

// Claims implements api.Dialect: a request has one of the dialect's media types, or creates a repository as only its clients do, without one.
func (d *Dialect) Claims(r *http.Request) bool {
	accept := r.Header["Accept"]
	return len(accept) > 0 && strings.HasPrefix(accept[0], mediaPrefix) || r.Method == http.MethodPost && creates(r.URL.RawQuery)
}

// creates tells whether a query asks to create a repository.
func creates(query string) bool {
	for parameter := range strings.SplitSeq(query, "&") {
		if parameter == "create=true" {
			return true
		}
	}
	return false
}

// OwnsPath implements api.PathOwner: a repository may have any name.
func (d *Dialect) OwnsPath(r *http.Request) bool { return d.Claims(r) }

// Locate implements api.Namer. A request for a repository as a whole is never ok: the only one that clients send says what it is.
func (d *Dialect) Locate(path string) (name, rest string, ok bool) {
	name, rest, ok = split(path)
	shape := parse(rest).shape
	return name, rest, ok && shape != invalid && shape != repository
}

// request is one request.
type request struct {
	*http.Request
	resource
	d *Dialect
	w http.ResponseWriter
	t api.Target
}

// Serve implements api.Dialect.
func (d *Dialect) Serve(w http.ResponseWriter, r *http.Request, t api.Target) {
	q := &request{Request: r, resource: parse(t.Path), d: d, w: w, t: t}
	t.Log.Key = q.key
	operation, serve := q.operation()
	t.Log.Operation = operation
	switch err := serve(q).(type) {
	case nil:
	case *statusError:
		t.Log.Reason = err.text
		api.WriteText(w, r, err.status, err.text)
	default:
		table.WriteError(w, r, t.Log, err)
	}
}

// operation finds what is asked for.
func (q *request) operation() (name string, serve func(*request) error) {
	switch q.shape {
	case repository:
		if q.Method == http.MethodPost {
			return "create", (*request).create
		}
		return "none", notAllowed("POST")
	case list:
		if q.Method == http.MethodGet {
			return "list", (*request).list
		}
		return "none", notAllowed("GET")
	case config, object:
		switch q.Method {
		case http.MethodHead:
			return "stat", (*request).stat
		case http.MethodGet:
			return "load", (*request).load
		case http.MethodPost:
			return "store", (*request).store
		case http.MethodDelete:
			return "delete", (*request).remove
		}
		return "none", notAllowed("HEAD, GET, POST, DELETE")
	}
	return "none", func(*request) error { return errPath }
}

// notAllowed answers a method that a path does not have.
func notAllowed(methods string) func(*request) error {
	return func(q *request) error {
		q.w.Header().Set("Allow", methods)
		return &statusError{http.StatusMethodNotAllowed, "this path does not know the method"}
	}
}

// access opens the repository.
func (q *request) access() (*repo.Access, error) {
	if q.nameless() {
		return nil, q.namelessError()
	}
	r, err := api.OpenRepository(q.Context(), q.t, Name)
	if err != nil {
		return nil, err
	}
	return r.As(q.t.Principal), nil
}

// nameless tells whether the URL of the client names no repository, and none is at the root.
func (q *request) nameless() bool { return q.t.Name == "" && !q.t.Set.Single() }

// namelessError is 403 to a client that would change something: of other statuses it would try for a quarter of an hour whether they pass.
func (q *request) namelessError() error {
	status := http.StatusForbidden
	if q.Method == http.MethodGet || q.Method == http.MethodHead {
		status = http.StatusNotFound
	}
	return &statusError{status, api.Nameless(q.Request).Error()}
}

// create answers POST of "/".
func (q *request) create() error {
	if !creates(q.t.Query) {
		return &statusError{http.StatusBadRequest, "a POST here creates a repository, with ?create=true"}
	}
	if q.t.Principal.May("config", "wW") != nil { // it initializes nothing
		return q.done(q.make())
	}
	begun, err := q.d.beginnings.wait(q.Context(), q.t.Name, q.t.Limits.Requests, q.progress)
	if err != nil {
		return err
	}
	err = q.make()
	switch {
	case begun && err != nil:
		q.d.beginnings.end(q.t.Name)
	case begun:
		q.d.beginnings.created(q.t.Name)
	}
	return q.done(err)
}

// progress looks how far the repository is initialized.
func (q *request) progress() (progress, error) {
	a, err := q.access()
	if err == nil {
		_, err = a.Repository().Entry("config")
	}
	switch {
	case errors.Is(err, repo.ErrNoRepository):
		return missing, nil
	case errors.Is(err, repo.ErrNotFound):
		return created, nil
	}
	return initialized, err
}

// make creates the repository, unless it is there.
func (q *request) make() error {
	_, err := q.access()
	if errors.Is(err, repo.ErrNoRepository) {
		_, err = api.CreateRepository(q.Context(), q.t, Name, "")
		if errors.Is(err, repo.ErrExists) { // another has created it this moment
			_, err = q.access()
		}
	}
	return err
}

// done answers 200 with no body, unless there is an error.
func (q *request) done(err error) error {
	if err != nil {
		return err
	}
	api.WriteText(q.w, q.Request, http.StatusOK, "")
	return nil
}
