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

// ErrorTable is a dialect's contract for errors: the first row that matches, by errors.Is, decides.
type ErrorTable []ErrorRow

// InternalError is the body of what no row matches.
const InternalError = "internal server error; see the server's log"

// Texts of what a dialect says of lost bytes: they name the command that helps.
const (
	DamagedText = `the stored bytes are damaged; while "packhouse repo salvage" is on, the server sends what is left of them`
	LossText    = `too many files of this repository are missing; the server's administrator must look: "packhouse check" says which`
)

// Find returns the status and body for err. An error in no row is a 500 with a fixed body, since its
// text may name files of the server; so is what the end of a client's connection caused,
// as nobody reads that answer. A damaged index is named, with what mends it.
func (t ErrorTable) Find(err error) (status int, text string) {
	for _, row := range t {
		if errors.Is(err, row.Err) {
			if damage, ok := errors.AsType[*repo.IndexError](err); ok && row.Err == repo.ErrCorrupt {
				return row.Status, damage.Error() // it is not about the bytes of one item
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

// Has tells whether the table has a row of its own for err.
func (t ErrorTable) Has(err error) bool {
	for _, row := range t {
		if row.Err == err {
			return true
		}
	}
	return false
}

// WriteError answers with the table's row for err, after reading what is left of the body, and
// notes the reason for the log. Foreign files are named on the trusted side only: whoever comes that way has
// the directory itself.
func (t ErrorTable) WriteError(w http.ResponseWriter, r *http.Request, log *Record, err error) {
	status, text := t.Find(err)
	log.Reason = err.Error()
	var foreign *repo.ForeignError
	if errors.As(err, &foreign) && IsTrusted(r.Context()) {
		text = foreign.Error()
	}
	WriteText(w, r, status, text)
}
