package acme

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"packhouse/api/apitest"
)

const authority = "https://authority.test/directory"

// keep stores a certificate as certmagic does, and returns it.
func keep(t *testing.T, dir, domain string, ends time.Duration) *x509.Certificate {
	t.Helper()
	return keepOf(t, dir, domain, domain, ends)
}

func keepOf(t *testing.T, dir, domain, name string, ends time.Duration) *x509.Certificate {
	t.Helper()
	now := time.Now()
	pair := apitest.NewAuthority(t, "a").Issue(t, x509.Certificate{DNSNames: []string{name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(ends)})
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	s := newStorage(dir, nil)
	issuer := (&certmagic.ACMEIssuer{CA: authority}).IssuerKey()
	for name, text := range map[string][]byte{
		certmagic.StorageKeys.SiteCert(issuer, domain):       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}),
		certmagic.StorageKeys.SitePrivateKey(issuer, domain): pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		certmagic.StorageKeys.SiteMeta(issuer, domain):       fmt.Appendf(nil, `{"sans": [%q]}`, domain),
	} {
		if err := s.Store(t.Context(), name, text); err != nil {
			t.Fatal(err)
		}
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func open(t *testing.T, o Options) (*Manager, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	o.Directory, o.Logger = authority, slog.New(slog.NewJSONHandler(&log, nil))
	m, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m, &log
}

// files lists what is below a directory, with modes and contents.
func files(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Mode().IsRegular() {
			var text []byte
			text, err = os.ReadFile(name)
			name += " " + string(text)
		}
		all = append(all, info.Mode().String()+" "+name)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return all
}

// TestCertificate: clients get the certificate of the name that they ask for, others that of the first name, and nothing is stored because of any of them.
func TestCertificate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "acme")
	domains := []string{"none.example.org", "a.example.org", "b.example.org"}
	m, _ := open(t, Options{Dir: dir, Domains: domains})
	if _, err := m.Certificate(&tls.ClientHelloInfo{ServerName: "a.example.org"}); !errors.Is(err, errNone) {
		t.Errorf("before there is one: got %v", err)
	}
	if s := m.State(); !s.End.IsZero() || !slices.Equal(s.Missing, domains) || s.Failed != nil {
		t.Errorf("before there is one: got %+v", s)
	}
	if all := files(t, dir); all != nil {
		t.Errorf("made without need: %q", all)
	}

	a, b := keep(t, dir, "a.example.org", 3*time.Hour), keep(t, dir, "b.example.org", 2*time.Hour)
	m, log := open(t, Options{Dir: dir, Domains: domains})
	before := files(t, dir)
	for _, c := range []struct {
		name string
		want *x509.Certificate
	}{
		{"a.example.org", a}, {"A.Example.ORG.", a}, {"b.example.org", b}, {"", a}, {"none.example.org", a}, {"stranger.example.com", a},
		{"..", a}, {"../../x", a}, {"*.example.org", a}, {strings.Repeat("x", 10000), a},
	} {
		got, err := m.Certificate(&tls.ClientHelloInfo{ServerName: c.name})
		if err != nil || !bytes.Equal(got.Certificate[0], c.want.Raw) {
			t.Errorf("%.30q: another certificate, %v", c.name, err)
		}
		hello := &tls.ClientHelloInfo{ServerName: c.name, SupportedProtos: []string{"acme-tls/1"}}
		if config, err := m.Challenge(hello); config != nil || !errors.Is(err, errNoChallenge) {
			t.Errorf("a challenge for %.30q that nobody expects: got %v, %v", c.name, config, err)
		}
		hello.SupportedProtos = []string{"acme-tls/1", "http/1.1"}
		if config, err := m.Challenge(hello); config != nil || err != nil {
			t.Errorf("%.30q, which is no challenge: got %v, %v", c.name, config, err)
		}
	}
	if s := m.State(); s.End.Unix() != b.NotAfter.Unix() || s.Lifetime != 3*time.Hour || !slices.Equal(s.Missing, domains[:1]) {
		t.Errorf("got %+v", s)
	}
	m.failed("none.example.org", errors.New("no"))
	if s := m.State(); !slices.Equal(s.Failed, domains[:1]) {
		t.Errorf("after an attempt that failed: got %+v", s)
	}
	if after := files(t, dir); !slices.Equal(before, after) || log.Len() > 0 {
		t.Errorf("files before: %q\nafter: %q\n%s", before, after, log)
	}
	for _, entry := range before {
		if !strings.HasPrefix(entry, "drwx------") && !strings.HasPrefix(entry, "-rw-------") {
			t.Errorf("others can read %.60s", entry)
		}
	}
}

