package borgstore_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"packhouse/api"
)

// countingListener counts the writes to its connections.
type countingListener struct {
	net.Listener
	writes *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countingConn{conn, l.writes}, nil
}

type countingConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

func (c countingConn) ReadFrom(src io.Reader) (int64, error) {
	// As package net does without a file.
	return io.Copy(struct{ io.Writer }{c}, src)
}

// Many small ranges, such as the headers of a pack's objects, are not as many small writes.
func TestGatherOfSmallRanges(t *testing.T) {
	f := start(t, options{})
	inner, err := api.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	writes := new(atomic.Int64)
	serveOn(t, f, countingListener{inner, writes})
	c := client{t: t, url: "http://" + inner.Addr().String()}
	c.want("POST", "/?cmd=create", "", 200, "")
	value := strings.Repeat("0123456789", 100_000)
	c.want("POST", "/o", value, 200, "")
	const count, size = 5000, 49
	var sources, want strings.Builder
	for i := range count {
		offset := i * 199
		fmt.Fprintf(&sources, `,["o",%d,%d]`, offset, size)
		want.WriteString(value[offset : offset+size])
	}
	writes.Store(0)
	if status, got := c.do(http.MethodPost, "/?cmd=gather", "["+sources.String()[1:]+"]"); status != 200 || got != want.String() {
		t.Errorf("got %d, %d bytes, want %d", status, len(got), want.Len())
	}
	if n := writes.Load(); n > count/100 {
		t.Errorf("%d ranges were sent in %d writes", count, n)
	}
}
