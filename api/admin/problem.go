package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"

	"packhouse/api"
	"packhouse/compact"
	"packhouse/repo"
)

// Problem is the body of an error answer: problem details (RFC 9457), and for a plan the operation and range that are wrong.
type Problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail,omitempty"`
	Operation *int   `json:"operation,omitempty"` // zero-based, of the plan
	Range     *int   `json:"range,omitempty"`     // zero-based, of the operation
	Key       string `json:"key,omitempty"`
	Used      *int64 `json:"used,omitempty"`  // bytes, of a quota
	Limit     *int64 `json:"limit,omitempty"` // bytes, of a quota
}

// kinds is the contract for errors: status and the last part of the type of each. Their texts are
// made for clients, unless they name files of the server: then the kind's own text stands.
var kinds = []struct {
	err    error
	status int
	kind   string
}{
	{repo.ErrDetached, http.StatusServiceUnavailable, "detached"},
	{repo.ErrVanished, http.StatusGone, "vanished"},
	{repo.ErrNoRepository, http.StatusNotFound, "no-repository"},
	{repo.ErrNotFound, http.StatusNotFound, "not-found"},
	{repo.ErrExists, http.StatusConflict, "exists"},
	{repo.ErrIsDir, http.StatusConflict, "is-a-directory"},
	{repo.ErrNotDir, http.StatusConflict, "not-a-directory"},
	{repo.ErrNotEmpty, http.StatusConflict, "not-empty"},
	{repo.ErrConflict, http.StatusConflict, "conflict"},
	{repo.ErrLocked, http.StatusLocked, "locked"},
	{repo.ErrQuota, http.StatusInsufficientStorage, "quota"},
	{repo.ErrDenied, http.StatusForbidden, "denied"},
	{repo.ErrDigest, http.StatusUnprocessableEntity, "digest"},
	{repo.ErrIncomplete, http.StatusBadRequest, "incomplete"},
	{repo.ErrInvalid, http.StatusBadRequest, "invalid"},
	{repo.ErrTooLarge, http.StatusRequestEntityTooLarge, "too-large"},
	{repo.ErrRange, http.StatusUnprocessableEntity, "range"},
	{repo.ErrAlgorithm, http.StatusBadRequest, "algorithm"},
	{repo.ErrNewer, http.StatusUnprocessableEntity, "newer"},
	{repo.ErrLoss, http.StatusServiceUnavailable, "loss"},
	{repo.ErrDamaged, http.StatusUnprocessableEntity, "damaged"},
	{repo.ErrCorrupt, http.StatusUnprocessableEntity, "corrupt"},
	{repo.ErrReadOnlyDisk, http.StatusServiceUnavailable, "read-only-disk"},
	{repo.ErrReadOnly, http.StatusServiceUnavailable, "read-only"},
	{repo.ErrNoSpace, http.StatusInsufficientStorage, "no-space"},
	{repo.ErrBusy, http.StatusServiceUnavailable, "busy"},
	{repo.ErrForeign, http.StatusConflict, "foreign"},
	{repo.ErrDialect, http.StatusConflict, "dialect"},
}

// statusError is an error of this package with its status.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", repo.ErrInvalid, fmt.Sprintf(format, args...))
}

// describe makes the problem of an error.
func describe(err error) Problem {
	p := Problem{Type: "about:blank", Status: http.StatusInternalServerError, Detail: api.InternalError}
	var own *statusError
	if errors.As(err, &own) {
		p.Status, p.Detail = own.status, own.text
	}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			p.Type, p.Status, p.Detail = "urn:packhouse:problem:"+k.kind, k.status, err.Error()
			if namesFile(err) || k.err == repo.ErrForeign || k.err == repo.ErrDetached {
				p.Detail = k.err.Error()
			}
			break
		}
	}
	p.Title = http.StatusText(p.Status)
	var plan *compact.PlanError
	if errors.As(err, &plan) {
		p.Key = plan.Key
		if plan.Operation >= 0 {
			p.Operation = &plan.Operation
		}
		if plan.Range >= 0 {
			p.Range = &plan.Range
		}
	}
	p.Detail, p.Key = shorten(p.Detail), shorten(p.Key)
	var quota *repo.QuotaError
	if errors.As(err, &quota) {
		p.Used, p.Limit = &quota.Used, &quota.Limit
	}
	if trash, ok := errors.AsType[*repo.TrashError](err); ok {
		p.Used, p.Limit = &trash.Trash, &trash.Limit
	}
	return p
}

// longest is how many bytes of an error's text an answer has: enough for a position in a plan and the longest key.
const longest = 2 << 10

// shorten bounds what an answer repeats of a request.
func shorten(text string) string {
	if len(text) <= longest {
		return text
	}
	return strings.ToValidUTF8(text[:longest], "") + "…"
}

// namesFile tells whether an error's text has the path of a file of the server.
func namesFile(err error) bool {
	var path *fs.PathError
	var link *os.LinkError
	return errors.As(err, &path) || errors.As(err, &link)
}

// problem answers with an error.
func (q *request) problem(err error) {
	p := describe(err)
	api.RecordGone(q.Request, err)
	var foreign *repo.ForeignError
	var detached *repo.DetachedError
	switch trusted := api.IsTrusted(q.Context()); { // whoever owns the disk may know what lies there
	case trusted && errors.As(err, &foreign):
		p.Detail = shorten(foreign.Error())
	case trusted && errors.As(err, &detached):
		p.Detail = shorten(detached.Error())
	}
	body, marshalErr := json.Marshal(p)
	if marshalErr != nil {
		body = []byte("{}") // plain fields always encode
	}
	if p.Status == http.StatusServiceUnavailable {
		q.w.Header().Set("Retry-After", "10")
	}
	api.WriteBytes(q.w, q.Request, p.Status, "application/problem+json", append(body, '\n'))
}
