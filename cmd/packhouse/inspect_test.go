package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// certificateUntil writes a certificate and its key that end at a time.
func certificateUntil(t *testing.T, dir string, end time.Time) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: end.AddDate(-1, 0, 0), NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write(t, cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
	return cert, key
}

// TestConfigCheckLooks: what a server would open is looked at, and what it would hardly be meant to do is said.
func TestConfigCheckLooks(t *testing.T) {
	dir := tempDir(t)
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(filepath.Join(data, "laptop"), 0o700); err != nil {
		t.Fatal(err)
	}
	in := func(end time.Time) string {
		below := filepath.Join(dir, end.Format("20060102150405.000"))
		if err := os.Mkdir(below, 0o700); err != nil {
			t.Fatal(err)
		}
		cert, key := certificateUntil(t, below, end)
		return "tls_cert = '" + cert + "'\ntls_key = '" + key + "'\n"
	}
	long := "9f3c61d0a7e85b24c8d1f06e3b7a92540de6b18c5f473a29e01d8c6b7f5a4392"
	hash := hashOf(t, "x")
	otherFile := filepath.Join(dir, "file")
	write(t, otherFile, "bytes")
	if err := os.Chmod(otherFile, 0o644); err != nil {
		t.Fatal(err)
	}
	tokenFile := filepath.Join(dir, "hook.token")
	write(t, tokenFile, "tk_1")
	if err := os.Chmod(tokenFile, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, text string
		code       int
		want       []string // parts of the output; none: there is neither a warning nor a hint
	}{
		{"fine", "token = '" + long + "'", 0, nil},
		{"short token", "token = 'abc'", 0, []string{"warning: token can be guessed: it has only 3 characters"}},
		{"dull token", "token = '" + strings.Repeat("ab", 32) + "'", 0, []string{"only 2 different characters"}},
		{"placeholder", "token = 'some-Secret-t0ken-of-the-manual'", 0, []string{"a word that everybody tries"}},
		{"no certificate", "tls_cert = '/nowhere/c.pem'\ntls_key = '/nowhere/k.pem'", 1, []string{"tls_cert, tls_key: open /nowhere/c.pem"}},
		{"expired", in(time.Now().AddDate(0, 0, -1)), 0, []string{"has expired on"}},
		{"ends soon", in(time.Now().AddDate(0, 0, 3)), 0, []string{"the certificate expires on"}},
		{"valid", "listen = ':8484'\n" + in(time.Now().AddDate(1, 0, 0)), 0, nil},
		{"no authorities", in(time.Now().AddDate(1, 0, 1)) + "tls_client_ca = '/nowhere/ca.pem'", 1, []string{"/nowhere/ca.pem"}},
		{"all addresses", "listen = ':8484'", 0, []string{"listen: :8484 is plain HTTP"}},
		{"public address", "listen = ['192.0.2.1:80', '[2001:db8::1]:80']", 0, []string{"listen: 192.0.2.1:80 is plain", "[2001:db8::1]:80 is plain"}},
		{"private addresses", "listen = ['127.0.0.1:80', '10.1.2.3:80', '[::1]:80', 'unix:/run/x.sock', 'localhost:80']", 0, nil},
		{"behind a proxy elsewhere", "listen = ':8484'\ntrusted_proxies = ['10.0.0.0/8']", 0, nil},
		{"misspelt repository", "[[user]]\nname = 'u'\npassword_hash = '" + hash + "'\nrole = 'backup'\nrepositories = ['labtop', 'phone']\n[[repository]]\nname = 'phone'", 0,
			[]string{`user "u" is for the repository "labtop", which does not exist and has no [[repository]]; did you mean "laptop"?`}},
		{"table", "[[user]]\nname = 'u'\npassword_hash = '" + hash + "'\npermissions = { '' = 'lr' }", 0,
			[]string{`hint: user "u" has permissions of its own`, "all, no-delete, write-only, read-only"}},
		{"preset", "[[user]]\nname = 'u'\npassword_hash = '" + hash + "'\npermissions = 'read-only'", 0, nil},
		{"no password", "[[alert]]\nname = 'm'\ntype = 'mail'\nto = 'a@b.example'\nfrom = 'p@b.example'\nsmtp = 'mail.b.example:587'\nuser = 'u'\npassword_file = '/nowhere/p'", 1,
			[]string{`alert "m": password_file: open /nowhere/p`}},
		{"no program", "[[alert]]\nname = 'c'\ntype = 'command'\ncommand = ['/nowhere/notify']\nrepositories = ['labtop']", 0,
			[]string{`warning: alert "c": command: `, "/nowhere/notify", `warning: alert "c" is for the repository "labtop", which does not exist and has no [[repository]]; did you mean "laptop"?`}},
		{"receivers", "[[alert]]\nname = 'c'\ntype = 'command'\ncommand = ['/bin/sh']\nrepositories = ['laptop']\n[[alert]]\nname = 'n'\ntype = 'ntfy'\nurl = 'https://n.example/t'\ntoken_file = '" + tokenFile + "'", 0, nil},
		{"a token that all can read", "[[alert]]\nname = 'n'\ntype = 'ntfy'\nurl = 'https://n.example/t'\ntoken_file = '" + otherFile + "'", 0, []string{`alert "n": token_file: every user of this machine can read ` + otherFile}},
		{"wrong permissions", "permissions = 'readonly'", 1, []string{`did you mean "read-only"?`}},
		{"append-only is no name", "permissions = 'append-only'", 1, []string{"one of all, no-delete, write-only, read-only; append_only is a setting of its own"}},
		{"socket nowhere", "listen = 'unix:/nowhere/x.sock'", 0, []string{"there is no directory /nowhere for the socket"}},
		{"password of mail nowhere", "[[alert]]\nname = 'm'\ntype = 'mail'\nsmtp = 'h:25'\nuser = 'u'\npassword_file = '/nowhere/p'\nfrom = 'a@example.org'\nto = 'b@example.org'", 1,
			[]string{`alert "m": password_file: open /nowhere/p`}},
		{"no program", "[[alert]]\nname = 'c'\ntype = 'command'\ncommand = ['/nowhere/program']", 0, []string{`warning: alert "c": `, "/nowhere/program"}},
		{"everybody is a proxy", "proxy_user_header = 'X-Remote-User'\ntrusted_proxies = ['0.0.0.0/0']", 0, []string{"may be any user by sending X-Remote-User"}},
		{"one proxy", "proxy_user_header = 'X-Remote-User'\ntrusted_proxies = ['10.1.0.7', 'unix']", 0, nil},
		{"a file", "data_dir = '" + otherFile + "'", 1, []string{"is not a directory"}},
		{"none yet", "data_dir = '" + filepath.Join(dir, "none") + "'", 0, []string{"does not exist; serve creates it"}},
		{"audit log nowhere", "audit_log = '/nowhere/audit.log'", 1, []string{"audit_log: there is no directory /nowhere"}},
		{"two faults", "audit_log = '/nowhere/audit.log'\ntoken_file = '/nowhere/token'", 1, []string{"packhouse.toml: audit_log", "packhouse.toml: token file"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(tempDir(t), "packhouse.toml")
			text := "[server]\n" + test.text + "\n"
			if !strings.Contains(text, "data_dir") {
				text = "[server]\ndata_dir = '" + data + "'\n" + test.text + "\n"
			}
			write(t, file, text)
			if err := os.Chmod(file, 0o600); err != nil {
				t.Fatal(err)
			}
			before := namesBelow(t, dir)
			code, out, errs := runHere(t, "config", "check", file)
			if code != test.code {
				t.Errorf("got %d, want %d: %s%s", code, test.code, out, errs)
			}
			for _, want := range test.want {
				if !strings.Contains(out+errs, want) {
					t.Errorf("got %s%s, want %q", out, errs, want)
				}
			}
			if test.want == nil && (strings.Contains(out, "warning") && !strings.Contains(out, "not a repository") || strings.Contains(out, "hint")) {
				t.Errorf("got %s, want no remark", out)
			}
			if strings.Contains(out+errs, long) {
				t.Error("the token is printed")
			}
			if after := namesBelow(t, dir); !slices.Equal(before, after) {
				t.Errorf("the check has made files: %q, before %q", after, before)
			}
		})
	}
}

