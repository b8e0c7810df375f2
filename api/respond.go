package api

import (
	"io"
	"net/http"
	"strconv"

	"packhouse/blobstore"
	"packhouse/repo"
)

// WriteText answers with a short text, after reading the rest of the request's body so that the connection stays usable. An empty
// text is a response without Content-Type.
func WriteText(w http.ResponseWriter, r *http.Request, status int, text string) {
	kind := "text/plain; charset=utf-8"
	if text == "" {
		kind = ""
	}
	WriteBytes(w, r, status, kind, []byte(text))
}

// WriteBytes answers with a body of a media type ("": none), after reading the rest of the request's body.
func WriteBytes(w http.ResponseWriter, r *http.Request, status int, kind string, body []byte) {
	Finish(w, r)
	header := w.Header()
	if kind == "" {
		header["Content-Type"] = nil // keeps net/http from guessing
	} else {
		header.Set("Content-Type", kind)
		header.Set("X-Content-Type-Options", "nosniff")
	}
	if status != http.StatusNoContent {
		header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(status)
	if r.Method != http.MethodHead && len(body) > 0 {
		// An error means that the client is gone; the request log says so by the bytes it counts.
		_, _ = w.Write(body)
	}
}

// Finish reads the rest of the request's body, as far as the limits allow. If more is left, the connection is closed. A client
// that waits for "100 Continue" has sent nothing, and is not told to.
func Finish(w http.ResponseWriter, r *http.Request) {
	b, ours := r.Body.(*body)
	if ours && b.expects && !b.read {
		return
	}
	if ours && !b.drained() || !ours && !Drain(r.Body, 1<<30) {
		w.Header().Set("Connection", "close")
	}
}

// Drain reads body to its end, at most limit bytes. It returns false if bytes are left or the client has disconnected.
func Drain(body io.Reader, limit int64) bool {
	if body == nil || body == http.NoBody {
		return true
	}
	n, err := io.Copy(io.Discard, io.LimitReader(body, limit+1))
	return err == nil && n <= limit
}

// SendObject answers with length bytes of an item from offset, by sendfile if they are not checked and the connection permits
// it, and with headers only for HEAD. The caller has set the other headers, and closes the object. If bytes cannot be read, the
// connection is closed, so that the client notices.
func SendObject(w http.ResponseWriter, r *http.Request, status int, o *repo.Object, offset, length int64) error {
	section, err := o.Section(offset, length)
	if err != nil {
		return err
	}
	return SendReader(w, r, status, section, length)
}

// beginner is a body that can read its first bytes before any is sent, and so tell in time that they cannot be sent.
type beginner interface{ Begin() error }

var _ beginner = (*blobstore.Section)(nil)

// SendReader answers with length bytes of body. If there are fewer, the connection is closed, so that the client notices. An error of a
// beginner's first bytes is returned, and nothing is sent.
func SendReader(w http.ResponseWriter, r *http.Request, status int, body io.Reader, length int64) error {
	if first, ok := body.(beginner); ok && r.Method != http.MethodHead {
		if err := first.Begin(); err != nil {
			return err
		}
	}
	Finish(w, r)
	w.Header().Set("Content-Length", strconv.FormatInt(length, 10))
	w.WriteHeader(status)
	if r.Method == http.MethodHead || length == 0 {
		return nil
	}
	n, err := io.Copy(w, body)
	if n < length {
		Cut(r, err)
	}
	return nil
}

// Cut ends a response that cannot be completed: it closes the connection and does not return. err is for the log.
func Cut(r *http.Request, err error) {
	recordCut(r, err)
	panic(http.ErrAbortHandler)
}
