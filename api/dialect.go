package api

import (
	"context"
	"fmt"
	"net/http"

	"packhouse/repo"
	"packhouse/repo/datadir"
)

// Dialect serves one wire protocol. Optional abilities are the interfaces Prechecker, Challenger, PathOwner and Namer below.
type Dialect interface {
	// Name is what a repository remembers: "borgstore", "restic", "vger".
	Name() string
	// Claims tells whether a request is in this dialect's protocol by its headers alone. The first
	// of Options.Dialects that claims a request serves it, the last serves what none claims. A
	// dialect that meets another's repository says so: see OpenRepository.
	Claims(r *http.Request) bool
	// Serve answers one request. It must read the body (bounded) before an early error
	// (WriteText does), set Content-Length, and never show a path of the server's disk.
	Serve(w http.ResponseWriter, r *http.Request, t Target)
}

// Prechecker is a dialect that refuses some requests before their sender is authenticated. Precheck returns false if it has
// answered.
type Prechecker interface {
	Precheck(w http.ResponseWriter, r *http.Request) bool
}

// Challenger is a dialect that writes its own form of 401.
type Challenger interface {
	Unauthorized(w http.ResponseWriter, r *http.Request)
}

// PathOwner is a dialect whose requests are recognized by their headers, so that all paths in its repositories belong to it, also
// "health", "metrics" and "-/x".
type PathOwner interface {
	OwnsPath(r *http.Request) bool
}

// Namer is a dialect in which the name of a repository is not just the first segment of the path. Some requests of its clients do not say which
// protocol they are in: those that no dialect claims are its own if the repository that it finds in their path was created by its clients.
type Namer interface {
	// Locate splits the raw path of a request to a server of many repositories into the name of one, "" for that at the root, and the rest.
	// ok is false if it can be no request of the dialect, but one that Claims knows.
	Locate(path string) (name, rest string, ok bool)
}

// Repositories is what dialects ask of the set of repositories that a server has. Errors are those of package repo.
type Repositories interface {
	// Single reports whether the set has only one repository, under the name "".
	Single() bool
	Names() ([]string, error) // sorted
	Get(ctx context.Context, name string) (*repo.Repository, error)
	// Ask calls fn for repositories, which it may open. Those whose disk does not answer are missing in what is returned.
	Ask(names []string, fn func(name string) any) map[string]any
	// Create makes a repository, durably; repo.ErrExists when there is one.
	Create(ctx context.Context, name, dialect string) (*repo.Repository, error)
	// Destroy removes a repository for good.
	Destroy(ctx context.Context, name string) error
}

var _ Repositories = (*datadir.Set)(nil)

// Target is what the router has found out about a request.
type Target struct {
	Set Repositories
	// Name is the repository's name; it need not exist, nor be valid. In a set of many it is ""
	// when the path names none.
	Name      string
	Path      string         // the raw, undecoded rest of the request's path behind the repository: "", "/", "//", "/config/readme"
	Query     string         // the raw query, without "?"
	Principal repo.Principal // authenticated
	Limits    Limits
	Log       *Record // what the dialect adds to the request's log line
	// Lists tells whether the principal may list a repository, and so know that it is there. nil: each.
	Lists func(repository string) bool
}

// Record is filled in by the dialect, or by the handler of the administration API, for the request log and the metrics.
type Record struct {
	Operation string // "store", "list", … from a fixed small set: it is a label of metrics
	Key       string // the item, if one; of our own API also a job, a lock or a removed item
	// Repository is for requests that name it otherwise than by their path. "": as the path says.
	Repository string
	Reason     string // why it was refused, for the log; may be more than the client is told
	Reads      bool   // nothing is changed, although the method is not GET or HEAD
	Replaced   bool   // an item was overwritten
	// Keys are the items, if they are many; Key may have one of them.
	Keys []string

	gone bool // see RecordGone
}

var errNameless = fmt.Errorf("%w: the URL's path must begin with the name of a repository", repo.ErrInvalid)

// OpenRepository opens the repository of a request, for clients of dialect. Errors: ErrDialect if clients of another dialect
// created it, ErrNoRepository, ErrInvalid, and others. On a server of many repositories a principal without any permission in
// the repository gets ErrDenied, whether it exists or not.
func OpenRepository(ctx context.Context, t Target, dialect string) (*repo.Repository, error) {
	if t.Name == "" && !t.Set.Single() {
		return nil, errNameless
	}
	if !t.Set.Single() {
		if err := t.Principal.MayEnter(); err != nil {
			return nil, err
		}
	}
	r, err := t.Set.Get(ctx, t.Name)
	if err != nil {
		return nil, err
	}
	if r.Dialect() != dialect {
		return nil, &DialectError{Name: t.Name, Has: r.Dialect(), Asked: dialect}
	}
	return r, nil
}

// CreateRepository creates the repository of a request, for clients of dialect and a principal that may store an item at key; "" is
// the root. Errors: ErrDenied, ErrInvalid, ErrExists, and others.
func CreateRepository(ctx context.Context, t Target, dialect, key string) (*repo.Repository, error) {
	if err := t.Principal.May(key, "wW"); err != nil {
		return nil, err
	}
	if t.Name == "" && !t.Set.Single() {
		return nil, errNameless
	}
	return t.Set.Create(ctx, t.Name, dialect)
}

// DialectError is an ErrDialect: a repository, and the dialect that it belongs to.
type DialectError struct {
	Name  string // the repository
	Has   string // the dialect of its clients
	Asked string // the dialect of the request
}

func (e *DialectError) Error() string {
	name := "this repository"
	if e.Name != "" {
		name = fmt.Sprintf("repository %q", e.Name)
	}
	return fmt.Sprintf("%s was created by clients of the %s dialect, but the request is of the %s dialect", name, e.Has, e.Asked)
}

func (e *DialectError) Is(target error) bool { return target == repo.ErrDialect }
