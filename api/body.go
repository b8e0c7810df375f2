package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"

	"packhouse/repo"
)

// errBodyTooLarge is returned to the server's own handlers (not to dialects) when a body exceeds its limit.
var errBodyTooLarge error = tooLarge{}

type tooLarge struct{}

func (tooLarge) Error() string        { return "the request's body is larger than allowed" }
func (tooLarge) Is(target error) bool { return target == repo.ErrTooLarge }

// body is the body of a request. It limits how long a body may make no progress, and records how much was read. Its methods may be
// called by several goroutines, as net/http allows.
type body struct {
	rc        *http.ResponseController
	src       io.ReadCloser
	stall     time.Duration
	pace      pace
	announced int64 // Content-Length; negative: none
	drain     int64 // bytes worth reading of a body that is refused
	limit     int64 // bytes; negative: none
	expects   bool  // the client waits for "100 Continue"

	mu    sync.Mutex // held over one Read
	n     int64      // bytes read
	read  bool       // a Read has begun
	until time.Time  // when the wait for the rest ends in any case; zero: it lasts while something moves
	end   error      // what ended it: io.EOF, or why nothing can come any more
}

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.end != nil {
		return 0, b.end
	}
	if b.limit >= 0 && b.n > b.limit {
		return 0, errBodyTooLarge
	}
	deadline := time.Now().Add(b.stall)
	if b.expects && !b.read {
		_ = b.rc.SetWriteDeadline(deadline) // reading sends "100 Continue"
	}
	b.read = true
	if !b.until.IsZero() && b.until.Before(deadline) {
		deadline = b.until
	}
	// Connections without deadlines (of tests) have none to set.
	_ = b.rc.SetReadDeadline(deadline)
	began := b.pace.now()
	n, err := b.src.Read(p)
	b.n += int64(n)
	if slow := b.pace.step(n, began); err == nil {
		err = slow
	}
	if b.end = err; err == io.EOF {
		// Behind the body net/http waits for the connection's end: a deadline that is left would
		// pass for one.
		_ = b.rc.SetReadDeadline(time.Time{})
	} else if err != nil {
		// net/http reads on before it closes the connection, and without a deadline it would wait for ever.
		_ = b.rc.SetReadDeadline(time.Now())
	}
	return n, err
}

// drained reads what is left when an answer is due; false: something is left, or cannot come. It does not begin
// with what it would not end.
func (b *body) drained() bool {
	b.mu.Lock()
	if b.announced-b.n > b.drain {
		b.mu.Unlock()
		return false
	}
	b.limit = -1
	if b.drain == strangerDrain {
		b.until = time.Now().Add(strangerWait)
	}
	b.mu.Unlock()
	return Drain(b, b.drain)
}

func (b *body) Close() error { return b.src.Close() }

// received is the number of bytes read so far.
func (b *body) received() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.n
}

// broken tells whether the client ended the connection before the body.
func (b *body) broken() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Is(b.end, io.ErrUnexpectedEOF) || errors.Is(b.end, syscall.ECONNRESET) || errors.Is(b.end, syscall.EPIPE)
}

// leave limits what net/http reads of the rest of the body after the handler.
func (b *body) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	wait := min(b.stall, 10*time.Second)
	if b.expects && !b.read {
		wait = 0 // it waits for us and sends nothing
	}
	if b.end == nil {
		_ = b.rc.SetReadDeadline(time.Now().Add(wait))
	}
}

// response counts the bytes that are sent, and limits how long the client may make no progress. It passes on what the connection
// supports (sendfile, Flush). When the server stops it tells the client that the connection will be closed.
type response struct {
	http.ResponseWriter
	rc     *http.ResponseController
	conn   *conn // nil: not known
	stall  time.Duration
	pace   pace
	stop   <-chan struct{} // closed when the server stops
	status int
	n      int64 // bytes of body
	cut    error // why the response ended before its length
}

// sendStep is the number of bytes whose sending may take up to the stall time: a slow connection must only make some progress.
const sendStep = 256 << 10

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *response) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
		w.closeLast()
	}
	// Headers without a body are sent when the handler has returned, under the deadline that is set last.
	w.extend()
	w.ResponseWriter.WriteHeader(status)
}

// extend gives the client time for what is sent next, where the connection does not do that itself.
func (w *response) extend() {
	if w.conn == nil {
		_ = w.rc.SetWriteDeadline(time.Now().Add(w.stall)) // connections of tests may have no deadlines
	}
}

func (w *response) began() {
	if w.status == 0 {
		w.status = http.StatusOK
		w.closeLast()
	}
}

// closeLast makes this the connection's last response if the server stops: the next request is for a new connection, which
// whoever holds the listening socket keeps for the next process.
func (w *response) closeLast() {
	select {
	case <-w.stop:
		w.Header().Set("Connection", "close")
	default:
	}
}

