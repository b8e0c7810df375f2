package holder

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"packhouse/api/stdio"
)

// leavingNotice is sent on a connection without a request before it is closed. If a request was already on its way, its sender takes
// the notice for the answer, and knows that the request was not begun.
const leavingNotice = "HTTP/1.1 503 Service Unavailable\r\n" + stdio.HeaderLeaving + ": 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

// Server serves a holder's socket until Leave. After that it is certain for each request whether it was begun.
type Server struct {
	http     *http.Server
	attached func() error // see NewServer

	mu       sync.Mutex        // held for a look at the fields below, and over one notice
	listener net.Listener      // guarded by mu
	leaving  bool              // guarded by mu
	busy     map[net.Conn]bool // open connections: whether a request is being answered
	asked    bool              // there was a connection; guarded by mu
	left     chan struct{}     // has one when the last connection has ended
	told     map[net.Conn]bool // those that were sent the notice
	idle     chan struct{}     // closed when leaving and nothing is busy
}

type connKey struct{}

// NewServer creates a server for handler. attached, if not nil, is called before each request; if it returns an error the request
// is not begun, and its sender is told to look for another holder.
func NewServer(handler http.Handler, attached func() error) *Server {
	s := &Server{attached: attached, busy: make(map[net.Conn]bool), told: make(map[net.Conn]bool), idle: make(chan struct{}), left: make(chan struct{}, 1)}
	s.http = &http.Server{
		Handler:     s.wrap(handler),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ConnState:   s.state,
		ErrorLog:    log.New(io.Discard, "", 0), // the other end is our own program
	}
	return s
}

// Serve serves l until Leave; then it returns http.ErrServerClosed. After a listener is closed another one can be served;
// connections that the first one accepted stay open.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	s.listener = l
	leaving := s.leaving
	s.mu.Unlock()
	if leaving {
		_ = l.Close()
		return http.ErrServerClosed
	}
	err := s.http.Serve(l)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving {
		return http.ErrServerClosed
	}
	return err
}

func (s *Server) wrap(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := r.Context().Value(connKey{}).(net.Conn)
		if !s.begin(c) {
			panic(http.ErrAbortHandler) // its sender has the notice
		}
		if s.attached != nil && s.attached() != nil {
			w.Header().Set(stdio.HeaderLeaving, "1")
			w.Header().Set("Content-Length", "0")
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if r.URL.Path == stdio.PathHello {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		handler.ServeHTTP(w, r)
	})
}

// Left receives when the last connection has ended. There may be others by then: see Deserted.
func (s *Server) Left() <-chan struct{} { return s.left }

// Deserted reports whether there were connections, and none is left.
func (s *Server) Deserted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked && len(s.busy) == 0
}

func (s *Server) begin(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told[c] {
		return false
	}
	s.busy[c] = true
	return true
}

// state follows the connections. A connection is busy until its response has been sent whole.
func (s *Server) state(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.busy[c], s.asked = false, true
		if s.leaving {
			s.tellLocked(c)
		}
	case http.StateIdle:
		s.busy[c] = false
		if s.leaving {
			s.tellLocked(c)
		}
	case http.StateClosed, http.StateHijacked:
		delete(s.busy, c)
		delete(s.told, c)
		if len(s.busy) == 0 {
			select {
			case s.left <- struct{}{}:
			default:
			}
		}
	}
	s.checkLocked()
}

// tellLocked sends the notice and closes the connection.
func (s *Server) tellLocked(c net.Conn) {
	if s.told[c] {
		return
	}
	s.told[c] = true
	_ = c.SetWriteDeadline(time.Now().Add(time.Second)) // it fits into the socket's buffer
	_, _ = io.WriteString(c, leavingNotice)
	_ = c.Close()
}

func (s *Server) checkLocked() {
	if !s.leaving {
		return
	}
	for c, busy := range s.busy {
		if busy && !s.told[c] {
			return
		}
	}
	select {
	case <-s.idle:
	default:
		close(s.idle)
	}
}

// Leave stops accepting, notifies waiting connections, and waits for running requests until ctx ends; then it closes their
// connections and returns ctx's error.
func (s *Server) Leave(ctx context.Context) error {
	s.mu.Lock()
	s.leaving = true
	if s.listener != nil {
		_ = s.listener.Close()
	}
	for c, busy := range s.busy {
		if !busy {
			s.tellLocked(c)
		}
	}
	s.checkLocked()
	s.mu.Unlock()
	var err error
	select {
	case <-s.idle:
	case <-ctx.Done():
		select {
		case <-s.idle: // nothing ran, and no time was needed
		default:
			err = ctx.Err()
		}
	}
	_ = s.http.Close() // what is left
	return err
}
