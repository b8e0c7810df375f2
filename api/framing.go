package api

import (
	"bytes"
	"math"
	"net"
	"strconv"
	"sync/atomic"
)

// net/http reads requests in two ways that another reader in front of it may not share, and leaves no trace of them in the
// http.Request: a header that is continued on the next line (RFC 9112, 5.2) it takes as one line, and of a request with both
// Content-Length and Transfer-Encoding (6.3) it drops the first and goes on with the connection. So the bytes are looked at
// on their way to it. What parses them is net/http alone: here only the ends of lines, heads and bodies are found.

// framing follows where the heads of requests begin and end in what is read from a connection. It is used by one reader at a
// time.
type framing struct {
	// last is the number of the request that had both fields, or a folded header: its answer is the last on the connection. 0: none had.
	last   atomic.Int64
	folded atomic.Bool // it had a folded header

	state   headState
	heads   int64  // that were read whole
	lines   int    // of the head, so far
	line    []byte // the start of a line that is not read whole: what comes of it with the next read
	length  int64  // of the body; -1: chunked
	sized   bool   // the head has a Content-Length
	skip    int64  // bytes of a body, or of a chunk, that are not read yet
	chunked bool   // skip is of a chunk
}

// headState is what the next byte belongs to.
type headState int

const (
	inHead headState = iota
	inBody
	inChunkSize
	inChunkEnd // the line end behind the bytes of a chunk
	inTrailer
	unfollowed // net/http refuses the request, or ends the connection after it
)

// maxKeptLine is how much of a line is kept until the rest comes: more than the fields that are looked for and their values take.
const maxKeptLine = 128

// see looks at the next bytes of the connection. It changes none: should it ever take a byte for what net/http does not, a request is
// refused or a connection ends early, and no more than that.
func (f *framing) see(p []byte) {
	for len(p) > 0 && f.state != unfollowed {
		if f.state == inBody {
			n := min(f.skip, int64(len(p)))
			p, f.skip = p[n:], f.skip-n
			if f.skip == 0 && f.chunked {
				f.state = inChunkEnd
			} else if f.skip == 0 {
				f.begin()
			}
			continue
		}
		if f.state == inHead && f.lines > 0 && len(f.line) == 0 && (p[0] == ' ' || p[0] == '\t') {
			f.folded.Store(true)
			f.last.Store(f.heads + 1)
			f.state = unfollowed
			return
		}
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			f.line = append(f.line, p[:min(len(p), maxKeptLine-len(f.line))]...)
			return
		}
		line := p[:end]
		if len(f.line) > 0 {
			f.line = append(f.line, line[:min(end, maxKeptLine-len(f.line))]...)
			line = f.line
		}
		p = p[end+1:]
		f.take(bytes.TrimSuffix(line, []byte{'\r'}))
		f.line = f.line[:0]
	}
}

// begin expects the next head.
func (f *framing) begin() {
	f.state, f.lines, f.length, f.sized, f.chunked = inHead, 0, 0, false, false
}

// take looks at a line that is not of a body, or at its first maxKeptLine bytes.
func (f *framing) take(line []byte) {
	switch f.state {
	case inHead:
		f.lines++
		switch {
		case len(line) == 0 && f.lines == 1: // no request line
			f.state = unfollowed
		case len(line) == 0:
			f.endHead()
		case f.lines > 1:
			f.field(line)
		}
	case inChunkSize:
		digits, _, _ := bytes.Cut(line, []byte{';'})
		size, err := strconv.ParseUint(string(bytes.TrimSpace(digits)), 16, 63)
		switch {
		case err != nil:
			f.state = unfollowed
		case size == 0:
			f.state = inTrailer
		default:
			f.state, f.skip = inBody, int64(size)
		}
	case inChunkEnd:
		f.state = inChunkSize
	case inTrailer:
		if len(line) == 0 {
			f.begin()
		}
	}
}

// field notes how the body is delimited, if a field says so.
func (f *framing) field(line []byte) {
	if c := line[0] | 0x20; c != 'c' && c != 't' {
		return
	}
	name, value, _ := bytes.Cut(line, []byte{':'})
	switch {
	case len(name) == len("Content-Length") && bytes.EqualFold(name, []byte("Content-Length")):
		f.sized = true
		if f.length >= 0 {
			n, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 63)
			if err != nil {
				n = math.MaxInt64 // refused
			}
			f.length = int64(n)
		}
	case len(name) == len("Transfer-Encoding") && bytes.EqualFold(name, []byte("Transfer-Encoding")):
		f.length = -1
	}
}

// endHead goes on with the body.
func (f *framing) endHead() {
	f.heads++
	switch {
	case f.length < 0 && f.sized:
		f.last.Store(f.heads)
		f.state = unfollowed
	case f.length < 0:
		f.state, f.chunked = inChunkSize, true
	case f.length > 0:
		f.state, f.skip = inBody, f.length
	default:
		f.begin()
	}
}

// watchedConn is a connection that is none of TCP, such as one of a Unix socket, with its heads followed.
type watchedConn struct {
	net.Conn
	framing framing
}

func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.framing.see(p[:n])
	return n, err
}

// CloseWrite is what net/http calls before it closes a connection whose client may still be sending.
func (c *watchedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
