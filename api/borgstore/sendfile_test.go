package borgstore_test

import (
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"packhouse/api"
)

// fileListener counts the bytes that its connections are given in the one form that package net sends
// by sendfile: a limited part of a file.
type fileListener struct {
	net.Listener
	sent *atomic.Int64
}

func (l fileListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return fileConn{conn.(*net.TCPConn), l.sent}, nil
}

type fileConn struct {
	*net.TCPConn
	sent *atomic.Int64
}

func (c fileConn) ReadFrom(src io.Reader) (int64, error) {
	n, err := c.TCPConn.ReadFrom(src)
	if part, ok := src.(*io.LimitedReader); ok {
		if _, ok := part.R.(*os.File); ok {
			c.sent.Add(n)
		}
	}
	return n, err
}

// Where nothing is checked, an object and a range of it go from file to connection without passing through the process: all but the
// first 512 bytes, which net/http sends with the header.
func TestSendfile(t *testing.T) {
	f := start(t, options{unchecked: true})
	inner, err := api.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sent := new(atomic.Int64)
	serveOn(t, f, fileListener{inner, sent})
	const size = 3<<20 + 17
	c := client{t: t, url: "http://" + inner.Addr().String()}
	c.want("POST", "/?cmd=create", "", 200, "")
	c.want("POST", "/o", strings.Repeat("x", size), 200, "")
	for header, want := range map[string]int64{"": size, "bytes=1000-2000999": 2000000, "bytes=-1500000": 1500000} {
		sent.Store(0)
		r, err := http.NewRequest("GET", c.url+"/o", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"Accept": {mediaType}, "Range": {header}}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, response.Body)
		response.Body.Close()
		if err != nil || n != want {
			t.Errorf("Range %q: got %d bytes, %v, want %d", header, n, err, want)
		}
		// The last part is counted when the client has it already.
		for deadline := time.Now().Add(10 * time.Second); sent.Load() < want-512 && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		if got := sent.Load(); got < want-512 {
			t.Errorf("Range %q: %d of %d bytes were sent as a file", header, got, want)
		}
	}
}
