package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"packhouse/api"
	"packhouse/api/alert"
	"packhouse/api/tokens"
	"packhouse/compact"
	"packhouse/repo"
	"packhouse/repo/policy"
)

// Options of New. Set and Engine are required.
type Options struct {
	Set    api.Repositories
	Engine *compact.Engine
	// Check checks a repository, and calls say with each line of the answer, of which none names a file of the server. nil: there is no such path.
	Check func(ctx context.Context, r *repo.Repository, verify bool, say func(any) error) error
	// Dialects are the protocols that a repository can be created for. nil: any.
	Dialects []string
	// Removals are repositories that were destroyed and can be restored. nil: there are no such paths.
	Removals Removals
	// Authorize gives what a principal may do in one repository. r is nil before it is opened: then by its name alone, and
	// at least what any dialect would leave. trusted: the request came by the side that needs no credentials. nil: what the
	// principal may do anyway.
	Authorize func(r *repo.Repository, name string, p repo.Principal, trusted bool) repo.Principal
	// Locks shows what clients hold in a repository, as far as it is wanted, and Break ends one of those; both know the
	// repository's dialect. nil: the lists are empty.
	Locks func(ctx context.Context, a *repo.Access, w *api.LockWindow) ([]api.LockInfo, error)
	Break func(ctx context.Context, a *repo.Access, l api.LockInfo) error
	// Tokens are those that are issued here. nil: there are no such paths.
	Tokens *tokens.Store
	// UserName tells whether a name is that of a user of the configuration, so that no token can have it. nil: there are none.
	UserName func(name string) bool
	// Activity is what was seen of the clients of a repository, by principal and address; an empty one means any. nil: nothing
	// is known.
	Activity func(repository, principal, address string) api.Activity
	// Alerts tells what is wrong. nil: there are no such paths.
	Alerts *alert.Monitor
	// Limits of plans; zero fields mean the defaults of package compact.
	Limits compact.Limits
	// Heartbeat is how often a stream of events says something; 0 means 15 s.
	Heartbeat time.Duration
}

// Handler serves the API. It gets only authenticated requests.
type Handler struct {
	o         Options
	selecting sync.Mutex // held while a restore with a long body is carried out
}

// New creates the handler of the API.
func New(o Options) *Handler {
	o.Heartbeat = cmp.Or(o.Heartbeat, 15*time.Second)
	if o.Authorize == nil {
		o.Authorize = func(_ *repo.Repository, _ string, p repo.Principal, _ bool) repo.Principal { return p }
	}
	return &Handler{o: o}
}

// request is one request on its way through the API.
type request struct {
	*http.Request
	w         http.ResponseWriter
	h         *Handler
	principal repo.Principal
	name      string           // of the repository
	repo      *repo.Repository // nil: the server as a whole
	access    *repo.Access     // nil with repo
	whole     repo.Principal   // the principal with what it may do in the server as a whole
	log       *api.Record
}

// route is one path of the API. "*" in Path stands for one segment, given to the handler.
type route struct {
	method string
	path   string
	right  string // "l", "r" …: letters needed on the root
	name   string // of the operation, for the log and the metrics
	serve  func(q *request, argument string) error
}

// onServer are the operations that are for commands on the server itself, whose requests come over its own socket: what can be
// brought back of what a client did is not to be removed by whoever has its credentials, however many letters they have.
var onServer = map[string]error{"empty-trash": errEmptyOnServer, "empty-kept": errEmptyOnServer, "lift-guard": errLiftOnServer}

var (
	errEmptyOnServer = &statusError{http.StatusForbidden,
		"what can still be restored is removed before its time only on the server itself, by packhouse trash empty"}
	errLiftOnServer = &statusError{http.StatusForbidden, "the guard is lifted only on the server itself, by packhouse guard lift"}
)

var errClientOnly = &statusError{http.StatusForbidden,
	"users of a password file, and those that only a proxy names, do not administrate: use the server's token, or a user of the configuration"}

// administrator are the letters of one who may do everything.
const administrator = policy.All

