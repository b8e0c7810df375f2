package pipe

import (
	"bufio"
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
}

// NewLink wraps a connection to the socket of a holder.
func NewLink(conn net.Conn, header http.Header) *Link {
	return &Link{Conn: conn, Header: header, r: bufio.NewReaderSize(conn, 256<<10)}
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
