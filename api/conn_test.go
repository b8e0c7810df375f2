package api_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"packhouse/api"
)

// countedListener counts what the server does with its TCP connections.
type countedListener struct {
	net.Listener
	writes, deadlines *atomic.Int64
}

func (l countedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countedConn{c.(*net.TCPConn), l}, nil
}

// countedConn counts calls of Write. Those with several parts go past it, to the TCP connection.
type countedConn struct {
	*net.TCPConn
	l countedListener
}

func (c countedConn) Write(p []byte) (int, error) {
	c.l.writes.Add(1)
	return c.TCPConn.Write(p)
}

func (c countedConn) SetWriteDeadline(t time.Time) error {
	c.l.deadlines.Add(1)
	return c.TCPConn.SetWriteDeadline(t)
}

// A header and a body of known length leave in one system call, whatever net/http's buffer holds, and what comes after them on
// the connection is whole.
func TestOneWritePerAnswer(t *testing.T) {
	f := serving(t, api.Options{}, func(w http.ResponseWriter, r *http.Request, target api.Target) bool {
		var size int
		if _, err := fmt.Sscanf(target.Query, "%d", &size); err != nil {
			t.Error(err)
		}
		if err := api.SendReader(w, r, 200, bytes.NewReader(body(size)), int64(size)); err != nil {
			t.Error(err)
		}
		return true
	})
	inner, err := api.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	counted := countedListener{inner, new(atomic.Int64), new(atomic.Int64)}
	served := make(chan error, 1)
	go func() { served <- f.Server.Serve(api.Listener{Listener: counted}) }()
	conn, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	for _, size := range []int{0, 1, 2048, 2049, 3700, 3800, 3900, 4000, 4096, 4097, 8 << 10, 128 << 10, 256 << 10} {
		for _, method := range []string{"GET", "HEAD"} {
			counted.writes.Store(0)
			if _, err := io.WriteString(conn, method+" /r?"+itoa(size)+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			response, err := http.ReadResponse(in, &http.Request{Method: method})
			if err != nil || response.ContentLength != int64(size) {
				t.Fatalf("%s of %d bytes: got %v, %v", method, size, response, err)
			}
			want := body(size)
			if method == "HEAD" {
				want = nil
			}
			if got, err := io.ReadAll(response.Body); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s of %d bytes: got %d bytes, %v", method, size, len(got), err)
			}
			// What has more than one part is sent with one writev, which is not counted.
			most := int64(1)
			if size > 2048 && method == "GET" {
				most = 0
			}
			if got := counted.writes.Load(); got > most {
				t.Errorf("%s of %d bytes: got %d writes, want %d", method, size, got, most)
			}
		}
	}
	// The limit of 6 minutes is still far.
	if n := counted.deadlines.Load(); n != 1 {
		t.Errorf("got %d deadlines for one connection, want 1", n)
	}
}

func body(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	return b
}

// An answer has its time from when it begins, also one that the handler leaves to net/http, on a connection that was idle for longer.
func TestDeadlineOfNextAnswer(t *testing.T) {
	const stall = time.Minute
	serve := func(w http.ResponseWriter, r *http.Request, target api.Target) bool {
		return target.Path == "/empty"
	}
	inBubble(t, api.Limits{Stall: stall}, serve, func(t *testing.T, dial func() net.Conn) {
		conn := dial()
		defer conn.Close()
		in := bufio.NewReader(conn)
		for i, path := range []string{"/text", "/empty", "/text", "/empty"} {
			for _, pause := range []time.Duration{0, stall - time.Second, stall + stall/4, 3 * stall} {
				time.Sleep(pause)
				if _, err := io.WriteString(conn, "GET /r"+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
					t.Fatalf("request %d after %s: %v", i, pause, err)
				}
				time.Sleep(stall - time.Second) // so long nobody reads
				response, err := http.ReadResponse(in, nil)
				if err != nil || response.StatusCode != 200 {
					t.Fatalf("request %d after %s: got %v, %v", i, pause, response, err)
				}
				if text, err := io.ReadAll(response.Body); err != nil || strings.HasPrefix(string(text), "plain") != (path == "/text") {
					t.Fatalf("request %d after %s: got %q, %v", i, pause, text, err)
				}
			}
		}
	})
}
