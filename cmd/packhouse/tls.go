package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"time"

	"packhouse/api"
	"packhouse/api/alert"
	"packhouse/api/holder"
	"packhouse/cmd/packhouse/internal/acme"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/repo/datadir"
	"packhouse/repo/layout"
)

// acmeDir is the directory of certificates of an ACME authority and of the account there, in the directory of the server's own files.
const acmeDir = "acme"

// examineTLS reads the files of certificates that the configuration names.
func (sv *service) examineTLS() (err error) {
	if sv.c.TLSCert != "" {
		if err = sv.loadCertificate(sv.c.TLSCert, sv.c.TLSKey); err != nil {
			return err
		}
	}
	if sv.c.ACME.Wanted() {
		o, err := acmeOptions(&sv.c)
		if err == nil {
			err = o.Check()
		}
		if err != nil {
			return err
		}
	}
	if sv.c.TLSClientCA != "" {
		sv.clients, err = api.LoadClientCAs(sv.c.TLSClientCA, sv.c.TLSClientAuth == config.CertificateRequired)
	}
	return err
}

// loadCertificate reads the server's certificate and key.
func (sv *service) loadCertificate(cert, key string) (err error) {
	sv.cert, err = api.LoadCertificate(cert, key)
	return err
}

// acmeOptions are what a configuration says of the authority.
func acmeOptions(c *config.Config) (acme.Options, error) {
	o := acme.Options{Domains: c.ACME.Domains, Email: c.ACME.Email, Directory: c.ACME.Directory, HTTP: c.ACME.HTTPListen != ""}
	if c.ACME.Root != "" {
		var err error
		if o.Roots, err = acme.LoadRoots(c.ACME.Root); err != nil {
			return o, fmt.Errorf("acme_root: %w", err)
		}
	}
	return o, nil
}

// prepareTLS has the certificate that is kept in the data directory: one that the server has made, or those of an authority. No authority is asked yet.
func (sv *service) prepareTLS(claim *holder.Claim) error {
	if sv.c.TLSSelfSigned {
		return sv.selfSigned(claim.Dir)
	}
	if !sv.c.ACME.Wanted() {
		return nil
	}
	o, err := acmeOptions(&sv.c)
	if err != nil {
		return err
	}
	o.Dir, o.Logger, o.MayWrite = filepath.Join(layout.ServerDir(claim.Dir), acmeDir), sv.log, claim.Attached
	if claim.ReadOnly {
		sv.log.Warn("certificates can be neither obtained nor renewed, as the file system of the data directory is read-only")
		o.MayWrite = func() error { return errors.New("the file system of the data directory is read-only") }
	}
	// What certmagic writes to the standard logger: panics, and addresses on which it could not listen.
	log.SetFlags(0)
	log.SetOutput(slog.NewLogLogger(sv.log.Handler(), slog.LevelWarn).Writer())
	sv.acme, err = acme.Open(context.Background(), o)
	return err
}

// listen opens the addresses of clients, and the one for challenges of the kind HTTP-01. passed: those of clients come from the service manager.
func (sv *service) listen(ctx context.Context) (listeners []net.Listener, passed bool, err error) {
	if listeners, passed, err = api.OpenListeners(ctx, sv.c.Listen); err != nil || sv.acme == nil {
		return listeners, passed, err
	}
	i := slices.IndexFunc(listeners, func(l net.Listener) bool { _, tcp := l.Addr().(*net.TCPAddr); return tcp })
	if i < 0 {
		return nil, false, errors.Join(errors.New("acme_domains: there is no TCP address among those that the server listens on, so that no client would see the certificates"), api.CloseAll(listeners))
	}
	sv.challenges = listeners[i]
	if address := sv.c.ACME.HTTPListen; address != "" {
		if sv.challenges, err = api.Listen(ctx, address); err != nil {
			return nil, false, errors.Join(fmt.Errorf("acme_http_listen: %w", err), api.CloseAll(listeners))
		}
	}
	return listeners, passed, nil
}

