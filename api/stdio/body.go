package stdio

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http/httputil"
	"strings"
)

// body is what follows a request's head.
type body struct {
	r       *request
	in      *bufio.Reader
	kept    []byte    // all of a small body; can be sent again
	started bool      // bytes of a large one have been taken from in
	rest    int64     // bytes of it that have not been
	chunks  io.Reader // what a chunked one still has; nil: none of it was taken
}

// inputError is an error of the client's side.
type inputError struct{ err error }

func (e *inputError) Error() string { return e.err.Error() }

// copyTo sends a body that is not kept.
func (b *body) copyTo(w io.Writer) error {
	if b.r.length < 0 {
		b.started = true
		return b.copyChunks(w)
	}
	b.start()
	buffer := make([]byte, 256<<10)
	for b.rest > 0 {
		n, err := b.in.Read(buffer[:min(int64(len(buffer)), b.rest)])
		b.rest -= int64(n)
		if _, writeErr := w.Write(buffer[:n]); writeErr != nil {
			return writeErr
		}
		if err != nil && b.rest > 0 {
			return &inputError{unexpected(err)}
		}
	}
	return nil
}

func (b *body) start() {
	if !b.started {
		b.started, b.rest = true, b.r.length
	}
}

// decoded reads a chunked body, from where it was left.
func (b *body) decoded() io.Reader {
	if b.chunks == nil {
		b.chunks = httputil.NewChunkedReader(b.in)
	}
	return b.chunks
}

// copyChunks forwards a chunked body in new chunks.
func (b *body) copyChunks(w io.Writer) error {
	buffer := make([]byte, 64<<10)
	for {
		n, err := b.decoded().Read(buffer)
		if n > 0 {
			if _, writeErr := fmt.Fprintf(w, "%x\r\n%s\r\n", n, buffer[:n]); writeErr != nil {
				return writeErr
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return &inputError{malformedChunk(err)}
		}
	}
	if err := b.trailer(); err != nil {
		return &inputError{err}
	}
	b.r.length = 0 // nothing is left to drain
	_, err := io.WriteString(w, "0\r\n\r\n")
	return err
}

// trailer reads what follows the last chunk, up to the empty line.
func (b *body) trailer() error {
	for {
		line, err := b.in.ReadString('\n')
		if err != nil {
			return unexpected(err)
		}
		if strings.TrimRight(line, "\r\n") == "" {
			return nil
		}
	}
}

// drain reads and discards the rest of the body.
func (b *body) drain() error {
	if b.r.length < 0 {
		if _, err := io.Copy(io.Discard, b.decoded()); err != nil {
			return malformedChunk(err)
		}
		return b.trailer()
	}
	if b.kept != nil {
		return nil
	}
	b.start()
	n, err := io.CopyN(io.Discard, b.in, b.rest)
	b.rest -= n
	if err != nil {
		return unexpected(err)
	}
	return nil
}

// malformedChunk names what is wrong with a chunked body: unlike its end before time, that is an error.
func malformedChunk(err error) error {
	if err = unexpected(err); errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return fmt.Errorf("%w: %v", ErrInput, err)
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
