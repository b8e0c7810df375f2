package api

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// ClientCAs are the certificate authorities of clients: who has a certificate that one of them has signed is the user of its
// name. They can be reloaded, and it is safe for concurrent use.
//
// crypto/tls verifies a certificate in the handshake. That counts only for as long as the authorities are the same: each request
// looks whether they are, and whether the certificate has expired meanwhile, on connections that were opened before, and on those
// that resume a session of such a connection.
type ClientCAs struct {
	file     string
	required bool
	current  atomic.Pointer[authorities]
}

// authorities are those that one reading of the file has found.
type authorities struct{ pool *x509.CertPool }

// maxAuthorities is the size of a file above which it is surely not one of authorities.
const maxAuthorities = 1 << 20

// LoadClientCAs reads the certificates of authorities from a PEM file, which has nothing else. required: each connection needs a
// certificate; otherwise clients may log in without.
func LoadClientCAs(file string, required bool) (*ClientCAs, error) {
	c := &ClientCAs{file: file, required: required}
	return c, c.Reload()
}

// Reload reads the file again. After an error the old authorities still count; else those that are there now, also for connections
// that are open.
func (c *ClientCAs) Reload() error {
	pool, err := readAuthorities(c.file)
	if err != nil {
		return fmt.Errorf("certificate authorities of clients: %w", err)
	}
	c.current.Store(&authorities{pool})
	return nil
}

func readAuthorities(file string) (*x509.CertPool, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxAuthorities+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxAuthorities {
		return nil, fmt.Errorf("%s is larger than 1 MiB; is it the right file?", file)
	}
	pool, n := x509.NewCertPool(), 0
	for block, rest := pem.Decode(data); ; block, rest = pem.Decode(rest) {
		if block == nil {
			if bytes.Contains(rest, []byte("-----BEGIN")) {
				return nil, fmt.Errorf("%s: what follows certificate %d is cut or damaged", file, n)
			}
			break
		}
		n++
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s: part %d is no certificate but a %s", file, n, block.Type)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d: %w", file, n, err)
		}
		pool.AddCert(certificate)
	}
	if n == 0 {
		return nil, fmt.Errorf("%s has no certificate (PEM)", file)
	}
	return pool, nil
}

// ask makes a server's configuration ask clients for a certificate of the current authorities.
func (c *ClientCAs) ask(config *tls.Config) {
	config.ClientAuth = tls.VerifyClientCertIfGiven
	if c.required {
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	config.ClientCAs = c.current.Load().pool
	base := config.Clone()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		current := base.Clone()
		current.ClientCAs = c.current.Load().pool
		return current, nil
	}
}

// provenName is the name in a certificate that the authorities by have signed; it is proven until a certificate expires.
type provenName struct {
	by    *authorities
	until time.Time
	name  string
}

// prove verifies the certificate of a connection, unless that is known from an earlier request. Errors: errCertificateExpired,
// errCertificateUntrusted, and those of nameOf.
func (c *ClientCAs) prove(known provenName, state *tls.ConnectionState, now time.Time) (provenName, error) {
	by := c.current.Load()
	if known.by == by && now.Before(known.until) {
		return known, nil
	}
	own, others := state.PeerCertificates[0], x509.NewCertPool()
	for _, certificate := range state.PeerCertificates[1:] {
		others.AddCert(certificate)
	}
	chains, err := own.Verify(x509.VerifyOptions{
		Roots: by.pool, Intermediates: others, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return provenName{}, errCertificateExpired
	}
	if err != nil {
		return provenName{}, errCertificateUntrusted
	}
	proven := provenName{by: by}
	for _, chain := range chains {
		until := slices.MinFunc(chain, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) }).NotAfter
		if until.After(proven.until) {
			proven.until = until
		}
	}
	proven.name, err = nameOf(own)
	return proven, err
}

// nameOf returns the name in a certificate: its common name, DNS names, e-mail addresses, IP addresses and URIs must all be one
// and the same, so that nobody can take one for the other.
func nameOf(c *x509.Certificate) (string, error) {
	var names []string
	commonName := []int{2, 5, 4, 3}
	for _, attribute := range c.Subject.Names {
		if attribute.Type.Equal(commonName) {
			names = append(names, fmt.Sprint(attribute.Value))
		}
	}
	names = append(append(names, c.DNSNames...), c.EmailAddresses...)
	for _, address := range c.IPAddresses {
		names = append(names, address.String())
	}
	for _, uri := range c.URIs {
		names = append(names, uri.String())
	}
	slices.Sort(names)
	switch names = slices.Compact(names); len(names) {
	case 0:
		return "", forbidden("the client certificate has no name: neither a common name nor an alternative name")
	case 1:
		return names[0], nil
	}
	return "", forbidden("the client certificate has %d names, and must have one: %.200q", len(names), strings.Join(names, " "))
}