// tls is how connections are encrypted.
func (sv *service) tls() api.TLS {
	t := api.TLS{Clients: sv.clients}
	if sv.c.TLSMinVersion == "1.3" {
		t.MinVersion = tls.VersionTLS13
	}
	if sv.acme != nil {
		t.Certificate, t.Challenge = sv.acme.Certificate, sv.acme.Challenge
	} else {
		t.Certificate = sv.cert.Get
	}
	return t
}

// startACME begins to obtain and renew certificates.
func (sv *service) startACME() {
	if sv.acme == nil {
		return
	}
	if missing := sv.acme.State().Missing; len(missing) > 0 {
		sv.log.Info("ACME: there is no certificate yet; until there is one, clients cannot connect by TLS", "domains", missing, "directory", sv.acmeDirectory())
	}
	sv.acme.Start(sv.challenges)
}

// acmeDirectory is the URL of the authority.
func (sv *service) acmeDirectory() string {
	if sv.c.ACME.Directory != "" {
		return sv.c.ACME.Directory
	}
	return acme.Directory
}

// closeTLS stops what startACME has begun.
func (sv *service) closeTLS() {
	if sv.acme == nil {
		return
	}
	sv.acme.Close()
	if sv.c.ACME.HTTPListen != "" && sv.challenges != nil {
		_ = sv.challenges.Close() // again, if it was served
	}
}

// certificateState is what alerts and metrics tell of the server's certificate.
func (sv *service) certificateState() alert.ServerCertificate {
	if sv.acme == nil {
		return alert.ServerCertificate{End: sv.cert.Expires()}
	}
	s := sv.acme.State()
	return alert.ServerCertificate{End: s.End, Lifetime: s.Lifetime, Missing: s.Missing, Failed: s.Failed}
}

// clientURL is the address of a listener for clients, by a name that the certificate is for.
func (sv *service) clientURL(l net.Listener) string {
	if l.Addr().Network() == "unix" || sv.acme == nil {
		return api.URL(l, sv.c.TLS())
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return api.URL(l, true)
	}
	if port == httpsPort {
		return "https://" + sv.c.ACME.Domains[0]
	}
	return "https://" + net.JoinHostPort(sv.c.ACME.Domains[0], port)
}

// The ports to which authorities connect.
const (
	httpsPort = "443"
	httpPort  = "80"
)

// acme looks at what is known of certificates without asking the authority.
func (in *inspection) acme() {
	if !in.c.ACME.Wanted() {
		return
	}
	o, err := acmeOptions(in.c)
	in.fault(err)
	in.fault(o.Check())
	addresses, port, what := in.c.Listen, httpsPort, "listen"
	if in.c.ACME.HTTPListen != "" {
		addresses, port, what = []string{in.c.ACME.HTTPListen}, httpPort, "acme_http_listen"
	}
	if !slices.ContainsFunc(addresses, func(address string) bool { _, p, err := net.SplitHostPort(address); return err == nil && p == port }) {
		in.warn("acme_domains: the certificate authority connects to port %s of %s, and %s has another port; something has to forward the connections to it, as they are, unless the service manager passes a socket", port, in.c.ACME.Domains[0], what)
	}
	dir, err := datadir.ResolveDir(in.c.DataDir)
	if err != nil {
		return // directory says so
	}
	o.Dir = filepath.Join(layout.ServerDir(dir), acmeDir)
	for _, domain := range in.c.ACME.Domains {
		switch leaf, err := o.Stored(domain); {
		case errors.Is(err, fs.ErrNotExist):
		case errors.Is(err, fs.ErrPermission):
			in.warn("acme_domains: %v; run this as the user of the server", err)
		case err != nil:
			in.warn("acme_domains: the stored certificate of %s: %v; the server obtains another one", domain, err)
		case leaf.NotAfter.Before(in.now):
			in.warn("acme_domains: the certificate of %s has expired on %s; a server that runs obtains another one", domain, leaf.NotAfter.Local().Format(time.DateOnly))
		}
	}
}
