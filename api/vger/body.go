package vger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"packhouse/internal/jsonstream"
	"packhouse/repo"
)

// errBody refuses a plan, key list or lock request whose text is too long.
var errBody = status(http.StatusRequestEntityTooLarge, "Failed to buffer the request body: length limit exceeded")

// planBody is the body of an admin request as a JSON text, bounded. What is kept of a text is less than the text,
// but many large ones at once would be more than memory: they wait for each other.
func (x *request) planBody() (*jsonstream.Reader, error) {
	limit := x.d.o.Limits.AdminBody
	if x.r.ContentLength > limit {
		return nil, errBody
	}
	size := x.r.ContentLength
	if size < 0 {
		size = limit
	}
	size = min(size, x.d.o.Limits.PlanTexts)
	ctx, cancel := context.WithTimeout(x.r.Context(), cmp.Or(x.t.Limits.Wait, 25*time.Second))
	defer cancel()
	if x.d.texts.Acquire(ctx, size) != nil {
		return nil, fmt.Errorf("too many large plans at once: %w", repo.ErrBusy)
	}
	x.text = size
	return jsonstream.New(&boundedReader{x.body, limit}), nil
}

// forgetText frees memory for the texts of others when only kept bytes of this one are left.
func (x *request) forgetText(kept int64) {
	if kept < x.text {
		x.d.texts.Release(x.text - kept)
		x.text = kept
	}
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
	var syntax *jsonstream.Error
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
