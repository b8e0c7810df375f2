package acme

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	acmeprotocol "github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
	"golang.org/x/net/netutil"
)

var errNoChallenge = errors.New("no challenge of the ACME authority is expected")

// Challenge returns the configuration of a connection by which the authority makes sure of a name by TLS-ALPN-01, nil for other connections, and
// an error for one of this kind that is not expected: strangers can send such ones, and get no further. It speaks nothing but the protocol of
// the challenge, needs no certificate of the client, which the authority has not, and its sessions cannot be resumed.
func (m *Manager) Challenge(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if len(hello.SupportedProtos) != 1 || hello.SupportedProtos[0] != acmez.ACMETLS1Protocol {
		return nil, nil
	}
	challenge, ok := certmagic.GetACMEChallenge(hello.ServerName)
	if m.o.HTTP || !ok || challenge.Type != acmeprotocol.ChallengeTypeTLSALPN01 {
		return nil, errNoChallenge
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{acmez.ACMETLS1Protocol}, GetCertificate: m.config.GetCertificate,
		SessionTicketsDisabled: true,
	}, nil
}

// Limits of the listener for HTTP-01: it answers requests of a few hundred bytes.
const (
	httpTime        = 10 * time.Second
	httpHeaderBytes = 8 << 10
	httpConnections = 64
)

// httpServer answers challenges of the kind HTTP-01.
type httpServer struct {
	server *http.Server
	done   chan struct{}
}

func serveHTTP(l net.Listener, logger *slog.Logger) *httpServer {
	s := &httpServer{done: make(chan struct{}), server: &http.Server{
		Handler: http.HandlerFunc(answer), ReadTimeout: httpTime, WriteTimeout: httpTime, MaxHeaderBytes: httpHeaderBytes,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug), // what strangers do wrong
	}}
	s.server.SetKeepAlivesEnabled(false)
	go func() {
		defer close(s.done)
		if err := s.server.Serve(netutil.LimitListener(l, httpConnections)); !errors.Is(err, http.ErrServerClosed) {
			logger.Error("ACME: the listener for HTTP-01 has failed", "error", err)
		}
	}()
	return s
}

// answer answers a challenge, and knows nothing else.
func answer(w http.ResponseWriter, r *http.Request) {
	if certmagic.LooksLikeHTTPChallenge(r) {
		challenge, ok := certmagic.GetACMEChallenge(r.Host)
		if ok && challenge.Type == acmeprotocol.ChallengeTypeHTTP01 && certmagic.SolveHTTPChallenge(zap.NewNop(), w, r, challenge.Challenge) {
			return
		}
	}
	http.Error(w, "this address answers only challenges of an ACME authority", http.StatusNotFound)
}

func (s *httpServer) close() {
	_ = s.server.Close()
	<-s.done
}
