package api_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"packhouse/api"
	"packhouse/api/apitest"
)

// TestChallenge: a connection by which the authority of the server's certificate makes sure of a name needs no certificate of a client and gets no answer to
// a request, whatever it sends, and no session of it can be resumed; other connections are as if there were none of these.
func TestChallenge(t *testing.T) {
	servers, clients := apitest.NewAuthority(t, "servers"), apitest.NewAuthority(t, "clients")
	file := filepath.Join(t.TempDir(), "clients.pem")
	if err := os.WriteFile(file, []byte(clients.PEM()), 0o600); err != nil {
		t.Fatal(err)
	}
	authorities, err := api.LoadClientCAs(file, true)
	if err != nil {
		t.Fatal(err)
	}
	own, proof := servers.Issue(t, x509.Certificate{DNSNames: []string{"own"}}), servers.Issue(t, x509.Certificate{DNSNames: []string{"proof"}})
	get := func(c tls.Certificate) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &c, nil }
	}
	s := startEcho(t, api.Options{})
	addr := s.ServeOn(t, s.Server, false, func(l net.Listener) net.Listener {
		return api.TLS{Certificate: get(own), Clients: authorities, MinVersion: tls.VersionTLS13, Challenge: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if len(hello.SupportedProtos) != 1 || hello.SupportedProtos[0] != "acme-tls/1" {
				return nil, nil
			}
			if hello.ServerName != "proof" {
				return nil, errors.New("not expected")
			}
			return &tls.Config{NextProtos: []string{"acme-tls/1"}, GetCertificate: get(proof)}, nil
		}}.Wrap(l)
	})
	cache := tls.NewLRUClientSessionCache(10)
	ask := func(c *tls.Config) (tls.ConnectionState, string, error) {
		t.Helper()
		c.RootCAs, c.ClientSessionCache = servers.Pool(), cache
		conn, err := tls.Dial("tcp", addr, c)
		if err != nil {
			return tls.ConnectionState{}, "", err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = conn.Write([]byte("GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
		text, err := io.ReadAll(conn)
		return conn.ConnectionState(), string(text), err
	}
	challenge := []string{"acme-tls/1"}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		state, text, err := ask(&tls.Config{ServerName: "proof", NextProtos: challenge, MaxVersion: version})
		if state.NegotiatedProtocol != "acme-tls/1" || len(state.PeerCertificates) == 0 || state.PeerCertificates[0].DNSNames[0] != "proof" || text != "" {
			t.Errorf("a challenge in version %04x: got %+v %q, %v", version, state.NegotiatedProtocol, text, err)
		}
	}
	if _, text, err := ask(&tls.Config{ServerName: "own", NextProtos: challenge}); err == nil || text != "" {
		t.Errorf("a challenge that is not expected: got %q, %v", text, err)
	}
	// With the session of a challenge in the cache, too.
	for _, name := range []string{"own", "proof"} {
		if _, text, err := ask(&tls.Config{ServerName: name}); err == nil || text != "" {
			t.Errorf("%s without a certificate: got %q, %v", name, text, err)
		}
	}
	c := &tls.Config{ServerName: "own", Certificates: []tls.Certificate{clients.Named(t, "laptop")}, NextProtos: []string{"acme-tls/1", "http/1.1"}}
	if state, text, err := ask(c); err != nil || !strings.HasPrefix(text, "HTTP/1.1 200 ") || state.NegotiatedProtocol != "http/1.1" || state.DidResume {
		t.Errorf("a client: got %q, %v", text, err)
	}
	if _, _, err := ask(&tls.Config{ServerName: "own", Certificates: c.Certificates, MaxVersion: tls.VersionTLS12}); err == nil {
		t.Error("a client with an old version: no error")
	}
}
