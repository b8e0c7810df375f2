package vger

import (
	"errors"
	"io"
	"net/http"

	"packhouse/repo"
)

// errBody refuses a plan, key list or lock request whose text is too long.
var errBody = status(http.StatusRequestEntityTooLarge, "Failed to buffer the request body: length limit exceeded")

// planBody is the body of an admin request as a JSON text, bounded.
func (x *exchange) planBody() (*jsonStream, error) {
	if x.r.ContentLength > x.d.o.Limits.AdminBody {
		return nil, errBody
	}
	return newJSONStream(&boundedReader{x.body, x.d.o.Limits.AdminBody}), nil
}

// boundedReader ends with errBody where a LimitedReader would end as if all were well.
type boundedReader struct {
	r    io.Reader
	left int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errBody
	}
	return n, err
}

// planError makes an answer of an error of the text: what names it in the contract's words, else as it is.
func planError(what string, err error) error {
	var syntax *syntaxError
	var own *statusError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &syntax):
		return badRequest("invalid %s: %v", what, syntax)
	case errors.As(err, &own):
		return err
	}
	return repo.ErrIncomplete
}
