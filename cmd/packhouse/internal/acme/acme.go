// Package acme has the server's certificates from an authority that issues them by the ACME protocol (RFC 8555), such as Let's Encrypt: it
// obtains those that are missing, renews those that end, and keeps them with the account in a directory of the server. It is certmagic
// with our files, our log and our clock of attempts.
//
// A certificate is obtained for each configured name, and for no other: what a client asks for decides only which of them it gets, in memory. The
// authority makes sure whose names they are by connections to the server, of one kind: TLS-ALPN-01 (RFC 8737) on the listeners that serve
// clients, or HTTP-01 (RFC 8555, section 8.3) on a listener of its own.
//
// Start reading at Open and Manager.
package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// Directory is the default of Options.Directory.
const Directory = certmagic.LetsEncryptProductionCA

// Options of Open. Domains and Dir are required.
type Options struct {
	Domains   []string       // for which there are to be certificates, in lower case; clients that ask for none of them get that of the first
	Email     string         // where the authority writes to; "": nowhere
	Directory string         // URL of the authority; "": Directory
	Roots     *x509.CertPool // that are trusted in connections to it; nil: those of the system
	HTTP      bool           // the authority makes sure by HTTP-01; else by TLS-ALPN-01

	Dir      string       // of what is stored; made with the first file
	MayWrite func() error // tells whether Dir may be written now; nil: it always may
	Logger   *slog.Logger // nil means silence
}

// Check tells whether the authority can issue certificates for the names at all, as far as that is known without asking it.
func (o *Options) Check() error {
	if o.directory() != Directory {
		return nil
	}
	var faults []error
	for _, domain := range o.Domains {
		if !certmagic.SubjectQualifiesForPublicCert(domain) {
			faults = append(faults, fmt.Errorf("a public authority issues no certificate for %q, which is a name of a private network; set acme_directory to an authority of your own, or use tls_self_signed", domain))
		}
	}
	return errors.Join(faults...)
}

func (o *Options) directory() string {
	if o.Directory == "" {
		return Directory
	}
	return o.Directory
}

// LoadRoots reads the certificates of authorities from a PEM file.
func LoadRoots(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate (PEM)", file)
	}
	return pool, nil
}

// Manager has the certificates. Its methods are safe for concurrent use.
type Manager struct {
	o       Options
	storage *storage
	cache   *certmagic.Cache
	config  *certmagic.Config
	issuer  *certmagic.ACMEIssuer
	server  *httpServer // nil: it does not listen

	ctx  context.Context
	stop context.CancelFunc
	done sync.WaitGroup
	now  chan struct{} // closed and replaced by Retry; guarded by mu

	// mu is held for a look only.
	mu       sync.Mutex
	failures map[string]error // of the last attempt, by domain; none: it went well, or there was none
}

// Intervals of attempts. Certmagic has its own for attempts that failed: from one minute to six hours, and for the second and later ones it asks the
// authority's test service, if it has one, until that issues a certificate: too many failures at the real one make it refuse for hours.
const (
	// renewalCheck is how often it is looked whether a certificate has to be renewed, which is when a third of its time is left, or as the
	// authority says. Certificates whose whole time is not many times longer would be renewed all the time.
	renewalCheck = time.Minute
	// giveUpPause is after an attempt that certmagic does not repeat: what is stored cannot be written, for example.
	giveUpPause = time.Hour
)

