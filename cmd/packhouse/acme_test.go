package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"packhouse/api/apitest"
)

// nowhere is the directory of an authority that does not answer.
const nowhere = "https://127.0.0.1:1/dir"

// TestACMESettings: what cannot be is refused in one line, and what can go wrong is said.
func TestACMESettings(t *testing.T) {
	dir := tempDir(t)
	data := filepath.Join(dir, "data")
	roots := filepath.Join(dir, "roots.pem")
	write(t, roots, apitest.NewAuthority(t, "a").PEM())
	const wanted = "acme_domains = ['backup.example.org']\nacme_agree = true\n"
	for _, test := range []struct {
		name, text string
		code       int
		want       string
	}{
		{"fine", "listen = ':443'\n" + wanted, 0, ""},
		{"fine by HTTP-01", wanted + "acme_http_listen = ':80'\nacme_email = 'a@example.org'\nacme_root = '" + roots + "'\ntls_min_version = '1.3'\ntls_client_ca = '" + roots + "'", 0, ""},
		{"another port", wanted, 0, "connects to port 443 of backup.example.org, and listen has another port"},
		{"another port for HTTP-01", wanted + "acme_http_listen = ':8080'", 0, "connects to port 80 of backup.example.org, and acme_http_listen has another port"},
		{"not agreed", "acme_domains = ['backup.example.org']", 1, "acme_domains needs acme_agree = true"},
		{"two certificates", wanted + "tls_self_signed = true", 1, "acme_domains excludes tls_cert and tls_self_signed"},
		{"with files", wanted + "tls_cert = 'a'\ntls_key = 'b'", 1, "acme_domains excludes tls_cert and tls_self_signed"},
		{"no domain", "acme_email = 'a@example.org'", 1, "acme_email has no effect without acme_domains"},
		{"a wildcard", "acme_domains = ['*.example.org']\nacme_agree = true", 1, "stands for many names"},
		{"an address", "acme_domains = ['192.0.2.1']\nacme_agree = true", 1, "is not a domain name"},
		{"upper case", "acme_domains = ['Backup.example.org']\nacme_agree = true", 1, "is not a domain name"},
		{"twice", "acme_domains = ['a.example.org', 'a.example.org']\nacme_agree = true", 1, "has a name twice"},
		{"many", "acme_domains = [" + strings.Join(numbered(21), ", ") + "]\nacme_agree = true", 1, "has 21 names; the maximum is 20"},
		{"a private name", "acme_domains = ['nas.local']\nacme_agree = true", 1, `a public authority issues no certificate for "nas.local"`},
		{"a private name of a private authority", "listen = ':443'\nacme_domains = ['nas.local']\nacme_agree = true\nacme_directory = 'https://ca.local/dir'", 0, ""},
		{"no URL", wanted + "acme_directory = 'ca.local'", 1, "is not the URL of an ACME directory"},
		{"no mail address", wanted + "acme_email = 'me'", 1, "is not an e-mail address"},
		{"a socket", wanted + "acme_http_listen = 'unix:/run/x'", 1, "is a socket"},
		{"no roots", wanted + "acme_root = '/nowhere/r.pem'", 1, "acme_root: open /nowhere/r.pem"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(dir, "f.toml")
			write(t, file, "[server]\ntoken = '9f3c61d0a7e85b24c8d1f06e3b7a92540de6b18c5f473a29e01d8c6b7f5a4392'\ndata_dir = '"+data+"'\n"+test.text)
			code, out, errs := runHere(t, "config", "check", file)
			if code != test.code || !strings.Contains(out+errs, test.want) || test.want == "" && strings.Contains(out+errs, "acme") {
				t.Errorf("got %d\n%s%s\nwant %d and %q", code, out, errs, test.code, test.want)
			}
			if _, err := os.Stat(data); err == nil {
				t.Error("the check has made the data directory")
			}
		})
	}
	cmd := program(t, dir, "packhouse", "serve", "-l", "unix:"+filepath.Join(dir, "s"), "--acme-domain", "localhost", "--acme-agree", "--acme-directory", nowhere)
	if s := launch(t, cmd); s.code(t) != 1 || !strings.Contains(s.errs.String(), "there is no TCP address among those that the server listens on") {
		t.Errorf("without a TCP address: got\n%s", s.errs)
	}
}

