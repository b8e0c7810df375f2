package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"packhouse/api/apitest"
)

// with is a client with a certificate, whose connections are its own.
func with(certificates ...tls.Certificate) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: certificates},
	}}
}

// TestClientCertificates: users log in with certificates, each with its own rights, and the file of authorities is read again.
func TestClientCertificates(t *testing.T) {
	dir := tempDir(t)
	certFile, keyFile := selfSigned(t, dir)
	first, second := apitest.NewAuthority(t, "first"), apitest.NewAuthority(t, "second")
	authorities := filepath.Join(dir, "clients.pem")
	write(t, authorities, first.PEM())
	users := `[[user]]
name = "laptop"
role = "backup"
repositories = ["laptop"]
[[user]]
name = "nightly"
role = "maintain"
password_hash = "` + hashOf(t, "secret") + `"
`
	settings := fmt.Sprintf("[server]\ntoken = 't'\naudit_log = %q\ntls_cert = %q\ntls_key = %q\ntls_client_ca = %q\n", filepath.Join(dir, "audit.log"), certFile, keyFile, authorities)
	write(t, filepath.Join(dir, "f.toml"), settings+users)
	s := startServer(t, dir, "-c", "f.toml", "-l", "unix:"+filepath.Join(dir, "s"))
	s.url = strings.TrimSuffix(s.url, ",")
	expect := func(client *http.Client, token string, status int, method, path, body string) {
		t.Helper()
		if got, text := request(t, client, token, method, s.url+path, body); got != status {
			t.Errorf("%s %s: got %d %q, want %d", method, path, got, text, status)
		}
	}
	expect(with(), "t", 200, "POST", "/laptop?cmd=create", "")
	expect(with(), "t", 200, "POST", "/phone?cmd=create", "")

	laptop, nightly := with(first.Named(t, "laptop")), with(first.Named(t, "nightly"))
	expect(laptop, "", 200, "POST", "/laptop/packs/a", "bytes of a")
	expect(laptop, "", 403, "DELETE", "/laptop/packs/a", "")
	expect(laptop, "", 403, "GET", "/phone/packs/a", "")
	expect(laptop, "", 403, "GET", "/-/tokens", "")
	expect(laptop, "t", 403, "GET", "/laptop/packs/a", "")
	expect(nightly, "", 200, "DELETE", "/laptop/packs/a", "")
	expect(with(first.Named(t, "mallory")), "", 403, "GET", "/laptop/packs/a", "")
	expect(with(), "", 401, "GET", "/laptop/packs/a", "")
	// A token may not have the name of a user, also not of one without a password.
	if code, _, errs := runHere(t, "token", "create", "--repo", "laptop", "--role", "read", "--name", "laptop", "-d", filepath.Join(dir, "packhouse-data")); code != 1 || !strings.Contains(errs, `there is a user "laptop"`) {
		t.Errorf("token create: got %d %q", code, errs)
	}

	hangup := func(want string) {
		t.Helper()
		const done = "reloaded the configuration"
		before := strings.Count(s.errs.String(), done)
		if err := s.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		await(t, done, func() bool { return strings.Count(s.errs.String(), done) > before }, s.errs)
		if !strings.Contains(s.errs.String(), want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	write(t, authorities, "nothing")
	hangup("could not read the certificate authorities of clients; the old ones still count")
	expect(laptop, "", 200, "POST", "/laptop/packs/b", "bytes of b")
	write(t, authorities, second.PEM())
	write(t, filepath.Join(dir, "f.toml"), strings.Replace(settings, "tls_client_ca", "tls_client_auth = 'required'\ntls_client_ca", 1)+users)
	hangup("this setting has changed and needs a restart setting=tls_client_auth")
	expect(laptop, "", 401, "GET", "/laptop/packs/b", "") // it sees that the server does not want its certificate, and sends none
	expect(with(second.Named(t, "laptop")), "", 200, "POST", "/laptop/packs/c", "bytes of c")
	if got := s.stop(t, syscall.SIGTERM); got != 0 {
		t.Errorf("exit code: got %d\n%s", got, s.errs)
	}

	audit, err := os.ReadFile(filepath.Join(dir, "audit.log"))
	for _, want := range []string{
		`"what":"delete","outcome":"refused","principal":"laptop","local":false`, `"what":"delete","outcome":"done","principal":"nightly","local":false`,
		`"what":"login","outcome":"refused","principal":"","local":false`, `the client certificate is of \"mallory\"`,
	} {
		if !strings.Contains(string(audit), want) {
			t.Errorf("the audit log lacks %s: %s, %v", want, audit, err)
		}
	}

	// Required: nobody connects without, but over the socket.
	s = startServer(t, dir, "-c", "f.toml", "-l", "unix:"+filepath.Join(dir, "s"))
	s.url = strings.TrimSuffix(s.url, ",")
	if response, err := with().Get(s.url + "/health"); err == nil {
		t.Errorf("without a certificate: got %s", response.Status)
		response.Body.Close()
	}
	expect(with(second.Named(t, "laptop")), "", 200, "POST", "/laptop/packs/d", "bytes of d")
	if response, err := with(second.Named(t, "laptop")).Get(s.url + "/health"); err != nil || response.StatusCode != 200 {
		t.Errorf("health: got %v, %v", response, err)
	} else {
		response.Body.Close()
	}
	if got, _ := request(t, overUnix(filepath.Join(dir, "s")), "t", "GET", "http://x/laptop/packs/d", ""); got != 200 {
		t.Errorf("over the socket: got %d, want 200", got)
	}
	if out := s.out.String(); !strings.Contains(out, "clients need a certificate of an authority in "+authorities) || strings.Contains(out, "BORG_REPO") {
		t.Errorf("the start printed:\n%s", out)
	}
}

// TestClientCertificateFlags: what cannot be is refused before anything is served.
func TestClientCertificateFlags(t *testing.T) {
	dir := tempDir(t)
	certFile, keyFile := selfSigned(t, dir)
	authorities := filepath.Join(dir, "clients.pem")
	write(t, authorities, "nothing")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // a server that comes so far ends, too
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--tls-client-ca", authorities}, 1, "tls_client_ca needs tls_cert and tls_key"},
		{[]string{"--tls-client-auth", "required"}, 1, "tls_client_auth needs tls_client_ca"},
		{[]string{"--tls-client-auth", "always"}, 2, `"always" is not one of optional, required`},
		{[]string{"--tls-client-ca", ""}, 2, "must not be empty"},
		{[]string{"--tls-cert", certFile, "--tls-key", keyFile, "--tls-client-ca", authorities}, 1, "has no certificate"},
		{[]string{"--tls-cert", certFile, "--tls-key", keyFile, "--tls-client-ca", keyFile}, 1, "is no certificate but a PRIVATE KEY"},
		{[]string{"--rest", "--backend", "FILE:" + dir, "--tls-client-ca", authorities}, 2, "--tls-client-ca cannot be used with --rest"},
	} {
		code, _, errs := runHere(t, append([]string{"serve", "-d", filepath.Join(dir, "d"), "-l", l.Addr().String()}, test.args...)...)
		if test.args[0] == "--rest" {
			code, _, errs = runHere(t, append([]string{"serve"}, test.args...)...)
		}
		if code != test.code || !strings.Contains(errs, test.want) {
			t.Errorf("%q: got %d %q, want %d %q", test.args, code, errs, test.code, test.want)
		}
	}
}
