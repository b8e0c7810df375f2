package vger

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"packhouse/api"
	"packhouse/repo"
	"packhouse/repo/keys"
)

// request is what came from a client, and where the answer goes.
type request struct {
	d     *Dialect
	w     http.ResponseWriter
	r     *http.Request
	t     api.Target
	key   key
	query parameters
	// opened is the repository as it was found before anything else; nil: it is to be opened when it is needed.
	opened *repo.Access
	body   *countingReader
	text   int64 // bytes held of Dialect.texts
}

// countingReader counts the bytes of the body that were read.
type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// serve finds the handler. It returns an error when nothing was answered yet.
func (x *request) serve() error {
	var err error
	if x.query, err = parseQuery(x.t.Query); err != nil {
		return err
	}
	if !x.d.Claims(x.r) {
		return status(http.StatusNotAcceptable, "this server speaks the protocol of V'Ger and vykar, not BorgStore's")
	}
	if x.t.Name == "" && !x.t.Set.Single() {
		return x.serveServer()
	}
	// Before anything is said about a key: those of another dialect look wrong from here.
	a, err := x.access()
	switch {
	case errors.Is(err, repo.ErrDialect):
		return err
	case (errors.Is(err, repo.ErrNoRepository) || errors.Is(err, repo.ErrDenied)) && x.nameless():
		return badRequest("%v", api.Nameless(x.r))
	}
	if err := x.nested(errors.Is(err, repo.ErrNoRepository)); err != nil {
		return err
	}
	if x.reads() || x.r.Method == http.MethodDelete {
		x.opened = a // no body is read in between, for as long as which the repository might not stay the one under its name
	}
	switch {
	case x.key.shape == rootKey:
		return x.serveRepository()
	case x.key.text == "locks" && !x.key.slash && !x.query["mkdir"]:
		return x.serveLockList()
	}
	return x.serveKey()
}

// serveServer answers for "/" of a server of many repositories.
func (x *request) serveServer() error {
	if x.key.shape != rootKey {
		return &statusError{code: http.StatusNotFound}
	}
	switch {
	case x.reads() && x.query.first(readRequests...) == "":
		return x.repositories()
	case x.reads(), x.r.Method == http.MethodPost:
		return badRequest("%v", api.Nameless(x.r)) // of a client that takes the whole server for its repository
	}
	return x.notAllowed("GET, HEAD")
}

// nameless reports whether the first segment of the path is not a repository name but the beginning of a key, because the client's URL
// has no path.
func (x *request) nameless() bool {
	if x.t.Set.Single() || !api.Reserved(x.t.Name) || parseKey(x.t.Name+"/"+x.key.text).shape == invalidKey {
		return false
	}
	if x.key.shape == rootKey { // clients ask a repository for something without a slash behind its name
		return x.key.slash || x.query.first(readRequests...) == "" && x.query.first(postRequests...) == ""
	}
	return x.key.shape == invalidKey
}

// nested is the error of a request that makes a repository under a URL whose path has more than a name; nil: it makes none. Clients begin with
// HEAD config, and end unless it is missing; what they show to the user is the answer to POST ?init, or that to PUT config of the first
// generations. A repository that is there, although it was made so, goes on: its config has the key "keys/config" or the like.
func (x *request) nested(missing bool) error {
	path, config := strings.CutSuffix(x.key.text, "/config")
	config = config && (missing || x.key.shape == invalidKey)
	switch {
	case x.t.Set.Single(), x.key.shape == rootKey, keys.Check(x.key.text) != nil:
	case config && x.r.Method == http.MethodHead:
		return &statusError{code: http.StatusNotFound}
	case config && x.r.Method == http.MethodPut:
		return badRequest("%v", api.Nested(x.r, x.t.Name+"/"+path))
	case x.r.Method == http.MethodPost && x.query["init"]:
		return badRequest("%v", api.Nested(x.r, x.t.Name+"/"+x.key.text))
	}
	return nil
}

// The requests to a repository as a whole, by precedence (contract, 2.1).
var (
	readRequests = []string{"stats", "verify-structure", "list"}
	postRequests = []string{"init", "batch-delete", "repack", "verify-packs"}
)

