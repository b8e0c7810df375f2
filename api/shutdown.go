package api

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

// serving is one listener at work.
type serving struct {
	server   *http.Server
	listener *boundedListener
	last     time.Duration // see Limits
}

// firstRequest is how long a stop waits for a connection that has not sent any request yet.
const firstRequest = 2 * time.Second

// stop ends the listener. net/http's Shutdown closes each connection that waits for a request, even if one is on its way or has just been
// read: the client would see an error. So the server first stops accepting, answers requests on the open connections (with
// "Connection: close", see response), and only then shuts down.
func (v serving) stop(ctx context.Context) error {
	fault := v.listener.Close()
	v.listener.drain(ctx, v.last)
	if v.server.Shutdown(ctx) != nil && ctx.Err() != nil {
		return errors.Join(errors.New("requests were aborted because the time to stop was over"), v.server.Close())
	}
	return fault
}

// Shutdown stops accepting and waits for running requests until ctx ends; then it closes their connections and returns an error.
// Each answer from now on is the last one of its connection. A connection without a request is closed after Limits.Last.
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

// drain returns when no connection is left, or ctx ends. It closes connections that have waited long enough for a request.
func (l *boundedListener) drain(ctx context.Context, last time.Duration) {
	for l.closeWaiting(time.Now(), last) > 0 {
		select {
		case <-ctx.Done():
			return
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// closeWaiting closes the connections whose time to send a request is over, and returns how many others there are.
func (l *boundedListener) closeWaiting(now time.Time, last time.Duration) int {
	l.mu.Lock()
	var over []*connection
	for _, c := range l.all {
		waited := now.Sub(c.since)
		if c.state == http.StateIdle && waited >= last || c.state == http.StateNew && waited >= firstRequest {
			l.forget(c)
			delete(l.all, c.Conn)
			over = append(over, c)
		}
	}
	left := len(l.all)
	l.mu.Unlock()
	for _, c := range over {
		_ = c.Close() // net/http notices
	}
	return left
}
