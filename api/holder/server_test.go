package holder_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"packhouse/api/holder"
	"packhouse/api/stdio"
	"packhouse/repo/layout"
)

// TestLeaveIsCertain: whatever moment a server leaves at, each request is either answered or known not to
// have begun. Nobody is left in doubt.
func TestLeaveIsCertain(t *testing.T) {
	path := filepath.Join(tempDir(t), "s")
	for range 40 {
		var begun atomic.Int64
		s := holder.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			begun.Add(1)
		}), nil)
		l, err := holder.ListenUnix(path)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()

		var answered atomic.Int64
		var wait sync.WaitGroup
		running := make(chan struct{}, 6)
		for range cap(running) {
			conn, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			wait.Go(func() {
				defer conn.Close()
				r := bufio.NewReader(conn)
				for n := 0; ; n++ {
					if n == 5 {
						running <- struct{}{}
					}
					_, writeErr := fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
					resp, err := http.ReadResponse(r, nil)
					if err != nil {
						if writeErr == nil {
							t.Errorf("in doubt after %d requests: %v", n, err)
						}
						return // what could not be sent whole cannot have begun
					}
					resp.Body.Close()
					switch {
					case resp.StatusCode == http.StatusOK:
						answered.Add(1)
					case resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get(stdio.HeaderLeaving) != "":
						return
					default:
						t.Errorf("got status %d", resp.StatusCode)
					}
				}
			})
		}
		for range cap(running) {
			<-running
		}
		if err := s.Leave(t.Context()); err != nil {
			t.Errorf("leave: %v", err)
		}
		wait.Wait()
		if got, want := answered.Load(), begun.Load(); got != want {
			t.Errorf("%d requests were carried out, %d were answered", want, got)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: got %v, want ErrServerClosed", err)
		}
	}
}

// TestPipesMeetLeaving: pipes that come at the moment a server leaves are answered by the next one, once, also when
// their connection was still waiting to be accepted.
func TestPipesMeetLeaving(t *testing.T) {
	path := filepath.Join(tempDir(t), "s")
	const asked = "POST /a HTTP/1.1\r\nAccept: application/vnd.x.borgstore.rest.v1\r\nContent-Length: 1\r\n\r\nx"
	var begun, answered atomic.Int64
	var clients sync.WaitGroup
	for range 6 {
		clients.Go(func() {
			for range 40 {
				var out strings.Builder
				err := stdio.Run(t.Context(), stdio.Options{
					Connect: func(ctx context.Context) (*stdio.Link, error) {
						for {
							conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
							if err == nil {
								return stdio.NewLink(conn, nil), nil
							}
							if ctx.Err() != nil {
								return nil, err
							}
							time.Sleep(100 * time.Microsecond)
						}
					},
					In: strings.NewReader(asked), Out: &out, Log: slog.New(slog.DiscardHandler),
				})
				if err != nil || !strings.HasPrefix(out.String(), "HTTP/1.1 200 ") {
					t.Errorf("got %q, %v; want one answer", out.String(), err)
					return
				}
				answered.Add(1)
			}
		})
	}
	done := make(chan struct{})
	go func() { clients.Wait(); close(done) }()
	for open := true; open; {
		s := holder.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			begun.Add(1)
		}), nil)
		l, err := holder.ListenUnix(path)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()
		select {
		case <-done:
			open = false
		case <-time.After(time.Millisecond):
		}
		if err := s.Leave(t.Context()); err != nil {
			t.Errorf("leave: %v", err)
		}
		<-served
	}
	if got, want := answered.Load(), begun.Load(); got != want {
		t.Errorf("%d requests were carried out, %d were answered", want, got)
	}
}

// TestLeaveWaits for requests that run, and cuts them when the time is over.
func TestLeaveWaits(t *testing.T) {
	path := filepath.Join(tempDir(t), "s")
	inside, finish := make(chan struct{}), make(chan struct{})
	s := holder.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(inside)
		<-finish
	}), nil)
	l, err := holder.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve(l) }()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-inside
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Leave(over); !errors.Is(err, context.Canceled) {
		t.Errorf("leave without time: got %v, want context.Canceled", err)
	}
	close(finish)
}

// TestFind: a connection to who is there, started if nobody is.
func TestFind(t *testing.T) {
	top := tempDir(t)
	dir := filepath.Join(top, "r")
	var claim *holder.Claim
	var l net.Listener
	starts := 0
	start := func(context.Context) (err error) {
		starts++
		if claim, err = holder.ClaimRepository(dir); err == nil {
			l, err = claim.Listen()
		}
		return err
	}
	found, err := holder.Find(t.Context(), dir, start)
	if err != nil || found.Name != "" || starts != 1 {
		t.Fatalf("got %+v, %v after %d starts", found, err, starts)
	}
	found.Close()
	l.Close()
	release(t, claim)

	above, err := holder.ClaimData(t.Context(), top)
	if err != nil {
		t.Fatal(err)
	}
	defer release(t, above)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = holder.Find(over, dir, start)
	var held *holder.HeldError
	if !errors.As(err, &held) || !held.Up || !strings.Contains(err.Error(), "which does not answer") {
		t.Errorf("a server that does not answer: got %v", err)
	}
	if l, err = above.Listen(); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if found, err = holder.Find(t.Context(), dir, start); err != nil || found.Name != "r" {
		t.Fatalf("got %+v, %v; want the server's r", found, err)
	}
	found.Close()
	if starts != 1 {
		t.Errorf("%d starts, want 1", starts)
	}
	if _, err := holder.Find(t.Context(), filepath.Join(tempDir(t), "x"), func(context.Context) error { return errors.New("cannot") }); err == nil || err.Error() != "cannot" {
		t.Errorf("a start that fails: got %v", err)
	}
}

// TestSecondClose: a listener that is closed again leaves the socket of its successor alone, though that has the same
// inode: file systems use them again.
func TestSecondClose(t *testing.T) {
	dir := t.TempDir()
	path, next := filepath.Join(dir, "socket"), filepath.Join(dir, "next")
	l, err := holder.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Link(path, next); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("after the first: got %v, want no socket", err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the second: got %v, want net.ErrClosed", err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("after the second: %v", err)
	}
}

// TestNoticeBeforeRequest: a holder that leaves while somebody connects sends its notice first. To the client that is a
// connection that was not made, also for a request that changes something.
func TestNoticeBeforeRequest(t *testing.T) {
	dir := tempDir(t)
	if err := os.Mkdir(filepath.Join(dir, layout.OwnDir), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, layout.OwnDir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 503 Service Unavailable\r\n"+stdio.HeaderLeaving+": 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			_ = conn.Close()
		}
	}()
	for range 200 {
		resp, err := holder.Client(dir).Post("http://packhouse/-/local/create", "text/plain", strings.NewReader("body"))
		var op *net.OpError
		switch {
		case err == nil && resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get(stdio.HeaderLeaving) != "":
			_ = resp.Body.Close()
		case errors.As(err, &op) && op.Op == "dial":
		case errors.As(err, &op) && (op.Op == "write" || errors.Is(err, net.ErrClosed)): // of a body that nobody reads; the next attempt tells
		default:
			t.Fatalf("got %v, %v", resp, err)
		}
	}
}
