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
}

// stopPatience is how long a connection that has not sent a request yet keeps a stop waiting.
const stopPatience = 2 * time.Second

// stop ends it. net/http's Shutdown drops a connection whose first request it is about to read or has just
// read. A client that opens one for each request, on a socket that outlives us, would see that as a failed
// request, so we first stop accepting and let what was accepted be answered, and only then shut down.
func (v serving) stop(ctx context.Context) error {
	v.server.SetKeepAlivesEnabled(false)
	fault := v.listener.Close()
	accepted, cancel := context.WithTimeout(ctx, stopPatience)
	defer cancel()
	v.listener.quiet(accepted)
	if v.server.Shutdown(ctx) != nil && ctx.Err() != nil {
		return errors.Join(errors.New("requests were cut off when the time to stop was over"), v.server.Close())
	}
	return fault
}

// Shutdown stops accepting, lets requests under way finish until ctx ends, and cuts the rest: then
// it returns an error. Connections that wait for a request are closed at once.
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

// quiet returns when no connection is busy, or ctx ends.
func (l *boundedListener) quiet(ctx context.Context) {
	for {
		l.mu.Lock()
		busy := len(l.busy)
		l.mu.Unlock()
		if busy == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(2 * time.Millisecond):
		}
	}
}
