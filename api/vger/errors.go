package vger

import (
	"errors"
	"fmt"
	"net/http"

	"packhouse/api"
	"packhouse/repo"
)

// statusError is an answer: a status and the line of text that goes with it.
type statusError struct {
	code int
	text string // may be empty
}

func (e *statusError) Error() string {
	if e.text == "" {
		return http.StatusText(e.code)
	}
	return e.text
}

func status(code int, format string, args ...any) error {
	return &statusError{code, fmt.Sprintf(format, args...)}
}

func badRequest(format string, args ...any) error {
	return status(http.StatusBadRequest, format, args...)
}

// errPath refuses a name that is no key.
var errPath = badRequest("invalid path")

// table is this dialect's contract for errors: 4xx for what stays wrong, 5xx for what a
// retry may cure, as clients retry every 5xx for about 70 s and no 4xx.
var table = api.ErrorTable{
	{Err: repo.ErrDetached, Status: http.StatusServiceUnavailable, Text: "the server's data directory is missing or not the one that was opened, retry later"},
	{Err: repo.ErrNoRepository, Status: http.StatusNotFound, Text: "no such repository"},
	{Err: repo.ErrNotFound, Status: http.StatusNotFound, Text: "not found"},
	{Err: repo.ErrExists, Status: http.StatusConflict, Text: "already exists"},
	{Err: repo.ErrIsDir, Status: http.StatusConflict, Text: "the name is a directory"},
	{Err: repo.ErrNotDir, Status: http.StatusConflict, Text: "an object stands where a directory is needed"},
	{Err: repo.ErrNotEmpty, Status: http.StatusConflict, Text: "directory not empty"},
	{Err: repo.ErrConflict, Status: http.StatusConflict, Text: "the object was changed by another request"},
	{Err: repo.ErrLocked, Status: http.StatusConflict, Text: "locked by another client"},
	{Err: repo.ErrQuota, Status: http.StatusRequestEntityTooLarge, Text: "quota exceeded"},
	{Err: repo.ErrDenied, Status: http.StatusForbidden, Text: "not allowed"},
	{Err: repo.ErrDigest, Status: http.StatusConflict},
	{Err: repo.ErrIncomplete, Status: http.StatusBadRequest, Text: "body ended early"},
	{Err: repo.ErrInvalid, Status: http.StatusBadRequest, Text: "invalid path"},
	{Err: repo.ErrTooLarge, Status: http.StatusRequestEntityTooLarge, Text: "larger than the maximum size of an object"},
	{Err: repo.ErrRange, Status: http.StatusRequestedRangeNotSatisfiable, Text: "range beyond file size"},
	{Err: repo.ErrAlgorithm, Status: http.StatusBadRequest, Text: "unsupported hash algorithm"},
	// Not repeated, and not taken for a pack that is not there.
	{Err: repo.ErrDamaged, Status: http.StatusUnprocessableEntity, Text: api.DamagedText},
	{Err: repo.ErrNewer, Status: http.StatusUnprocessableEntity, Text: api.NewerText},
	{Err: repo.ErrLoss, Status: http.StatusServiceUnavailable, Text: api.LossText},
	{Err: repo.ErrCorrupt, Status: http.StatusInternalServerError, Text: "the stored bytes of this object are damaged; tell the server's administrator"},
	{Err: repo.ErrReadOnlyDisk, Status: http.StatusForbidden, Text: "the server's file system is read-only: objects can be read but not written"},
	{Err: repo.ErrReadOnly, Status: http.StatusServiceUnavailable, Text: "repository is read-only after a disk error"},
	{Err: repo.ErrNoSpace, Status: http.StatusRequestEntityTooLarge, Text: "no space left on the server: prune and compact still work"},
	{Err: repo.ErrBusy, Status: http.StatusServiceUnavailable, Text: "busy, retry later"},
	{Err: repo.ErrForeign, Status: http.StatusConflict, Text: "data directory contains unexpected entries; see the server's log"},
	{Err: repo.ErrDialect, Status: http.StatusConflict},
}

// answer gives the status and the text for an error.
func answer(err error) (code int, text string) {
	var own *statusError
	if errors.As(err, &own) {
		return own.code, own.text
	}
	var denied *repo.DeniedError
	if errors.As(err, &denied) {
		return http.StatusForbidden, deniedText(denied)
	}
	code, text = table.Find(err)
	if text == api.InternalError {
		text = "internal server error" // the one text clients know
	}
	return code, text
}

// deniedText says what the principal lacks, in the words the reference has for append-only mode.
func deniedText(e *repo.DeniedError) string {
	switch {
	case e.Exists || e.Letters == "W":
		return "append-only: cannot overwrite immutable object"
	case e.Letters == "D":
		return "append-only: delete not allowed"
	}
	return "not allowed with this token"
}
