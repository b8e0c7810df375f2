package stdio

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"

	"golang.org/x/sys/unix"
)

// Link is a connection to a holder.
type Link struct {
	net.Conn
	Header http.Header // added to every request: which repository, and whose they are
	r      *bufio.Reader
	taken  bool // the holder has answered on it
}

// NewLink wraps a connection to the socket of a holder.
func NewLink(conn net.Conn, header http.Header) *Link {
	return &Link{Conn: conn, Header: header, r: bufio.NewReaderSize(conn, 256<<10)}
}

// hello has the holder answer once, so that it surely has the connection. One that it never took, because it
// left between our connect and its accept, is reset with the requests on it, like one whose holder died with them.
// Any answer will do.
func (l *Link) hello() error {
	if l.taken {
		return nil
	}
	if _, err := io.WriteString(l.Conn, "GET "+PathHello+" HTTP/1.1\r\nHost: packhouse\r\n\r\n"); err != nil {
		return err
	}
	resp, err := readResponse(l.r)
	if err != nil {
		return err
	}
	if _, leaving := resp.head.get(HeaderLeaving); leaving || resp.length < 0 {
		return errors.New("the holder is ending")
	}
	if _, err := io.CopyN(io.Discard, l.r, resp.length); err != nil {
		return err
	}
	l.taken = true
	return nil
}

// alive tells whether the holder has not closed an idle connection. It does not wait.
func (l *Link) alive() bool {
	if l.r.Buffered() > 0 {
		return false // nothing was asked
	}
	raw, ok := l.Conn.(syscall.Conn)
	if !ok {
		return true
	}
	conn, err := raw.SyscallConn()
	if err != nil {
		return false
	}
	alive := false
	err = conn.Read(func(fd uintptr) bool {
		_, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		alive = err == unix.EAGAIN
		return true
	})
	return err == nil && alive
}