// serveRepository answers the admin requests.
func (x *request) serveRepository() error {
	switch {
	case x.reads():
		switch x.query.first(readRequests...) {
		case "stats":
			return x.stats()
		case "verify-structure":
			return x.verifyStructure()
		case "list":
			return x.listAll()
		}
		return badRequest("missing query parameter (stats, verify-structure, list)")
	case x.r.Method == http.MethodPost:
		switch x.query.first(postRequests...) {
		case "init":
			return x.init()
		case "batch-delete":
			return x.batchDelete()
		case "repack":
			return x.repack()
		case "verify-packs":
			return x.verifyPacks()
		}
		return badRequest("missing query parameter (init, batch-delete, repack, verify-packs)")
	}
	return x.notAllowed("GET, HEAD, POST")
}

// serveKey answers for objects and directories.
func (x *request) serveKey() error {
	switch x.r.Method {
	case http.MethodGet:
		if x.query["list"] {
			return x.list()
		}
		return x.get()
	case http.MethodHead:
		return x.head()
	case http.MethodPut:
		return x.put()
	case http.MethodDelete:
		return x.remove()
	case http.MethodPost:
		if x.query["mkdir"] {
			return x.mkdir()
		}
		if _, ok := x.key.within("locks"); ok {
			return x.acquire()
		}
		return &statusError{code: http.StatusBadRequest}
	}
	return x.notAllowed("GET, HEAD, PUT, DELETE, POST")
}

// reads tells whether the request is a GET, or a HEAD that is answered like one.
func (x *request) reads() bool {
	return x.r.Method == http.MethodGet || x.r.Method == http.MethodHead
}

func (x *request) notAllowed(methods string) error {
	x.w.Header().Set("Allow", methods)
	return &statusError{code: http.StatusMethodNotAllowed}
}

// log names the operation for the request log.
func (x *request) log(operation string) { x.t.Log.Operation = operation }

// access opens the repository. A missing one is repo.ErrNoRepository.
func (x *request) access() (*repo.Access, error) {
	if x.opened != nil {
		return x.opened, nil
	}
	r, err := api.OpenRepository(x.r.Context(), x.t, Name)
	if err != nil {
		return nil, err
	}
	return r.As(x.t.Principal), nil
}

// accessOrCreate opens the repository for a write of key, and creates it if there is none and the
// principal may write there.
func (x *request) accessOrCreate(key string) (*repo.Access, error) {
	a, err := x.access()
	if !errors.Is(err, repo.ErrNoRepository) {
		return a, err
	}
	// Not for this client alone: another may be waiting for the same repository.
	r, err := api.CreateRepository(context.WithoutCancel(x.r.Context()), x.t, Name, key)
	if errors.Is(err, repo.ErrExists) {
		return x.access()
	}
	if err != nil {
		return nil, err
	}
	return r.As(x.t.Principal), nil
}

// refuse answers with an error, after reading what the client still sends (WriteText does): clients look
// for an answer only when their body is out, and take a closed connection for a fault to retry.
func (x *request) refuse(err error) {
	code, text := x.answer(err)
	x.t.Log.Reason = err.Error()
	if x.r.Method == http.MethodHead && x.key.shape != rootKey {
		text = ""
	}
	api.WriteText(x.w, x.r, code, text)
}

// answer is the error table with what this request knows besides.
func (x *request) answer(err error) (int, string) {
	code, text := answer(err)
	var quota *repo.QuotaError
	var history *repo.HistoryError
	trash, full := errors.AsType[*repo.TrashError](err)
	total, all := errors.AsType[*repo.TotalError](err)
	switch charges, many := errors.AsType[*repo.ChargesError](err); {
	case full:
		return code, trash.Error()
	case all:
		return code, total.Error()
	case many:
		return code, charges.Error()
	case errors.As(err, &history):
		return code, history.Error()
	case errors.As(err, &quota) && x.body.n > 0 && x.r.Method == http.MethodPut:
		return code, quotaText(quota, "quota exceeded during upload: used %d, limit %d, written %d", x.body.n)
	case errors.As(err, &quota):
		return code, quotaText(quota, "quota exceeded: used %d, limit %d, request %d", max(x.r.ContentLength, 0))
	case errors.Is(err, repo.ErrNoRepository):
		return code, "repo '" + x.t.Name + "' not found"
	case errors.Is(err, repo.ErrNotFound):
		return code, x.key.text
	case errors.Is(err, repo.ErrInvalid) && x.key.shape == rootKey:
		return code, "invalid repo"
	}
	return code, text
}
