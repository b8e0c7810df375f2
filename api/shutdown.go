package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// serving is one listener at work.
type serving struct {
	server   *http.Server
	listener *boundedListener
}

// How long a stop waits for the requests of clients that do not know of it.
const (
	// firstRequest is for a connection that has not sent any request yet.
	firstRequest = 2 * time.Second
	// nextRequest is for one whose last request was answered. A client at work sends its next within it, and the answer
	// tells it to open another connection. One that was idle for longer finds its connection closed before it uses it.
	nextRequest = time.Second / 2
)

// stop ends it. net/http's Shutdown drops each connection that waits for a request, also when one is on its way to us
// or has just been read: a client would see it fail. So we first stop accepting, answer what comes on the
// connections that are there (with "Connection: close", see response), and only then shut down.
func (v serving) stop(ctx context.Context) error {
	fault := v.listener.Close()
	v.listener.drain(ctx)
	if v.server.Shutdown(ctx) != nil && ctx.Err() != nil {
		return errors.Join(errors.New("requests were cut off when the time to stop was over"), v.server.Close())
	}
	return fault
}

// Shutdown stops accepting, lets requests under way finish until ctx ends, and cuts the rest: then
// it returns an error. Every answer from now on is the last of its connection; one that waits for a request
// is closed when it has waited for nextRequest.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if !s.stopping {
		s.stopping = true
		close(s.stop)
	}
	listeners := s.serving
	s.mu.Unlock()
	ended := make([]error, len(listeners))
	var wait sync.WaitGroup
	for i, listener := range listeners {
		wait.Go(func() { ended[i] = listener.stop(ctx) })
	}
	wait.Wait()
	return errors.Join(ended...)
}

// drain returns when no connection is left, or ctx ends. Those that have waited for a request long enough it closes.
func (l *boundedListener) drain(ctx context.Context) {
	for l.closeWaiting(time.Now()) > 0 {
		select {
		case <-ctx.Done():
			return
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// closeWaiting closes the connections whose time to send a request is over, and returns how many others there are.
func (l *boundedListener) closeWaiting(now time.Time) int {
	l.mu.Lock()
	var over []net.Conn
	for first := l.idle.Front(); first != nil; first = l.idle.Front() {
		waiting := first.Value.(idleConn)
		if now.Sub(waiting.since) < nextRequest {
			break
		}
		l.forget(waiting.Conn)
		over = append(over, waiting.Conn)
	}
	for conn, since := range l.silent {
		if now.Sub(since) >= firstRequest {
			delete(l.silent, conn)
			over = append(over, conn)
		}
	}
	left := len(l.silent) + len(l.busy) + l.idle.Len()
	l.mu.Unlock()
	for _, conn := range over {
		_ = conn.Close() // net/http notices
	}
	return left
}
