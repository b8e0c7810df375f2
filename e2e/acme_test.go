//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"packhouse/api/apitest"
)

// pebble is a real ACME authority. It connects to localhost at the ports tls and http; each start of it is another authority at the same address.
type pebble struct {
	t                     testing.TB
	addr, management      string
	tlsAddr, httpAddr     string // of servers
	own, key, roots, file string // own: the certificate of its directory. roots: of the certificates that it issues
	cmd                   *exec.Cmd
	log                   bytes.Buffer
}

func newPebble(t testing.TB) *pebble {
	t.Helper()
	dir := t.TempDir()
	p := &pebble{
		t: t, addr: freeAddress(t), management: freeAddress(t), tlsAddr: freeAddress(t), httpAddr: freeAddress(t),
		roots: filepath.Join(dir, "roots.pem"), file: filepath.Join(dir, "pebble.json"),
	}
	p.own, p.key = selfSigned(t)
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("log of Pebble:\n%s", lastLines(p.log.String(), 40))
		}
	})
	return p
}

// start runs it; its certificates are valid for a time.
func (p *pebble) start(valid time.Duration) {
	p.t.Helper()
	port := func(addr string) string { _, port, _ := net.SplitHostPort(addr); return port }
	writeFile(p.t, p.file, fmt.Sprintf(`{"pebble": {"listenAddress": %q, "managementListenAddress": %q, "certificate": %q, "privateKey": %q, "tlsPort": %s, "httpPort": %s,
"ocspResponderURL": "", "domainBlocklist": ["blocked.example.org"], "retryAfter": {"authz": 1, "order": 1}, "profiles": {"default": {"description": "", "validityPeriod": %d}}}}`,
		p.addr, p.management, p.own, p.key, port(p.tlsAddr), port(p.httpAddr), valid/time.Second), 0o600)
	p.cmd = exec.Command(need(p.t, "pebble"), "-config", p.file)
	p.cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0")
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: trusting(p.t, p.own)}}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		resp, err := client.Get("https://" + p.management + "/roots/0")
		if err == nil {
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err == nil && resp.StatusCode == http.StatusOK {
				writeFile(p.t, p.roots, string(text), 0o600)
				return
			}
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("Pebble does not answer: %v", err)
		}
	}
}

func (p *pebble) stop() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		p.cmd = nil
	}
}

// server prepares one that has certificates of it.
func (p *pebble) server(addr string, args ...string) *server {
	p.t.Helper()
	s := newServer(p.t)
	s.addr, s.scheme = addr, "https"
	writeFile(p.t, filepath.Join(s.dir, "token"), token+"\n", 0o600)
	s.args = append([]string{
		"serve", "--listen", s.addr, "--listen", "unix:" + filepath.Join(s.dir, "s"), "--data-dir", s.data, "--token-file", filepath.Join(s.dir, "token"), "--log-format", "json",
		"--acme-domain", "localhost", "--acme-agree", "--acme-directory", "https://" + p.addr + "/dir", "--acme-root", p.own,
	}, args...)
	return s
}

// hangup has the server look at its certificates at once.
func (s *server) hangup() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		s.t.Fatal(err)
	}
}

// awaitLog waits until n lines of the log match.
func (s *server) awaitLog(pattern string, n int) {
	s.t.Helper()
	match := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		text, err := os.ReadFile(s.logPath)
		if err != nil {
			s.t.Fatal(err)
		}
		if len(match.FindAll(text, -1)) >= n {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the log has fewer than %d lines of %s", n, pattern)
		}
	}
}

const obtained = `"ACME: obtained a certificate"`

// leaf is the certificate that a client gets for a name, not verified.
func (s *server) leaf(config *tls.Config) *x509.Certificate {
	s.t.Helper()
	config.InsecureSkipVerify = true
	conn, err := tls.Dial("tcp", s.addr, config)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

// awaitCertificate waits until clients get one.
func (s *server) awaitCertificate() {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		conn, err := tls.Dial("tcp", s.addr, &tls.Config{InsecureSkipVerify: true})
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("there is no certificate: %v", err)
		}
	}
}