// Open reads the certificates that are stored, and asks nobody: no authority needs to be reached. A certificate that cannot be used, as a crash
// can leave one, is removed; another will be obtained. What Start does begins with it. Errors: I/O.
func Open(ctx context.Context, o Options) (*Manager, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Manager{o: o, storage: newStorage(o.Dir, o.MayWrite), now: make(chan struct{}), failures: make(map[string]error)}
	m.ctx, m.stop = context.WithCancel(context.WithoutCancel(ctx))
	logger := zap.New(core{log: o.Logger})
	m.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return m.config, nil },
		RenewCheckInterval: renewalCheck, Logger: logger,
	})
	m.config = certmagic.New(m.cache, certmagic.Config{
		Storage: m.storage, Logger: logger, OnEvent: m.event,
		// A response would be fetched at the start, and be waited for. Clients of backups do not look at it.
		OCSP: certmagic.OCSPConfig{DisableStapling: true},
	})
	m.issuer = certmagic.NewACMEIssuer(m.config, certmagic.ACMEIssuer{
		CA: o.directory(), Email: o.Email, Agreed: true, TrustedRoots: o.Roots, Logger: logger,
		DisableHTTPChallenge: !o.HTTP, DisableTLSALPNChallenge: o.HTTP,
		DisableDistributedSolvers: true, // nothing is read or written because of a connection
	})
	m.config.Issuers = []certmagic.Issuer{m.issuer}
	if err := m.load(); err != nil {
		m.Close()
		return nil, fmt.Errorf("ACME: stored certificates: %w", err)
	}
	return m, nil
}

// load takes the stored certificates into memory.
func (m *Manager) load() error {
	if err := m.storage.tidy(); err != nil {
		return err
	}
	for _, domain := range m.o.Domains {
		switch _, err := m.storage.pair(m.issuer.IssuerKey(), domain); {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case errors.Is(err, errUnusable):
			m.o.Logger.Warn("the stored certificate cannot be used and is obtained again", "domain", domain, "error", err)
			if err := m.storage.Delete(m.ctx, certmagic.StorageKeys.CertsSitePrefix(m.issuer.IssuerKey(), domain)); err != nil {
				m.o.Logger.Error("the stored certificate cannot be removed", "domain", domain, "error", err)
			}
			continue
		case err != nil:
			return err
		}
		if _, err := m.config.CacheManagedCertificate(m.ctx, domain); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Start obtains what is missing and renews what is due, until Close. challenges is the TCP listener to which the authority connects, or to which
// something forwards its connections: with HTTP-01 one of nothing else, which Close closes, else one that serves clients with Challenge.
func (m *Manager) Start(challenges net.Listener) {
	// Certmagic listens for challenges itself unless somebody does at this address.
	address := challenges.Addr().(*net.TCPAddr)
	m.issuer.ListenHost, m.issuer.AltTLSALPNPort, m.issuer.AltHTTPPort = (&net.IPAddr{IP: address.IP, Zone: address.Zone}).String(), address.Port, address.Port
	if m.o.HTTP {
		m.server = serveHTTP(challenges, m.o.Logger)
	}
	m.done.Go(m.renew)
	for _, domain := range m.o.Domains {
		m.done.Go(func() { m.obtain(domain) })
	}
}

// closePatience is how long Close waits for requests to an authority that does not answer.
const closePatience = 2 * time.Second

// Close stops all that Start has begun, and waits for it, but for requests to the authority that take longer than two seconds: what they bring is not
// stored.
func (m *Manager) Close() {
	m.stop()
	m.storage.close()
	if m.server != nil {
		m.server.close()
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		m.done.Wait()
		m.cache.Stop()
	}()
	select {
	case <-stopped:
	case <-time.After(closePatience):
	}
}

// Retry does now what waits for its time: attempts to obtain what is missing, and the look at what has to be renewed.
func (m *Manager) Retry() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.now)
	m.now = make(chan struct{})
}

