//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"packhouse/api/apitest"
)

// mutual is a server of which each client needs a certificate. Its users have nothing but that.
type mutual struct {
	*server
	config, own string // files: the configuration, and the server's certificate
	clients     *apitest.Authority
	authorities string // file
}

func startMutual(t *testing.T, users string) *mutual {
	t.Helper()
	certificate, key := selfSigned(t)
	m := &mutual{own: certificate, clients: apitest.NewAuthority(t, "backup clients")}
	dir := t.TempDir()
	m.config, m.authorities = filepath.Join(dir, "packhouse.toml"), filepath.Join(dir, "clients.pem")
	writeFile(t, m.authorities, m.clients.PEM(), 0o644)
	m.set(t, users)
	m.server = startServer(t, "--config", m.config, "--tls-cert", certificate, "--tls-key", key, "--tls-client-ca", m.authorities, "--tls-client-auth", "required")
	return m
}

// set writes the configuration: an administrator, and users that may back up, each in the repository of its name.
func (m *mutual) set(t *testing.T, users string) {
	t.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "[server]\n[[user]]\nname = \"operator\"\nrole = \"admin\"\n")
	for _, name := range strings.Fields(users) {
		fmt.Fprintf(&text, "[[user]]\nname = %q\nrole = \"backup\"\nrepositories = [%q]\n", name, name)
	}
	writeFile(t, m.config, text.String(), 0o600)
}

// reload has the server read its files again, and returns when it has.
func (m *mutual) reload() {
	m.t.Helper()
	reloads := func() (n int) {
		for _, e := range m.entries() {
			if e.Msg == "reloaded the configuration" {
				n++
			}
		}
		return n
	}
	before := reloads()
	if err := m.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		m.t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); reloads() == before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			m.t.Fatal("the server does not read its configuration again")
		}
	}
}

// curl sends a request with the certificate of a user ("": without one), and returns the status; 0: none.
func (m *mutual) curl(certFile, keyFile string, args ...string) (status int) {
	m.t.Helper()
	args = append([]string{"--silent", "--cacert", m.own, "--output", "/dev/null", "--write-out", "%{http_code}"}, args...)
	if certFile != "" {
		args = append(args, "--cert", certFile, "--key", keyFile)
	}
	out, _ := exec.Command(need(m.t, "curl"), args...).Output()
	_, _ = fmt.Sscan(string(out), &status)
	return status
}

// forward runs stunnel with the file of deploy/, as on the machine of a client with a certificate, and returns its address.
func (m *mutual) forward(certFile, keyFile string) string {
	m.t.Helper()
	t := m.t.(*testing.T)
	front, dir := freeAddress(t), shortDir(t)
	_, port, _ := strings.Cut(m.addr, ":")
	config := filepath.Join(dir, "stunnel.conf")
	writeFile(t, config, "foreground = yes\n"+deployed(t, "stunnel.conf",
		"127.0.0.1:8485", front,
		"backup.example.org:8484", "127.0.0.1:"+port,
		"/etc/packhouse-client/laptop.pem", certFile,
		"/etc/packhouse-client/laptop.key", keyFile,
		"/etc/ssl/certs/ca-certificates.crt", m.own,
		"checkHost = backup.example.org", "checkHost = localhost"), 0o600)
	startProxy(t, front, dir, need(t, "stunnel"), config)
	return front
}

// TestMutualTLS: real clients log in with a certificate alone, borg and vykar by way of stunnel, as they have no setting for one.
// It lets nobody else in, and each only into its own repository.
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	m := startMutual(t, "laptop vault")
	certFile, keyFile := apitest.Files(t, m.clients.Named(t, "laptop"))
	run(t, nil, packhouse(), "repo", "create", "-d", m.data, "--dialect", "borgstore", "laptop")
	run(t, nil, packhouse(), "repo", "create", "-d", m.data, "--dialect", "vger", "vault")

	front := m.forward(certFile, keyFile)
	tr := newTree(t, 61, 40, 2<<20)
	b := newBorg(t, "http://"+front+"/laptop")
	b.run("repo-create", "--encryption", "aes256-ocb")
	b.in(filepath.Dir(tr.dir), `"$BORG" create laptop tree`)
	b.run("check", "--verify-data")
	id := b.archives()[0]
	look(t, filepath.Join(b.extract(id), "tree")).same(t, look(t, tr.dir))
	steps(t, "borg", b.try, []step{{false, []string{"delete", "aid:" + id}}, {false, []string{"repo-delete"}}, {true, []string{"repo-list"}}})
	other := newBorg(t, "http://"+front+"/vault")
	steps(t, "borg", other.try, []step{{false, []string{"repo-list"}}})
	// Without stunnel borg has no certificate to show, and the server's token does not help.
	direct := newBorg(t, m.url("laptop"), "REQUESTS_CA_BUNDLE="+m.own)
	steps(t, "borg", direct.try, []step{{false, []string{"repo-list"}}})
	for _, r := range m.requests() {
		if r.Principal != "laptop" && r.Principal != "local" {
			t.Errorf("a request of %q: %s", r.Principal, r.raw)
		}
	}

	t.Run("vykar", func(t *testing.T) {
		program := vykarProgram(t)
		v := newVykar(t, program, "http://"+m.forward(apitest.Files(t, m.clients.Named(t, "vault")))+"/vault", tr.dir)
		config := strings.TrimPrefix(v.env[0], "VYKAR_CONFIG=")
		text, err := os.ReadFile(config)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, config, strings.Replace(string(text), "    access_token: "+token+"\n", "", 1), 0o600)
		v.run("init")
		v.run("backup")
		v.run("check", "--verify-data")
		if out, code := v.try("delete", "--yes-delete-this-repo"); code == 0 {
			t.Errorf("a client that may back up deletes its repository:\n%s", out)
		}
	})
}