// overSocket asks for the health over the Unix socket.
func (s *server) overSocket(path string) string {
	s.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(s.dir, "s"))
	}}}
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://x"+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.SetBasicAuth("packhouse", token)
	resp, err := client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s over the socket: got %s %s, %v", path, resp.Status, text, err)
	}
	return string(text)
}

// curl asks for the health over TLS, as a client that trusts the roots alone.
func (s *server) curl(roots string, args ...string) string {
	s.t.Helper()
	_, port, _ := net.SplitHostPort(s.addr)
	return run(s.t, nil, need(s.t, "curl"), append([]string{"--silent", "--show-error", "--fail", "--cacert", roots, "https://localhost:" + port + "/health"}, args...)...)
}

// stored lists the files of certificates with their modes and the times at which they were written.
func (s *server) stored() (all []string) {
	s.t.Helper()
	err := filepath.WalkDir(filepath.Join(s.data, ".packhouse", "acme"), func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			s.t.Errorf("others can read %s: %s", name, info.Mode())
		}
		all = append(all, fmt.Sprint(name, info.Mode(), info.ModTime().UnixNano()))
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}

// TestACME: a server obtains its certificate from a real authority by TLS-ALPN-01, as soon as that can be reached; clients that trust the authority use the
// server; and it is renewed without a restart.
func TestACME(t *testing.T) {
	t.Parallel()
	need(t, "pebble")
	p := newPebble(t)
	s := p.server(p.tlsAddr)
	s.expectErrors = "connection refused"
	s.start()
	s.awaitLog(`"ACME: will retry".*connection refused`, 1)
	s.overSocket("/health")
	if conn, err := tls.Dial("tcp", s.addr, &tls.Config{ServerName: "localhost", InsecureSkipVerify: true}); err == nil {
		conn.Close()
		t.Error("before there is a certificate: a connection")
	}

	p.start(4 * time.Minute) // which is so short that each look renews it
	s.hangup()
	s.awaitLog(obtained+`.*"renewal":false`, 1)
	first := s.leaf(&tls.Config{ServerName: "localhost"})
	s.curl(p.roots)
	_, port, _ := net.SplitHostPort(s.addr)
	b := newBorg(t, "https://packhouse:"+token+"@localhost:"+port+"/laptop", "REQUESTS_CA_BUNDLE="+p.roots)
	b.run("repo-create", "--encryption", "none-blake3")
	b.run("create", "first", p.file)

	s.hangup()
	s.awaitLog(obtained+`.*"renewal":true`, 1)
	second := s.leaf(&tls.Config{ServerName: "localhost"})
	if second.SerialNumber.Cmp(first.SerialNumber) == 0 {
		t.Error("the certificate was renewed, and clients get the old one")
	}
	b.run("create", "second", p.file)
	if metrics := s.overSocket("/metrics"); !strings.Contains(metrics, fmt.Sprintf("\npackhouse_certificate_end_seconds %v\n", float64(second.NotAfter.Unix()))) {
		t.Errorf("the metrics do not tell of the new certificate, which ends at %d", second.NotAfter.Unix())
	}
}