func numbered(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("'n%d.example.org'", i))
	}
	return names
}

// TestACMEAway: a server whose authority does not answer starts, serves what it can, says what is missing, tries again when it is told to, and stops at
// once.
func TestACMEAway(t *testing.T) {
	dir := tempDir(t)
	data, socket := filepath.Join(dir, "data"), filepath.Join(dir, "s")
	file := filepath.Join(dir, "f.toml")
	settings := "[server]\ntoken = 't'\ndata_dir = '" + data + "'\nacme_domains = ['localhost']\nacme_agree = true\nacme_directory = '" + nowhere + "'\n[monitoring]\ninterval = '1s'\n"
	write(t, file, settings)
	s := startServer(t, dir, "-c", file, "-l", "unix:"+socket)
	port := regexp.MustCompile(`https://localhost:(\d+),`).FindStringSubmatch(s.url)
	if port == nil {
		t.Fatalf("the URL for clients: got %s", s.url)
	}
	if got, text := request(t, overUnix(socket), "t", "POST", "http://x/r/?cmd=create", ""); got != http.StatusOK {
		t.Errorf("over the socket: got %d %s", got, text)
	}
	if _, err := tls.Dial("tcp", "127.0.0.1:"+port[1], &tls.Config{ServerName: "localhost"}); err == nil || !strings.Contains(err.Error(), "tls: internal error") {
		t.Errorf("over TLS: got %v", err)
	}
	s.errs.await(t, `ACME: there is no certificate yet; .* domains=\[localhost\] directory=`+nowhere)
	s.errs.await(t, `ERR ACME: will retry error=.*connection refused.* retrying_in_seconds=60`)
	await(t, "the alert", func() bool {
		_, out, _ := runHere(t, "alert", "list", "-d", data)
		return strings.Contains(out, "critical\tcertificate\t") && strings.Contains(out, "no certificate for localhost")
	}, s.errs)
	if text := scrape(t, socket); !strings.Contains(text, "\npackhouse_certificates_missing 1\n") || !strings.Contains(text, "\npackhouse_certificate_end_seconds 0\n") {
		t.Error("the metrics do not say that there is no certificate")
	}

	write(t, file, "[server]\nacme_email = 'a@example.org'\n"+strings.TrimPrefix(settings, "[server]\n"))
	if err := s.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.errs.await(t, `this setting has changed and needs a restart setting=acme_email`)
	await(t, "another attempt", func() bool { return strings.Count(s.errs.String(), "ACME: will retry") > 1 }, s.errs)
	began := time.Now()
	if code := s.stop(t, syscall.SIGTERM); code != 0 || time.Since(began) > 10*time.Second {
		t.Errorf("got %d after %v\n%s", code, time.Since(began), s.errs)
	}
}

// scrape reads the metrics over a socket.
func scrape(t *testing.T, socket string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://x/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("packhouse", "t")
	resp, err := overUnix(socket).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("metrics: got %s %s, %v", resp.Status, text, err)
	}
	return string(text)
}

// storeACME stores a certificate of localhost as a server has stored it that obtained it from nowhere.
func storeACME(t *testing.T, data string, ends time.Time) (pool *x509.CertPool) {
	t.Helper()
	authority := apitest.NewAuthority(t, "issuer")
	certFile, keyFile := apitest.Files(t, authority.Issue(t, x509.Certificate{DNSNames: []string{"localhost"}, NotBefore: ends.AddDate(0, 0, -90), NotAfter: ends}))
	own := filepath.Join(data, ".packhouse", "acme", "certificates", "127.0.0.1-1-dir", "localhost")
	if err := os.MkdirAll(own, 0o700); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{certFile: "localhost.crt", keyFile: "localhost.key"} {
		if err := os.Rename(from, filepath.Join(own, to)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(own, "localhost.json"), `{"sans": ["localhost"]}`)
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(authority.PEM()))
	return pool
}