// TestMutualTLSCurl: what curl is told when it comes with, without or with a wrong certificate, and when files are read again.
func TestMutualTLSCurl(t *testing.T) {
	t.Parallel()
	m := startMutual(t, "laptop")
	run(t, nil, packhouse(), "repo", "create", "-d", m.data, "--dialect", "borgstore", "laptop")
	item := []string{"--header", "Accept: application/vnd.x.borgstore.rest.v1", "https://" + m.addr + "/laptop/config/a"}
	store := append(item, "--request", "POST", "--data-binary", "bytes of a")
	withToken := append(item, "--oauth2-bearer", token)
	certFile, keyFile := apitest.Files(t, m.clients.Named(t, "laptop"))
	want := func(what string, status int, certFile, keyFile string, args []string) {
		t.Helper()
		if got := m.curl(certFile, keyFile, args...); got != status {
			t.Errorf("%s: got %d, want %d", what, got, status)
		}
	}
	want("store", http.StatusOK, certFile, keyFile, store)
	want("load", http.StatusOK, certFile, keyFile, item)
	want("load with TLS 1.2", http.StatusOK, certFile, keyFile, append(item, "--tls-max", "1.2"))
	want("delete", http.StatusForbidden, certFile, keyFile, append(item, "--request", "DELETE"))
	want("with the server's token besides", http.StatusForbidden, certFile, keyFile, withToken)
	want("without a certificate", 0, "", "", withToken)
	want("health without a certificate", 0, "", "", []string{"https://" + m.addr + "/health"})
	want("health", http.StatusOK, certFile, keyFile, []string{"https://" + m.addr + "/health"})
	malloryCert, malloryKey := apitest.Files(t, m.clients.Named(t, "mallory"))
	want("no user", http.StatusForbidden, malloryCert, malloryKey, item)
	forgedCert, forgedKey := apitest.Files(t, apitest.NewAuthority(t, "backup clients").Named(t, "laptop"))
	want("another authority of the same name", 0, forgedCert, forgedKey, item)

	// Administration from afar.
	operatorCert, operatorKey := apitest.Files(t, m.clients.Named(t, "operator"))
	list := func(args ...string) (string, int) {
		return try(t, []string{"SSL_CERT_FILE=" + m.own, "PACKHOUSE_TOKEN=" + token}, packhouse(), append([]string{"token", "list", "--server", "https://" + m.addr}, args...)...)
	}
	if out, code := list("--cert", operatorCert, "--key", operatorKey); code != 0 {
		t.Errorf("token list with a certificate: %s", out)
	}
	if out, code := list("--cert", certFile, "--key", keyFile); code == 0 {
		t.Errorf("token list with the certificate of a client: %s", out)
	}
	if out, code := list(); code == 0 {
		t.Errorf("token list without a certificate: %s", out)
	}

	// A certificate is revoked by removing the user, or by another name for it.
	m.set(t, "laptop2")
	m.reload()
	want("of a user that was removed", http.StatusForbidden, certFile, keyFile, item)
	m.set(t, "laptop")
	second := apitest.NewAuthority(t, "other clients")
	writeFile(t, m.authorities, second.PEM(), 0o644)
	m.reload()
	want("of an authority that was removed", 0, certFile, keyFile, item)
	certFile, keyFile = apitest.Files(t, second.Named(t, "laptop"))
	want("of the new authority", http.StatusOK, certFile, keyFile, item)
}