// TestACMEByHTTP: HTTP-01 on a listener of its own, which answers nothing else; a name that the authority refuses is in the log, and no harm to others; and
// after a restart the certificate is there without the authority.
func TestACMEByHTTP(t *testing.T) {
	t.Parallel()
	need(t, "pebble")
	p := newPebble(t)
	p.start(90 * 24 * time.Hour)
	s := p.server(freeAddress(t), "--acme-http-listen", p.httpAddr, "--acme-email=admin@example.org", "--acme-domain=blocked.example.org")
	s.expectErrors = "rejectedIdentifier"
	s.start()
	s.awaitLog(obtained+`.*"domain":"localhost"`, 1)
	s.awaitLog(`"ACME: will retry".*blocked.example.org.*rejectedIdentifier`, 1)
	s.curl(p.roots)
	if got := s.leaf(&tls.Config{ServerName: "blocked.example.org"}); got.DNSNames[0] != "localhost" {
		t.Errorf("a name without a certificate: got one of %q", got.DNSNames)
	}
	if !strings.Contains(s.overSocket("/metrics"), "\npackhouse_certificates_missing 1\n") {
		t.Error("the metrics do not tell of the certificate that is missing")
	}
	for _, path := range []string{"", "health", ".well-known/acme-challenge/x"} {
		resp, err := http.Get("http://" + p.httpAddr + "/" + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("/%s: got %s", path, resp.Status)
		}
	}

	// After a restart what is stored is there without the authority, and no stranger changes it.
	good := s.leaf(&tls.Config{ServerName: "localhost"})
	p.stop()
	s.stop()
	s.args = slices.DeleteFunc(s.args, func(arg string) bool { return strings.Contains(arg, "blocked") })
	before, lines := s.stored(), len(s.entries())
	s.start()
	for _, name := range []string{"localhost", "", "a.example.org", "b.example.org"} {
		if got := s.leaf(&tls.Config{ServerName: name}); !bytes.Equal(got.Raw, good.Raw) {
			t.Errorf("%q after a restart: another certificate", name)
		}
		if conn, err := tls.Dial("tcp", s.addr, &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{"acme-tls/1"}}); err == nil {
			conn.Close()
			t.Errorf("%q: a challenge that nobody expects is answered", name)
		}
	}
	s.curl(p.roots)
	if after := s.stored(); !slices.Equal(before, after) {
		t.Errorf("stored before the restart: %q\nand after it: %q", before, after)
	}
	for _, e := range s.entries()[lines:] {
		if strings.HasPrefix(e.Msg, "ACME: ") {
			t.Errorf("with a certificate that is good: %s", e.raw)
		}
	}
	if log := p.log.String(); strings.Contains(log, "tls-alpn-01 validation") {
		t.Errorf("Pebble was asked for another challenge:\n%s", log)
	}
}

// TestACMEKilled: a server that is killed while it obtains a certificate obtains it after the next start; and clients' certificates, which it demands, are
// not demanded of the authority. The same on a socket that the service manager has passed.
func TestACMEKilled(t *testing.T) {
	t.Parallel()
	need(t, "pebble")
	p := newPebble(t)
	p.start(90 * 24 * time.Hour)
	clients := apitest.NewAuthority(t, "backup clients")
	authorities := filepath.Join(t.TempDir(), "clients.pem")
	writeFile(t, authorities, clients.PEM(), 0o644)
	s := p.server(p.tlsAddr, "--tls-client-ca", authorities, "--tls-client-auth", "required", "--log-level", "debug")
	for _, pause := range []time.Duration{50, 150, 300, 500, 800, 1100} {
		s.start()
		time.Sleep(pause * time.Millisecond)
		s.kill()
	}
	s.start()
	s.awaitCertificate()
	certificate, key := apitest.Files(t, clients.Named(t, "laptop"))
	if out, code := try(t, nil, need(t, "curl"), "--silent", "--show-error", "--cacert", p.roots, strings.Replace(s.url("health"), "127.0.0.1", "localhost", 1)); code == 0 {
		t.Errorf("without a certificate: got %s", out)
	}
	if out, code := try(t, nil, need(t, "curl"), "--silent", "--show-error", "--cacert", p.roots, "--cert", certificate, "--key", key,
		strings.Replace(s.url("health"), "127.0.0.1", "localhost", 1)); code != 0 {
		t.Errorf("with a certificate: got %s", out)
	}

	// As killed between the two files of the account, before there was a certificate.
	s.stop()
	own := filepath.Join(s.data, ".packhouse", "acme")
	keys, err := filepath.Glob(filepath.Join(own, "acme", "*", "users", "default", "default.key"))
	if err != nil || len(keys) != 1 {
		t.Fatalf("keys of accounts: got %q, %v", keys, err)
	}
	if err := errors.Join(os.Remove(keys[0]), os.RemoveAll(filepath.Join(own, "certificates"))); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	l.Close() // the descriptor keeps the socket
	s.program, s.args = "/bin/sh", append([]string{"-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"`, "sh", packhouse()}, s.args...)
	s.launch(socket)
	s.awaitCertificate()
}