// TestUnusable: what a crash leaves between the files of a certificate is removed, so that another one is obtained; with other faults nothing is.
func TestUnusable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "acme")
	keep(t, dir, "a.example.org", time.Hour)
	keepOf(t, dir, "b.example.org", "other.example.org", time.Hour)
	good := keep(t, dir, "c.example.org", time.Hour)
	issuer := (&certmagic.ACMEIssuer{CA: authority}).IssuerKey()
	s := newStorage(dir, nil)
	other, err := s.Load(t.Context(), certmagic.StorageKeys.SitePrivateKey(issuer, "c.example.org"))
	if err == nil {
		err = s.Store(t.Context(), certmagic.StorageKeys.SitePrivateKey(issuer, "a.example.org"), other)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"certificates/.new-x", "rw_test_1"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := Options{Dir: dir, Directory: authority, Domains: []string{"a.example.org", "b.example.org", "c.example.org"}}
	if _, err := o.Stored("a.example.org"); !errors.Is(err, errUnusable) {
		t.Errorf("got %v", err)
	}
	if leaf, err := o.Stored("c.example.org"); err != nil || !bytes.Equal(leaf.Raw, good.Raw) {
		t.Errorf("got %v, %v", leaf, err)
	}
	if _, err := o.Stored("d.example.org"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	m, log := open(t, o)
	if s := m.State(); !slices.Equal(s.Missing, o.Domains[:2]) {
		t.Errorf("got %+v", s)
	}
	if n := strings.Count(log.String(), "the stored certificate cannot be used and is obtained again"); n != 2 {
		t.Errorf("%d warnings:\n%s", n, log)
	}
	left := strings.Join(files(t, dir), "\n")
	for _, gone := range []string{"a.example.org", "b.example.org", ".new-", "rw_test_"} {
		if strings.Contains(left, gone) {
			t.Errorf("%s is still there", gone)
		}
	}

	// A directory that cannot be read is no reason to remove what is in it.
	name := filepath.Join(dir, filepath.FromSlash(certmagic.StorageKeys.SiteCert(issuer, "c.example.org")))
	if err := errors.Join(os.Remove(name), os.Mkdir(name, 0o700)); err != nil {
		t.Fatal(err)
	}
	if m, err := Open(t.Context(), o); err == nil {
		m.Close()
		t.Error("a certificate that cannot be read: no error")
	}
	if _, err := os.Stat(filepath.Dir(name)); err != nil {
		t.Error(err)
	}
}

// TestRetry: an attempt that has failed for a reason of ours is in the log and in the state, and is made again at once when that is asked for.
func TestRetry(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var refused atomic.Bool
	refused.Store(true)
	var log apitest.Log
	o := Options{
		Dir: filepath.Join(t.TempDir(), "acme"), Domains: []string{"localhost"}, Directory: "https://127.0.0.1:1/dir", Logger: slog.New(slog.NewTextHandler(&log, nil)),
		MayWrite: func() error {
			if refused.Load() {
				return errors.New("not now")
			}
			return nil
		},
	}
	m, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	m.Start(l)
	const given = `level=ERROR msg="ACME: no certificate could be obtained" domain=localhost retrying_in_seconds=3600 error="failed storage check: not now`
	log.Await(t, 0, given)
	if s := m.State(); !slices.Equal(s.Failed, o.Domains) {
		t.Errorf("got %+v", s)
	}
	refused.Store(false)
	m.Retry()
	log.Await(t, 0, `level=ERROR msg="ACME: will retry"`)
	seen := len(log.String())
	refused.Store(true)
	m.Retry() // also when the library waits for its next attempt
	log.Await(t, seen, given)
}

// TestStorage: nothing lies outside of the directory, nothing is written when it must not be, and locks exclude each other.
func TestStorage(t *testing.T) {
	ctx := t.Context()
	var refuse error
	s := newStorage(filepath.Join(t.TempDir(), "deep", "acme"), func() error { return refuse })
	for _, key := range []string{"", ".", "..", "../x", "a/../../x", "/etc/x"} {
		_, loadErr := s.Load(ctx, key)
		for what, err := range map[string]error{"store": s.Store(ctx, key, nil), "load": loadErr, "delete": s.Delete(ctx, key)} {
			if !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("%s %q: got %v", what, key, err)
			}
		}
	}
	for _, key := range []string{"a/b/1", "a/b/2", "a/3"} {
		if err := s.Store(ctx, key, []byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.List(ctx, "a", true); err != nil || !slices.Equal(got, []string{"a/3", "a/b", "a/b/1", "a/b/2"}) {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := s.List(ctx, "a", false); err != nil || !slices.Equal(got, []string{"a/3", "a/b"}) {
		t.Errorf("got %q, %v", got, err)
	}
	if info, err := s.Stat(ctx, "a/b"); err != nil || info.IsTerminal {
		t.Errorf("got %+v, %v", info, err)
	}
	if info, err := s.Stat(ctx, "a/b/1"); err != nil || !info.IsTerminal || info.Size != 5 {
		t.Errorf("got %+v, %v", info, err)
	}
	// Half of an account is none.
	for _, key := range []string{"acme/a/users/default/default.json", "acme/a/users/b@x/b.key", "acme/a/users/c@x/c.json", "acme/a/users/c@x/c.key"} {
		if err := s.Store(ctx, key, []byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.List(ctx, "acme/a/users", false); err != nil || !slices.Equal(got, []string{"acme/a/users/c@x"}) {
		t.Errorf("accounts: got %q, %v", got, err)
	}
	refuse = errors.New("not now")
	if err := s.Store(ctx, "a/3", []byte("x")); !errors.Is(err, refuse) {
		t.Errorf("store: got %v", err)
	}
	if err := s.Delete(ctx, "a"); !errors.Is(err, refuse) {
		t.Errorf("delete: got %v", err)
	}
	refuse = nil
	if err := errors.Join(s.Delete(ctx, "a/b"), s.Delete(ctx, "a/b")); err != nil || s.Exists(ctx, "a/b/1") || !s.Exists(ctx, "a/3") {
		t.Errorf("delete: got %v", err)
	}
	if _, err := s.Load(ctx, "a/b/1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}

	if err := s.Lock(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	if ok, err := s.TryLock(ctx, "x"); ok || err != nil {
		t.Errorf("a lock twice: got %v, %v", ok, err)
	}
	got := make(chan error)
	go func() { got <- s.Lock(ctx, "x") }()
	if err := s.Unlock(ctx, "x"); err != nil {
		t.Error(err)
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
	if err := errors.Join(s.Unlock(ctx, "x"), s.Lock(ctx, "x")); err != nil {
		t.Error(err)
	}
	s.close()
	if err := s.Store(ctx, "a/3", nil); !errors.Is(err, errClosed) {
		t.Errorf("after the end: got %v", err)
	}
}

// TestLog: warnings and errors of the library keep their level and what they say; the rest is for debugging.
func TestLog(t *testing.T) {
	var log bytes.Buffer
	level := new(slog.LevelVar)
	logger := zap.New(core{slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))}).Named("x").With(zap.String("domain", "a"))
	logger.Debug("d")
	logger.Info("i")
	logger.Warn("w", zap.Strings("names", []string{"x", "y"}))
	logger.Error("e", zap.Error(errors.Join(errors.New("one"), errors.New("two"))),
		zap.Dict("problem", zap.String("type", "t"), zap.String("detail", "why"), zap.String("instance", "")))
	level.Set(slog.LevelDebug)
	logger.Info("i", zap.Duration("wait", time.Minute))
	want := `level=WARN msg="ACME: w" domain=a names="[x y]"
level=ERROR msg="ACME: e" domain=a error="one\ntwo" problem.detail=why problem.type=t
level=DEBUG msg="ACME: i" domain=a wait_seconds=60
`
	if got := log.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestStrangers: who asks the listener for HTTP-01 for anything but a challenge that is expected gets nothing.
func TestStrangers(t *testing.T) {
	for _, path := range []string{"/", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/abc", "/.well-known/acme-challenge/../../etc/passwd"} {
		w := httptest.NewRecorder()
		answer(w, httptest.NewRequest("GET", path, nil))
		if w.Code != 404 || strings.Contains(w.Body.String(), "abc") {
			t.Errorf("%s: got %d %q", path, w.Code, w.Body)
		}
	}
}

// TestCheck: names that no public authority knows are refused before it is asked.
func TestCheck(t *testing.T) {
	for _, c := range []struct {
		directory, domain string
		ok                bool
	}{
		{"", "backup.example.org", true}, {"", "localhost", false}, {"", "nas.local", false}, {Directory, "nas.lan", true}, {authority, "localhost", true},
	} {
		o := Options{Directory: c.directory, Domains: []string{c.domain}}
		if err := o.Check(); (err == nil) != c.ok {
			t.Errorf("%s of %q: got %v", c.domain, c.directory, err)
		}
	}
}