// retried is closed by the next Retry.
func (m *Manager) retried() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// obtain has certmagic obtain a certificate, if there is none, until there is one. Each Retry lets it begin at once.
func (m *Manager) obtain(domain string) {
	for m.newest(domain) == nil && m.ctx.Err() == nil {
		retried := m.retried()
		ctx, cancel := context.WithCancel(m.ctx)
		ended := make(chan struct{})
		go func() {
			defer cancel()
			select {
			case <-retried:
			case <-ended:
			}
		}()
		err := m.config.ObtainCertAsync(ctx, domain)
		close(ended)
		if err == nil {
			_, err = m.config.CacheManagedCertificate(m.ctx, domain)
		}
		switch {
		case err == nil:
			return
		case m.ctx.Err() != nil:
			return
		case ctx.Err() != nil && isClosed(retried):
			continue
		}
		m.failed(domain, err)
		m.o.Logger.Error("ACME: no certificate could be obtained", "domain", domain, "retrying_in_seconds", giveUpPause.Seconds(), "error", err)
		select {
		case <-m.ctx.Done():
		case <-retried:
		case <-time.After(giveUpPause):
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// renew has certmagic look at all certificates at the start and at each Retry; at other times it does so itself.
func (m *Manager) renew() {
	for {
		retried := m.retried()
		if err := m.cache.RenewManagedCertificates(m.ctx); err != nil && m.ctx.Err() == nil {
			m.o.Logger.Error("ACME: renewals", "error", err)
		}
		select {
		case <-m.ctx.Done():
			return
		case <-retried:
		}
	}
}

// event takes note of what has become of attempts.
func (m *Manager) event(_ context.Context, event string, data map[string]any) error {
	domain, _ := data["identifier"].(string)
	switch event {
	case "cert_obtained":
		m.mu.Lock()
		delete(m.failures, domain)
		m.mu.Unlock()
		renewal, _ := data["renewal"].(bool)
		attrs := []any{"domain", domain, "renewal", renewal}
		if pair, err := m.storage.pair(m.issuer.IssuerKey(), domain); err == nil {
			attrs = append(attrs, "end", pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
		}
		m.o.Logger.Info("ACME: obtained a certificate", attrs...)
	case "cert_failed":
		err, _ := data["error"].(error)
		m.failed(domain, err)
	}
	return nil
}

func (m *Manager) failed(domain string, err error) {
	if m.ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failures[domain] = err
}

// newest is the certificate of a domain that ends last; nil: there is none.
func (m *Manager) newest(domain string) *tls.Certificate {
	var found *tls.Certificate
	for _, c := range m.cache.AllMatchingCertificates(domain) {
		if found == nil || c.Leaf.NotAfter.After(found.Leaf.NotAfter) {
			found = &c.Certificate
		}
	}
	return found
}

var errNone = errors.New("there is no certificate yet")

// Certificate is the one for a client, of memory: that of the name it asks for, or else of the first domain that has one, so that a client that uses an
// address is told which name it should use.
func (m *Manager) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	if slices.Contains(m.o.Domains, name) {
		if c := m.newest(name); c != nil {
			return c, nil
		}
	}
	for _, domain := range m.o.Domains {
		if c := m.newest(domain); c != nil {
			return c, nil
		}
	}
	return nil, errNone
}

// State is what there is, and what is missing.
type State struct {
	End      time.Time     // when the certificate ends that ends first; zero: there is none
	Lifetime time.Duration // of that one, as a whole
	Missing  []string      // domains without a certificate
	Failed   []string      // of these, those of which an attempt has failed
}

// State is as of now: what was renewed counts as soon as clients get it.
func (m *Manager) State() (s State) {
	for _, domain := range m.o.Domains {
		c := m.newest(domain)
		if c != nil {
			if s.End.IsZero() || c.Leaf.NotAfter.Before(s.End) {
				s.End, s.Lifetime = c.Leaf.NotAfter, c.Leaf.NotAfter.Sub(c.Leaf.NotBefore)
			}
			continue
		}
		s.Missing = append(s.Missing, domain)
		m.mu.Lock()
		if m.failures[domain] != nil {
			s.Failed = append(s.Failed, domain)
		}
		m.mu.Unlock()
	}
	return s
}

// Stored reads the stored certificate of a domain, and changes nothing. Errors: fs.ErrNotExist, else what is wrong with it.
func (o *Options) Stored(domain string) (*x509.Certificate, error) {
	issuer := &certmagic.ACMEIssuer{CA: o.directory()}
	pair, err := newStorage(o.Dir, nil).pair(issuer.IssuerKey(), domain)
	if err != nil {
		return nil, err
	}
	return pair.Leaf, nil
}
