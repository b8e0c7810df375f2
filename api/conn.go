package api

import (
	"cmp"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// streamConn is what net/http uses of a TCP connection. ReadFrom is how files are sent by sendfile.
type streamConn interface {
	net.Conn
	io.ReaderFrom
	CloseWrite() error
}

// conn is a client's connection. Each Write has the time of Limits.Stall, so that net/http and handlers need no deadlines for it.
//
// It sends answers in few system calls. net/http's own buffer has 4 KiB: it would send a header and a body of 8 KiB in two
// pieces, and wake a fast client twice.
type conn struct {
	streamConn
	stall   time.Duration
	opened  time.Time
	until   atomic.Int64 // deadline of writing, in ns from opened; 0: none
	framing framing

	// Used by the goroutine of the handler, while together runs.
	joining bool
	head    *[]byte // what is to be sent with the next Write; nil: nothing
	parts   [2][]byte
	vector  net.Buffers
}

// newConn makes a conn of a TCP connection, and follows the heads on others but those of TLS, which net/http knows by their type.
func newConn(c net.Conn, stall time.Duration) net.Conn {
	if stream, ok := c.(streamConn); ok {
		return &conn{streamConn: stream, stall: stall, opened: time.Now()}
	}
	if _, secure := c.(*tls.Conn); secure {
		return c
	}
	return &watchedConn{Conn: c}
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.streamConn.Read(p)
	c.framing.see(p[:n])
	return n, err
}

// ambiguous tells of each request on a connection, in order, whether its answer is to be the last, and whether that is because it has a
// folded header; see framing.
func ambiguous(r *http.Request) (last, folded bool) {
	c, ok := r.Context().Value(connectionKey).(*connectionOf)
	if !ok {
		return false, false
	}
	c.requests++
	var f *framing
	switch own := c.conn.(type) {
	case *conn:
		f = &own.framing
	case *watchedConn:
		f = &own.framing
	default:
		return false, false
	}
	last = f.last.Load() == c.requests
	return last, last && f.folded.Load()
}

// connOf is the connection of a request; nil: it is none of ours, such as one of TLS.
func connOf(r *http.Request) *conn {
	if c, ok := r.Context().Value(connectionKey).(*connectionOf); ok {
		own, _ := c.conn.(*conn)
		return own
	}
	return nil
}

// headSize is that of net/http's buffer, and so the most that it writes before it writes a part of a body directly.
const headSize = 4 << 10

var heads = sync.Pool{New: func() any { b := make([]byte, 0, headSize); return &b }}

// together sends with one system call what fn writes in two parts, of which the first has at most headSize bytes. The status
// was written before, so that nobody who reads the request's body sends "100 Continue" meanwhile.
func (c *conn) together(fn func() error) error {
	c.joining = true
	err := fn()
	c.joining = false
	if c.head == nil {
		return err
	}
	_, fault := c.sendWithHead(nil)
	return cmp.Or(err, fault)
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	switch {
	case c.head != nil:
		return c.sendWithHead(p)
	case c.joining && len(p) <= headSize:
		c.head = heads.Get().(*[]byte)
		*c.head = append((*c.head)[:0], p...)
		return len(p), nil
	}
	c.extend()
	return c.streamConn.Write(p)
}

func (c *conn) sendWithHead(p []byte) (int, error) {
	c.extend()
	head := c.head
	c.head = nil
	defer heads.Put(head)
	c.parts = [2][]byte{*head, p}
	c.vector = c.parts[:]
	n, err := c.vector.WriteTo(c.streamConn)
	c.parts = [2][]byte{}
	return max(0, int(n)-len(*head)), err
}

// ReadFrom implements io.ReaderFrom. The time of a Write is for all that src has.
func (c *conn) ReadFrom(src io.Reader) (int64, error) {
	c.extend()
	return c.streamConn.ReadFrom(src)
}

// extend sets the deadline of writing. It is up to an eighth later than it has to be, so that most answers need no new one.
func (c *conn) extend() {
	now := time.Since(c.opened)
	if time.Duration(c.until.Load()) >= now+c.stall {
		return
	}
	until := now + c.stall + c.stall/8
	if c.streamConn.SetWriteDeadline(c.opened.Add(until)) == nil { // else the connection is closed
		c.until.Store(int64(until))
	}
}

// SetWriteDeadline does nothing: net/http would take the deadline away after each answer.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }
