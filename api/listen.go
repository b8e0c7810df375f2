package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// Listener accepts the connections on which requests arrive.
type Listener struct {
	net.Listener
	Trusted bool // requests are served as Server.Trusted says
}

// Listen opens an address: "host:port", or "unix:PATH" for a socket that the user and the group of the process may use. A socket
// file on which no process listens is replaced.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	var config net.ListenConfig
	path, ok := strings.CutPrefix(address, "unix:")
	if !ok {
		listener, err := config.Listen(ctx, "tcp", address)
		if err != nil {
			return nil, listenError(address, err)
		}
		return listener, nil
	}
	if info, err := os.Stat(path); err == nil {
		if info.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("listen on %s: a file of that name exists and is not a socket", address)
		}
		var dialer net.Dialer
		if conn, err := dialer.DialContext(ctx, "unix", path); err == nil {
			return nil, errors.Join(fmt.Errorf("listen on %s: another process listens on it", address), conn.Close())
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("listen on %s: %w", address, err)
		}
	}
	listener, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, listenError(address, err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", address, err), listener.Close())
	}
	return listener, nil
}

// listenError says once what was tried: package net says it, too.
func listenError(address string, err error) error {
	var tried *net.OpError
	if errors.As(err, &tried) {
		err = tried.Err
	}
	return fmt.Errorf("listen on %s: %w", address, err)
}

// URL returns the address of a listener for clients on this or another machine. secure: it uses TLS.
func URL(l net.Listener, secure bool) string {
	address := l.Addr()
	if address.Network() == "unix" {
		return "unix:" + address.String()
	}
	host, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return address.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		if host, err = os.Hostname(); err != nil || host == "" {
			host = "localhost"
		}
	}
	scheme := "http"
	if secure {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(strings.TrimSuffix(host, "."), port)
}

// Serve serves l until Shutdown or Close; then it returns http.ErrServerClosed. It may run for several listeners at once, and
// closes l. For TLS pass a listener of crypto/tls.
func (s *Server) Serve(l Listener) error {
	var handler http.Handler = s
	if l.Trusted {
		handler = s.Trusted()
	}
	bounded := newBoundedListener(l.Listener, s.o.Limits, s.o.Logger, s.proxies.Load)
	server := s.httpServer(handler)
	server.ConnState, server.ConnContext = bounded.state, bounded.context
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		return errors.Join(http.ErrServerClosed, l.Close())
	}
	s.serving = append(s.serving, serving{server, bounded, s.o.Limits.Last})
	s.mu.Unlock()
	err := server.Serve(bounded)
	if errors.Is(err, net.ErrClosed) {
		return http.ErrServerClosed // stop closed the listener ahead of net/http
	}
	return err
}

// Active is the number of requests that are being served.
func (s *Server) Active() int { return int(s.active.Load()) }

// LastActive is when a request last began or ended; the start of the server if none did.
func (s *Server) LastActive() time.Time { return time.Unix(0, s.lastActive.Load()) }

func (s *Server) touch(delta int64) {
	s.active.Add(delta)
	s.lastActive.Store(s.o.Now().UnixNano())
}

// httpServer is net/http's server with our limits. HTTP/1.1 only: what the clients speak.
func (s *Server) httpServer(handler http.Handler) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler: handler, Protocols: protocols,
		ReadHeaderTimeout: s.o.Limits.HeaderTime, IdleTimeout: s.o.Limits.Idle, MaxHeaderBytes: s.o.Limits.HeaderBytes,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     log.New(debugWriter{s.o.Logger}, "", 0),
	}
}

// debugWriter takes net/http's remarks on connections: what strangers do wrong is no error of ours.
type debugWriter struct{ logger *slog.Logger }

func (w debugWriter) Write(p []byte) (int, error) {
	w.logger.Debug("connection", "remark", strings.TrimSpace(string(p)))
	return len(p), nil
}

var _ io.Writer = debugWriter{}
