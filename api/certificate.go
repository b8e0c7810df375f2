package api

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// Certificate is a TLS certificate in files, which can be reloaded.
type Certificate struct {
	certFile, keyFile string

	mu   sync.RWMutex // held for a look only
	cert *tls.Certificate
}

// LoadCertificate reads a certificate and its key.
func LoadCertificate(certFile, keyFile string) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile}
	return c, c.Reload()
}

// Reload reads the files again. After an error the old certificate is still used.
func (c *Certificate) Reload() error {
	cert, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("TLS certificate: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cert = &cert
	return nil
}

// Expires is when the certificate, or one of its chain, ends first.
func (c *Certificate) Expires() (end time.Time) {
	c.mu.RLock()
	chain := c.cert.Certificate
	c.mu.RUnlock()
	for _, der := range chain {
		if cert, err := x509.ParseCertificate(der); err == nil && (end.IsZero() || cert.NotAfter.Before(end)) {
			end = cert.NotAfter
		}
	}
	return end
}

// Leaf is the server's own certificate, in DER.
func (c *Certificate) Leaf() []byte {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.cert.Certificate[0]
}

// Fingerprint is the SHA-256 of Leaf, as openssl x509 -fingerprint -sha256 prints it.
func (c *Certificate) Fingerprint() string {
	sum := sha256.Sum256(c.Leaf())
	parts := make([]string, len(sum))
	for i, b := range sum {
		parts[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(parts, ":")
}

// Get is the certificate, whatever name the client asks for.
func (c *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.cert, nil
}

// TLS is how connections over TCP are encrypted. Certificate is required. Nothing of it may change after Wrap.
type TLS struct {
	// Certificate is the one for a client. An error ends the connection with an alert, which tells the client nothing.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	MinVersion  uint16     // that clients may speak; 0: TLS 1.2
	Clients     *ClientCAs // clients are asked for a certificate of these authorities; nil: they are not
	// Challenge is asked first: it returns the configuration of a connection with which the authority of the server's certificate makes sure whose
	// name it is, and nil for all others. Such a connection needs no certificate of a client, so Challenge must have it negotiate a
	// protocol that is not HTTP: the server closes it after the handshake. An error ends the connection. nil: there are none.
	Challenge func(*tls.ClientHelloInfo) (*tls.Config, error)
}

// Wrap adds TLS to a TCP listener; Unix sockets are served without TLS.
func (t TLS) Wrap(l net.Listener) net.Listener {
	if l.Addr().Network() == "unix" {
		return l
	}
	config := &tls.Config{MinVersion: max(t.MinVersion, tls.VersionTLS12), NextProtos: []string{"http/1.1"}, GetCertificate: t.Certificate}
	if t.Clients != nil {
		t.Clients.ask(config)
	}
	if t.Challenge != nil {
		others := config.GetConfigForClient
		config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if challenge, err := t.Challenge(hello); challenge != nil || err != nil || others == nil {
				return challenge, err
			}
			return others(hello)
		}
	}
	return tls.NewListener(l, config)
}