var serverRoutes = []route{
	{http.MethodGet, "repositories", "", "repositories", (*request).listRepositories},
	{http.MethodGet, "self", "", "self", (*request).showSelf},
	{http.MethodPost, "repositories", administrator, "create", (*request).createRepository},
	{http.MethodGet, "removed", administrator, "removed", (*request).listRemoved},
	{http.MethodPost, "removed/restore", administrator, "restore-repository", (*request).restoreRepository},
	{http.MethodGet, "tokens", administrator, "tokens", (*request).listTokens},
	{http.MethodPost, "tokens", administrator, "create-token", (*request).createToken},
	{http.MethodDelete, "tokens/*", administrator, "revoke-token", (*request).revokeToken},
	{http.MethodGet, "alerts", administrator, "alerts", (*request).showAlerts},
	{http.MethodPost, "alerts/test", administrator, "test-alerts", (*request).testAlerts},
}

var repositoryRoutes = []route{
	{http.MethodGet, "", "l", "repository", (*request).showRepository},
	{http.MethodDelete, "", administrator, "destroy", (*request).destroyRepository},
	{http.MethodPost, "check", administrator, "check", (*request).check},
	{http.MethodPut, "salvage", administrator, "salvage", (*request).salvage},
	{http.MethodPost, "accept-loss", administrator, "accept-loss", (*request).acceptLoss},
	{http.MethodGet, "plans", "l", "plans", (*request).listPlans},
	{http.MethodGet, "kept", administrator, "kept", (*request).listKept},
	{http.MethodDelete, "kept", administrator, "empty-kept", (*request).emptyKept},
	{http.MethodPut, "quota", administrator, "set-quota", (*request).setQuota},
	{http.MethodGet, "guard", "l", "guard", (*request).showGuard},
	{http.MethodPut, "guard/lift", administrator, "lift-guard", (*request).liftGuard},
	{http.MethodGet, "growth", "l", "growth", (*request).showGrowth},
	{http.MethodGet, "writers", "l", "writers", (*request).listWriters},
	{http.MethodGet, "locks", "l", "locks", (*request).listLocks},
	{http.MethodPost, "locks/break", administrator, "break-lock", (*request).breakLock},
	{http.MethodGet, "history", administrator, "history", (*request).listHistory},
	{http.MethodPost, "rollback", administrator, "rollback", (*request).rollBack},
	{http.MethodGet, "trash", administrator, "trash", (*request).listTrash},
	{http.MethodDelete, "trash", administrator, "empty-trash", (*request).emptyTrash},
	{http.MethodPost, "trash/restore", administrator, "restore", (*request).restoreMany},
	{http.MethodPost, "trash/*/restore", administrator, "restore", (*request).restore},
	{http.MethodPost, "compactions", "", "compact", (*request).submitPlan},
	{http.MethodGet, "compactions", "", "jobs", (*request).listCompactions},
	{http.MethodGet, "compactions/*", "", "job", (*request).showJob},
	{http.MethodDelete, "compactions/*", "", "cancel-job", (*request).cancelJob},
	{http.MethodGet, "compactions/*/events", "", "events", (*request).streamJob},
	{http.MethodGet, "compactions/*/outcomes", "", "outcomes", (*request).listOutcomes},
	{http.MethodPost, "scrubs", administrator, "scrub", (*request).submitScrub},
	{http.MethodGet, "jobs", "", "jobs", (*request).listJobs},
	{http.MethodGet, "jobs/*", "", "job", (*request).showJob},
	{http.MethodDelete, "jobs/*", "", "cancel-job", (*request).cancelJob},
	{http.MethodGet, "jobs/*/events", "", "events", (*request).streamJob},
}

// vanishedRoutes are of a repository that is missing.
var vanishedRoutes = []route{{http.MethodDelete, "", administrator, "destroy", (*request).forgetVanished}}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := &request{Request: r, w: w, h: h, log: api.RecordFrom(r.Context())}
	if err := q.route(); err != nil {
		q.log.Reason = err.Error()
		q.problem(err)
	}
}

var (
	errNoPath   = &statusError{http.StatusNotFound, "there is nothing at this path"}
	errNoMethod = &statusError{http.StatusMethodNotAllowed, "this path does not know the method"}
)

func (q *request) route() error {
	var ok bool
	if q.principal, ok = api.PrincipalFrom(q.Context()); !ok {
		return &statusError{http.StatusUnauthorized, "not authenticated"}
	}
	name, rest, found := api.SplitAdminPath(q.URL.EscapedPath())
	if !found {
		return errNoPath
	}
	if name == "" {
		q.whole = q.authorized(nil, "")
		if err := q.try(serverRoutes, rest); !errors.Is(err, errNoPath) || !q.h.o.Set.Single() {
			return err
		}
	}
	if !q.h.o.Set.Single() { // the same whether there is one or not, and whatever is asked of it
		if err := q.authorized(nil, name).MayEnter(); err != nil {
			return err
		}
	}
	r, err := q.h.o.Set.Get(q.Context(), name)
	if errors.Is(err, repo.ErrVanished) && q.h.o.Removals != nil && q.Method == http.MethodDelete && rest == "" {
		q.name, q.whole = name, q.authorized(nil, name)
		return q.try(vanishedRoutes, rest)
	}
	if err != nil {
		return err
	}
	q.name, q.repo = name, r
	q.principal = q.authorized(r, name)
	q.access = r.As(q.principal)
	return q.try(repositoryRoutes, rest)
}