// namesBelow are all files below a directory.
func namesBelow(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		names = append(names, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestConfigCheckBesideTheServer: the check takes nothing from a server that runs, and a server that listens in the open says so.
func TestConfigCheckBesideTheServer(t *testing.T) {
	dir := tempDir(t)
	file := filepath.Join(dir, "packhouse.toml")
	write(t, file, "[server]\ndata_dir = '"+filepath.Join(dir, "data")+"'\nlisten = '0.0.0.0:0'\n")
	r := launch(t, program(t, dir, "packhouse", "serve", "--config", file))
	r.out.await(t, `serves .* at (https?://\S+)`)
	r.errs.await(t, `0\.0\.0\.0:\d+ is plain HTTP|\[::\]:\d+ is plain HTTP`)
	r.url, r.token = "http://127.0.0.1:"+r.out.await(t, `serves .* at https?://[^ ]*:(\d+)`)[1], r.out.await(t, `token   ([0-9a-f]{64})`)[1]
	code, out, errs := runHere(t, "config", "check", file)
	if code != 0 || !strings.Contains(out, "is plain HTTP") || strings.Contains(out, "guessed") {
		t.Errorf("got %d, %s%s", code, out, errs)
	}
	r.expect(t, http.StatusOK, http.MethodPost, "/laptop?cmd=create", "")
}