// Write sends p in steps, each with its own deadline.
func (w *response) Write(p []byte) (total int, err error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.whole(len(p)) {
		err = w.conn.together(func() error {
			total, err = w.step(p)
			return cmp.Or(err, w.rc.Flush())
		})
		return total, err
	}
	for {
		n, err := w.step(p[total:min(len(p), total+sendStep)])
		total += n
		if err != nil || total == len(p) {
			return total, err
		}
	}
}

// whole tells whether n bytes are a whole body that net/http would send in two parts, and worth to be sent in one.
func (w *response) whole(n int) bool {
	const buffered = 2 << 10 // fits into net/http's buffer with most headers
	return w.conn != nil && w.n == 0 && n > buffered && n <= sendStep && w.Header().Get("Content-Length") == strconv.Itoa(n)
}

func (w *response) step(p []byte) (int, error) {
	w.extend()
	began := w.pace.now()
	n, err := w.ResponseWriter.Write(p)
	w.n += int64(n)
	if slow := w.pace.step(n, began); err == nil {
		err = slow
	}
	return n, err
}

// ReadFrom sends src in steps, each with its own deadline, in the form in which net/http uses sendfile.
func (w *response) ReadFrom(src io.Reader) (total int64, err error) {
	w.began()
	to, ok := w.ResponseWriter.(io.ReaderFrom)
	if !ok {
		return io.Copy(onlyWriter{w}, src)
	}
	whole, ok := src.(*io.LimitedReader)
	if !ok {
		whole = &io.LimitedReader{R: src, N: 1<<63 - 1}
	}
	for whole.N > 0 {
		w.extend()
		step := &io.LimitedReader{R: whole.R, N: min(whole.N, sendStep)}
		want := step.N
		began := w.pace.now()
		n, err := to.ReadFrom(step)
		total += n
		w.n += n
		whole.N -= n
		if slow := w.pace.step(int(n), began); err == nil {
			err = slow
		}
		if err != nil || n < want {
			return total, err
		}
	}
	return total, nil
}

// Flush sends buffered bytes.
func (w *response) Flush() {
	w.began()
	w.extend()
	_ = w.rc.Flush()
}

type onlyWriter struct{ io.Writer }

// contextKey is the key of the server's values in a request's context.
type contextKey int

const (
	stateKey contextKey = iota
	principalKey
	connectionKey // of *connectionOf
)

// recordCut stores why a response ended early, for the request log.
func recordCut(r *http.Request, err error) {
	if x := stateOf(r); x != nil {
		x.out.cut = fmt.Errorf("response cut short: %w", cmp.Or(err, io.ErrUnexpectedEOF))
	}
}

// statusClientGone is the status that the log and the metrics have for a request whose client closed the connection before the answer, as nginx and
// others have it. Without it such requests pass for faults of the server (503) or of the client (400), and alerts count them.
const statusClientGone = 499

// RecordGone notes for the log that err, with which a request of r is answered, has no other cause than that the client closed the connection. A server
// that stops closes connections itself in the end.
func RecordGone(r *http.Request, err error) {
	x := stateOf(r)
	if x == nil {
		return
	}
	select {
	case <-x.stop:
		return
	default:
	}
	left := errors.Is(err, context.Canceled) && context.Cause(r.Context()) == context.Canceled // another cause is the end of a token
	x.log.gone = left || errors.Is(err, repo.ErrIncomplete) && x.in != nil && x.in.broken()
}

// PrincipalFrom returns the sender of a request that reached the admin handler.
func PrincipalFrom(ctx context.Context) (repo.Principal, bool) {
	p, ok := ctx.Value(principalKey).(repo.Principal)
	return p, ok
}

// RecordFrom returns the record that the handler of a request fills in for the log. A handler outside a server gets one that is
// not used. It must be called by the goroutine of the handler.
func RecordFrom(ctx context.Context) *Record {
	if x, ok := ctx.Value(stateKey).(*requestState); ok {
		return &x.log
	}
	return new(Record)
}

// Stream is for a response that does not end by itself. It releases the request's slot among Limits.Requests, so that waiting
// clients do not block others, and takes one among Limits.Streams. The goroutine of the handler calls it, once. The error is
// repo.ErrBusy if all streams are in use; then the request keeps its slot.
func Stream(ctx context.Context) error {
	x, ok := ctx.Value(stateKey).(*requestState)
	if !ok || x.release == nil {
		return nil
	}
	select {
	case x.streams <- struct{}{}:
	default:
		return fmt.Errorf("%w: too many streams at once", repo.ErrBusy)
	}
	x.release()
	x.release = func() { <-x.streams }
	return nil
}

// Stopping returns a channel that is closed when the server is told to stop. A response that does not end by itself must end then.
func Stopping(ctx context.Context) <-chan struct{} {
	x, ok := ctx.Value(stateKey).(*requestState)
	if !ok {
		return nil
	}
	return x.stop
}

// IsTrusted reports whether a request came over the trusted server, which needs no credentials.
func IsTrusted(ctx context.Context) bool {
	x, ok := ctx.Value(stateKey).(*requestState)
	return ok && x.trusted
}