// authorized is who asks with what it may do in a repository; r is nil before that is opened.
func (q *request) authorized(r *repo.Repository, name string) repo.Principal {
	return q.h.o.Authorize(r, name, q.principal, api.IsTrusted(q.Context()))
}

// try serves the request by the route that matches.
func (q *request) try(routes []route, rest string) error {
	var methods []string
	for _, route := range routes {
		argument, ok := match(route.path, rest)
		if !ok {
			continue
		}
		if route.method != q.Method && (route.method != http.MethodGet || q.Method != http.MethodHead) {
			methods = append(methods, route.method)
			continue
		}
		q.log.Operation, q.log.Key = route.name, argument
		if route.right == administrator && q.sender().ClientOnly {
			return errClientOnly
		}
		if err := q.mayUse(route); err != nil {
			return err
		}
		if err := onServer[route.name]; err != nil && !api.IsTrusted(q.Context()) {
			return err
		}
		return route.serve(q, argument)
	}
	if methods != nil {
		q.w.Header().Set("Allow", strings.Join(methods, ", "))
		return errNoMethod
	}
	return errNoPath
}

// mayUse tells whether the principal has the rights that a route needs.
func (q *request) mayUse(route route) error {
	for _, letter := range route.right {
		err := q.may(string(letter))
		switch {
		case err == nil:
		case route.right != administrator:
			return err
		case q.access == nil:
			return repo.Errorf(repo.ErrDenied, "this needs all rights in the server, as the server's own token has them, or one with the role admin for all repositories")
		default:
			return repo.Errorf(repo.ErrDenied, "this needs all rights in the repository, as a token with the role admin has them")
		}
	}
	return nil
}

// may tells whether the principal has a right in the repository, or in the server as a whole.
func (q *request) may(letter string) error {
	if q.access == nil {
		return q.whole.May("", letter)
	}
	return q.access.May("", letter)
}

// match compares a path with a pattern, in which "*" is one segment.
func match(pattern, path string) (argument string, ok bool) {
	before, after, wild := strings.Cut(pattern, "*")
	if !wild {
		return "", pattern == path
	}
	rest, ok := strings.CutPrefix(path, before)
	if !ok {
		return "", false
	}
	argument, ok = strings.CutSuffix(rest, after)
	return argument, ok && argument != "" && !strings.Contains(argument, "/")
}

// sender is who asks, with what it may do in the repository, or in the server as a whole.
func (q *request) sender() *repo.Principal {
	if q.access == nil {
		return &q.whole
	}
	return &q.principal
}

// mayAll tells whether the principal is an administrator of the repository.
func (q *request) mayAll() bool {
	if q.sender().ClientOnly {
		return false
	}
	for _, letter := range administrator {
		if q.may(string(letter)) != nil {
			return false
		}
	}
	return true
}

// reply answers with a JSON document.
func (q *request) reply(status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	api.WriteBytes(q.w, q.Request, status, "application/json", append(body, '\n'))
	return nil
}

// query returns a parameter that may occur once; an unknown one is an error.
func (q *request) query(known ...string) (map[string]string, error) {
	all, err := url.ParseQuery(q.URL.RawQuery)
	if err != nil {
		return nil, invalid("malformed query")
	}
	values := make(map[string]string)
	for name, list := range all {
		ok := false
		for _, k := range known {
			ok = ok || k == name
		}
		if !ok {
			return nil, invalid("unknown parameter %q", name)
		}
		if len(list) > 1 {
			return nil, invalid("parameter %q is given twice", name)
		}
		values[name] = list[0]
	}
	return values, nil
}

// flag reads a yes or no.
func flag(name, text string, otherwise bool) (bool, error) {
	switch text {
	case "":
		return otherwise, nil
	case "yes", "true", "1":
		return true, nil
	case "no", "false", "0":
		return false, nil
	}
	return false, invalid("parameter %q is yes or no, not %q", name, text)
}