// TestACMEStored: what is stored is served without asking anybody, with client certificates and the least version of TLS as with files; alerts and
// metrics tell of it; and one that a crash has left without its key is obtained again.
func TestACMEStored(t *testing.T) {
	dir := tempDir(t)
	data, file, socket := filepath.Join(dir, "data"), filepath.Join(dir, "f.toml"), filepath.Join(dir, "s")
	clients := apitest.NewAuthority(t, "clients")
	write(t, filepath.Join(dir, "clients.pem"), clients.PEM())
	write(t, file, "[server]\ntoken = 't'\ndata_dir = '"+data+"'\nacme_domains = ['localhost']\nacme_agree = true\nacme_directory = '"+nowhere+"'\n"+
		"tls_min_version = '1.3'\ntls_client_auth = 'required'\ntls_client_ca = '"+filepath.Join(dir, "clients.pem")+"'\n[[user]]\nname = 'laptop'\nrole = 'backup'\n")
	ends := time.Now().Add(20 * 24 * time.Hour).Truncate(time.Second)
	pool := storeACME(t, data, ends)
	s := startServer(t, dir, "-c", file, "-l", "unix:"+socket)
	s.url = strings.TrimSuffix(s.url, ",")
	dial := func(c *tls.Config) error {
		t.Helper()
		c.RootCAs, c.ServerName = pool, "localhost"
		conn, err := tls.Dial("tcp", strings.Replace(strings.TrimPrefix(s.url, "https://"), "localhost", "127.0.0.1", 1), c)
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err = conn.Write([]byte("GET /health HTTP/1.0\r\n\r\n")); err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		return err
	}
	named := []tls.Certificate{clients.Named(t, "laptop")}
	if err := dial(&tls.Config{Certificates: named}); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	if err := dial(&tls.Config{}); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("without a certificate: got %v", err)
	}
	if err := dial(&tls.Config{NextProtos: []string{"acme-tls/1"}}); err == nil {
		t.Error("a challenge that nobody expects: no error")
	}
	if err := dial(&tls.Config{Certificates: named, MaxVersion: tls.VersionTLS12}); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.2: got %v", err)
	}
	text := scrape(t, socket)
	if m := regexp.MustCompile(`\npackhouse_certificate_end_seconds (\S+)\n`).FindStringSubmatch(text); m == nil || m[1] != strconv.FormatFloat(float64(ends.Unix()), 'g', -1, 64) {
		t.Errorf("the end of the certificate: got %v, want %d", m, ends.Unix())
	}
	s.errs.await(t, `ERR ACME: could not get certificate from issuer.*connection refused`) // as less than a third of its time is left
	if err := dial(&tls.Config{Certificates: named}); err != nil {
		t.Errorf("while it cannot be renewed: %v", err)
	}
	if code := s.stop(t, syscall.SIGTERM); code != 0 {
		t.Fatalf("got %d\n%s", code, s.errs)
	}

	storeACME(t, filepath.Join(dir, "other"), ends)
	part := filepath.Join(".packhouse", "acme", "certificates", "127.0.0.1-1-dir", "localhost", "localhost.key")
	if err := os.Rename(filepath.Join(dir, "other", part), filepath.Join(data, part)); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := runHere(t, "config", "check", file); code != 0 || !strings.Contains(out, "the stored certificate of localhost: certificate and key cannot be used") {
		t.Errorf("got %d\n%s", code, out)
	}
	s = startServer(t, dir, "-c", file)
	s.errs.await(t, `the stored certificate cannot be used and is obtained again domain=localhost`)
	s.errs.await(t, `ACME: there is no certificate yet`)
}

// TestACMEListener: an address for HTTP-01 that is in use is an error of the start, and one that is not answers nothing but challenges, until the end.
func TestACMEListener(t *testing.T) {
	dir := tempDir(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	args := []string{"--acme-domain", "localhost", "--acme-agree", "--acme-directory", nowhere, "--acme-http-listen", address}
	s := launch(t, program(t, dir, append([]string{"packhouse", "serve", "-l", "127.0.0.1:0"}, args...)...))
	if code := s.code(t); code != 1 || !strings.Contains(s.errs.String(), "acme_http_listen: listen on "+address+": ") {
		t.Errorf("got %d\n%s", code, s.errs)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s = startServer(t, dir, args...)
	for _, path := range []string{"/", "/health", "/.well-known/acme-challenge/x"} {
		if got, text := request(t, http.DefaultClient, s.token, "GET", "http://"+address+path, ""); got != http.StatusNotFound {
			t.Errorf("%s: got %d %s", path, got, text)
		}
	}
	if code := s.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("got %d\n%s", code, s.errs)
	}
}
