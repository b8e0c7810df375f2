package restic

import (
	"net/http"

	"packhouse/api"
	"packhouse/repo"
)

// statusError is an answer that no error of a repository stands for.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

var (
	errPath = &statusError{http.StatusNotFound, "there is nothing of restic's protocol at this path"}
	// errConfig is for a client that could not store its config, and deletes what lies there.
	errConfig = &statusError{http.StatusForbidden, "config is deleted under a lock only, as by restic migrate: another client may have just stored it"}
)

// table is this dialect's contract for errors. Clients repeat a request for a quarter of an hour, unless it is 401, 403, 404 or 507. After 404 of
// an object they call it missing, after 404 of a listing empty. They show the status and its reason phrase alone; the text is for people with
// curl, and for the log. Source: restic-rest 1.4, 4.6.
var table = api.ErrorTable{
	// For a client it would be an empty one.
	{Err: repo.ErrVanished, Status: http.StatusInternalServerError, Text: "the repository is not there any more; tell the server's administrator"},
	{Err: repo.ErrDetached, Status: http.StatusServiceUnavailable, Text: "the server's data directory is missing or not the one that was opened; try again later"},
	{Err: repo.ErrNoRepository, Status: http.StatusNotFound, Text: "there is no such repository; restic init creates it"},
	{Err: repo.ErrForeign, Status: http.StatusForbidden, Text: "the directory is not a Packhouse repository; see the server's log"},
	{Err: repo.ErrDialect, Status: http.StatusForbidden},
	{Err: repo.ErrNotFound, Status: http.StatusNotFound, Text: "not found"},
	{Err: repo.ErrExists, Status: http.StatusForbidden, Text: "other bytes are stored under this name, which are not replaced"},
	{Err: repo.ErrConflict, Status: http.StatusServiceUnavailable, Text: "the object was changed by another request; try again"},
	{Err: repo.ErrQuota, Status: http.StatusInsufficientStorage},
	{Err: repo.ErrDenied, Status: http.StatusForbidden},
	{Err: repo.ErrDigest, Status: http.StatusBadRequest, Text: "the SHA-256 of the body is not the name; nothing was stored"},
	{Err: repo.ErrIncomplete, Status: http.StatusBadRequest, Text: "the request's body ended early; nothing was stored"},
	{Err: repo.ErrTooLarge, Status: http.StatusForbidden, Text: "larger than the maximum size of an object"},
	{Err: repo.ErrRange, Status: http.StatusRequestedRangeNotSatisfiable, Text: "invalid range"},
	{Err: repo.ErrDamaged, Status: http.StatusForbidden, Text: api.DamagedText},
	{Err: repo.ErrNewer, Status: http.StatusForbidden, Text: api.NewerText},
	{Err: repo.ErrLoss, Status: http.StatusServiceUnavailable, Text: api.LossText},
	{Err: repo.ErrCorrupt, Status: http.StatusInternalServerError, Text: "the stored bytes are damaged; see the server's log"},
	{Err: repo.ErrReadOnlyDisk, Status: http.StatusForbidden, Text: "the server's file system is read-only: the repository can be read but not written"},
	{Err: repo.ErrReadOnly, Status: http.StatusServiceUnavailable, Text: "the repository is read-only after a disk error; see the server's log"},
	{Err: repo.ErrNoSpace, Status: http.StatusInsufficientStorage, Text: "no space left on the server: forget and prune still work"},
	{Err: repo.ErrBusy, Status: http.StatusServiceUnavailable, Text: "the repository is busy or the server is stopping; try again"},
	{Err: repo.ErrInvalid, Status: http.StatusForbidden},
}
