package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/activation"

	"packhouse/api"
)

// openListeners returns the sockets that the service manager passed, else opens addresses. passed tells which.
func openListeners(ctx context.Context, addresses []string) (listeners []net.Listener, passed bool, err error) {
	handed, err := activation.Listeners()
	if err != nil {
		return nil, false, fmt.Errorf("sockets passed by the service manager: %w", err)
	}
	for i, l := range handed {
		if l == nil {
			return nil, false, errors.Join(fmt.Errorf("socket %d passed by the service manager is not a stream socket", i+3), closeAll(handed))
		}
		if u, ok := l.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false) // the service manager's
		}
	}
	if len(handed) > 0 {
		return handed, true, nil
	}
	for _, address := range addresses {
		l, err := api.Listen(ctx, address)
		if err != nil {
			return nil, false, errors.Join(err, closeAll(listeners))
		}
		listeners = append(listeners, l)
	}
	return listeners, false, nil
}

func closeAll(listeners []net.Listener) error {
	var errs error
	for _, l := range listeners {
		if l != nil {
			errs = errors.Join(errs, l.Close())
		}
	}
	return errs
}

// certificate is a TLS certificate that is read again on request.
type certificate struct {
	certFile, keyFile string

	mu   sync.RWMutex // held for a look only
	cert *tls.Certificate
}

func loadCertificate(certFile, keyFile string) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile}
	return c, c.reload()
}

func (c *certificate) reload() error {
	cert, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("TLS certificate: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cert = &cert
	return nil
}

// wrap puts TLS on a listener; sockets of this machine stay plain.
func (c *certificate) wrap(l net.Listener) net.Listener {
	if l.Addr().Network() == "unix" {
		return l
	}
	return tls.NewListener(l, &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			c.mu.RLock()
			defer c.mu.RUnlock()
			return c.cert, nil
		},
	})
}

// urlOf is how a client on this machine or another reaches a listener.
func urlOf(l net.Listener, secure bool) string {
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
