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

// Certificate is a TLS certificate that can be reloaded.
type Certificate struct {
	certFile, keyFile string

	// MinVersion is the least version of TLS that clients may speak; 0: TLS 1.2. It is set before Wrap.
	MinVersion uint16

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

// Wrap adds TLS to a TCP listener; Unix sockets are served without TLS. Clients are asked for a certificate of the authorities;
// nil: they are not.
func (c *Certificate) Wrap(l net.Listener, clients *ClientCAs) net.Listener {
	if l.Addr().Network() == "unix" {
		return l
	}
	config := &tls.Config{
		MinVersion: max(c.MinVersion, tls.VersionTLS12),
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			c.mu.RLock()
			defer c.mu.RUnlock()
			return c.cert, nil
		},
	}
	if clients != nil {
		clients.ask(config)
	}
	return tls.NewListener(l, config)
}
