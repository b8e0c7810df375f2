package api

import (
	"context"
	"errors"
	"net/http"

	"packhouse/repo"
)

// ErrorRow is how a dialect answers one error.
type ErrorRow struct {
	Err    error
	Status int
	// Text is the body. Empty: the error's own text, for errors whose text is made for clients and
	// cannot name a file of the server.
	Text string
}

// ErrorTable maps errors to answers: the first row that matches, by errors.Is, is used.
type ErrorTable []ErrorRow

// InternalError is the body for errors that no row matches.
const InternalError = "internal server error; see the server's log"

// Texts that dialects send for damaged and missing items; they name the command that helps.
const (
	DamagedText = `the stored bytes are damaged; with "packhouse repo salvage" the server's administrator can have them sent as they are`
	NewerText   = `a newer version of the server stored this, and this one cannot read it; tell the server's administrator to start that version again`
	LossText    = `too many files of this repository are missing; tell the server's administrator: "packhouse check" names them`
)

// Find returns the status and body for err. An error that no row matches is a 500 with a fixed body, because its text may name
// files of the server. An error caused by the end of a client's connection is a 503 that nobody reads. For a damaged index
// the text names the command that repairs it, for a disk without space what would free some.
func (t ErrorTable) Find(err error) (status int, text string) {
	for _, row := range t {
		if errors.Is(err, row.Err) {
			if damage, ok := errors.AsType[*repo.IndexError](err); ok && row.Err == repo.ErrCorrupt {
				return row.Status, damage.Error() // it is not about the bytes of one item
			}
			if space, ok := errors.AsType[*repo.SpaceError](err); ok && row.Err == repo.ErrNoSpace {
				return row.Status, space.Error() // it says what would help
			}
			if guard, ok := errors.AsType[*repo.GuardError](err); ok && row.Err == repo.ErrDenied {
				return row.Status, guard.Error() // it says until when, and who can lift it
			}
			if row.Text != "" {
				return row.Status, row.Text
			}
			return row.Status, err.Error()
		}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return http.StatusServiceUnavailable, "the request was cancelled"
	}
	return http.StatusInternalServerError, InternalError
}

// Has reports whether the table has its own row for err.
func (t ErrorTable) Has(err error) bool {
	for _, row := range t {
		if row.Err == err {
			return true
		}
	}
	return false
}

// WriteError answers with the table's row for err, after reading the rest of the body, and records the reason for the log. Names
// of files in the directory are sent only over the trusted server, whose clients have access to the directory itself.
func (t ErrorTable) WriteError(w http.ResponseWriter, r *http.Request, log *Record, err error) {
	status, text := t.Find(err)
	log.Reason = err.Error()
	RecordGone(r, err)
	var foreign *repo.ForeignError
	if errors.As(err, &foreign) && IsTrusted(r.Context()) {
		text = foreign.Error()
	}
	WriteText(w, r, status, text)
}
