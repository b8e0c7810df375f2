package borgstore

import (
	"errors"
	"fmt"
	"net/http"

	"packhouse/api"
	"packhouse/compact"
	"packhouse/repo"
)

// errorTable is the dialect's contract for errors. Source: borgstore-rest 2.4 and 3.12, which says what
// clients make of a status: 400 is a ValueError whose text the user sees, so it stands where the
// reference's 500 tells nothing; 409 would mean "repository exists", 410 "repository missing". A damaged object is 412, a
// BackendError whose text the user sees, too: of all statuses but 404 borg ends its command, and after 404 it writes zeros
// into the file that it restores and goes on.
var errorTable = api.ErrorTable{
	{Err: repo.ErrDetached, Status: http.StatusServiceUnavailable, Text: "the server's data directory is missing or not the one that was opened; try again later"},
	{Err: repo.ErrNoRepository, Status: http.StatusGone, Text: "repository does not exist; create it first"},
	{Err: repo.ErrForeign, Status: http.StatusConflict, Text: "the directory is not a Packhouse repository; see the server's log"},
	{Err: repo.ErrDialect, Status: http.StatusBadRequest},
	{Err: repo.ErrNotFound, Status: http.StatusNotFound},
	{Err: repo.ErrExists, Status: http.StatusConflict, Text: "repository exists and is not empty"},
	{Err: repo.ErrIsDir, Status: http.StatusBadRequest},
	{Err: repo.ErrNotDir, Status: http.StatusBadRequest},
	{Err: repo.ErrNotEmpty, Status: http.StatusBadRequest},
	{Err: repo.ErrConflict, Status: http.StatusServiceUnavailable, Text: "the object was changed by another request; try again"},
	{Err: repo.ErrLocked, Status: http.StatusLocked},
	{Err: repo.ErrQuota, Status: http.StatusInsufficientStorage},
	{Err: repo.ErrDenied, Status: http.StatusForbidden},
	{Err: repo.ErrDigest, Status: http.StatusUnprocessableEntity, Text: "Content hash verification failed, please retry"},
	{Err: repo.ErrIncomplete, Status: http.StatusBadRequest, Text: "the request's body ended early; nothing was stored"},
	{Err: repo.ErrTooLarge, Status: http.StatusRequestEntityTooLarge},
	{Err: repo.ErrRange, Status: http.StatusRequestedRangeNotSatisfiable},
	{Err: repo.ErrAlgorithm, Status: http.StatusBadRequest},
	{Err: repo.ErrDamaged, Status: http.StatusPreconditionFailed, Text: api.DamagedText},
	{Err: repo.ErrNewer, Status: http.StatusPreconditionFailed, Text: api.NewerText},
	{Err: repo.ErrLoss, Status: http.StatusServiceUnavailable, Text: api.LossText},
	{Err: repo.ErrCorrupt, Status: http.StatusInternalServerError, Text: "the stored bytes are damaged; see the server's log"},
	{Err: repo.ErrReadOnlyDisk, Status: http.StatusForbidden, Text: "the server's file system is read-only: the repository can be read but not written"},
	{Err: repo.ErrReadOnly, Status: http.StatusServiceUnavailable, Text: "the repository is read-only after a disk error; see the server's log"},
	{Err: repo.ErrNoSpace, Status: http.StatusInsufficientStorage, Text: "no space left on the server: delete or compact first"},
	{Err: repo.ErrBusy, Status: http.StatusServiceUnavailable, Text: "the repository is busy or the server is stopping; try again"},
	{Err: repo.ErrInvalid, Status: http.StatusBadRequest},
}

// statusError is an answer that no error of the repository stands for.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

func badRequest(format string, args ...any) error {
	return &statusError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// namedError gives an error of the repository the text that the protocol has for it: what it is about.
type namedError struct {
	text string
	err  error
}

func (e *namedError) Error() string { return e.text }
func (e *namedError) Unwrap() error { return e.err }

// about puts the name, as the client sent it, into errors that do not carry it.
func about(name string, err error) error {
	name = printable(name)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, repo.ErrNotFound):
		return &namedError{name, err}
	case errors.Is(err, repo.ErrIsDir):
		return &namedError{"this is a directory, not an object: " + name, err}
	case errors.Is(err, repo.ErrNotDir):
		return &namedError{"an object stands where a directory is needed: " + name, err}
	case errors.Is(err, repo.ErrNotEmpty):
		return &namedError{"the directory is not empty: " + name, err}
	case errors.Is(err, repo.ErrTooLarge):
		return &namedError{"the object is larger than the server accepts: " + name, err}
	}
	return err
}

// aboutPlan does the same for the errors of a plan.
func aboutPlan(err error) error {
	var plan *compact.PlanError
	if !errors.As(err, &plan) {
		return err
	}
	if short, ok := errors.AsType[*repo.ShortError](err); ok {
		return &statusError{http.StatusInsufficientStorage, short.Error()}
	}
	name := printable(plan.Key)
	switch {
	case errors.Is(err, repo.ErrDamaged):
		// Of a defrag borg knows this error to mean damage, and says so.
		return &statusError{http.StatusRequestedRangeNotSatisfiable, name + ": " + api.DamagedText}
	case errors.Is(err, repo.ErrRange) && plan.Range >= 0:
		return &namedError{rangeText(name, plan.Want, plan.Offset, plan.Got), err}
	case errors.Is(err, repo.ErrQuota), errors.Is(err, repo.ErrDenied):
		return plan.Err // its text is the protocol's
	case errors.Is(err, repo.ErrInvalid) && plan.Range >= 0 && plan.Offset < 0:
		return &namedError{fmt.Sprintf("Read range error from %s (offset %d is before the start)", name, plan.Offset), repo.ErrRange}
	}
	return about(plan.Key, err)
}

func rangeText(name string, want, offset, got int64) string {
	return fmt.Sprintf("Read range error from %s (requested %d bytes at offset %d, got %d)", printable(name), want, offset, got)
}

// notBelow makes of a name below an object what it is for whoever reads or deletes: missing.
func notBelow(name string, err error) error {
	if errors.Is(err, repo.ErrNotDir) {
		err = repo.ErrNotFound
	}
	return about(name, err)
}
