package main

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"packhouse/repo/layout"
)

// startResticServer runs rest-server on a port the system chooses, as a symbolic link of that name would.
func startResticServer(t testing.TB, path string, args ...string) *running {
	t.Helper()
	cmd := program(t, "/", append([]string{"/usr/local/bin/rest-server", "--path", path, "--listen", "127.0.0.1:0"}, args...)...)
	r := launch(t, cmd)
	r.url = "http://" + r.errs.await(t, `start server on (\S+)`)[1]
	return r
}

// object is the path of an object in a repository's prefix, and what is stored there.
func object(prefix, kind, content string) (path, body string) {
	return fmt.Sprintf("%s/%s/%x", prefix, kind, sha256.Sum256([]byte(content))), content
}

// requestOf is a request of a user, and the status of the answer.
type requestOf struct {
	user, method, path, body string
	want                     int
}

// all sends requests, with the media type of restic's clients where these send it.
func (r *running) all(t *testing.T, passwords map[string]string, requests []requestOf) {
	t.Helper()
	for _, q := range requests {
		accept := "application/vnd.x.restic.rest.v2"
		if q.path == "/metrics" || strings.Contains(q.path, "/-/") {
			accept = "*/*"
		}
		if got, text := r.as(t, q.user, passwords[q.user], q.method, q.path, q.body, "Accept", accept); got != q.want {
			t.Errorf("%s %s as %q: got %d %q, want %d\n%s", q.method, q.path, q.user, got, text, q.want, r.errs)
		}
	}
}

// TestResticServerPrivate: users from the file in the data directory, each with its own repositories, and no right but to add.
func TestResticServerPrivate(t *testing.T) {
	dir := filepath.Join(tempDir(t), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	passwords := map[string]string{"alice": "a", "bob": "b", "metrics": "m", "data": "d", "token": "t"}
	text := ""
	for user, password := range passwords {
		text += user + ":" + hashOf(t, password) + "\n"
	}
	write(t, filepath.Join(dir, ".htpasswd"), text)
	s := startResticServer(t, dir, "--private-repos", "--append-only", "--prometheus", "--no-verify-upload", "--max-size", "100000")
	path, body := object("/alice/laptop", "data", "a pack")
	lock, lockBody := object("/alice/laptop", "locks", "a lock")
	foreign, _ := object("/bob", "data", "a pack")
	s.all(t, passwords, []requestOf{
		{"", "POST", "/alice/?create=true", "", 401}, {"alice", "POST", "/alice/?create=true", "", 200}, {"alice", "POST", "/alice/laptop/?create=true", "", 200},
		{"alice", "POST", "/alice/laptop/config", "c", 200}, {"alice", "POST", path, body, 200}, {"alice", "GET", path, "", 200}, {"alice", "POST", path, body, 200},
		{"alice", "POST", strings.TrimRight(path, "0123456789abcdef") + strings.Repeat("a", 64), body, 400}, // in spite of --no-verify-upload
		{"alice", "DELETE", path, "", 403}, {"alice", "POST", lock, lockBody, 200}, {"alice", "DELETE", lock, "", 200},
		{"bob", "GET", path, "", 403}, {"bob", "POST", "/alice/?create=true", "", 403}, {"bob", "GET", "/nobody/data/", "", 403}, {"alice", "GET", foreign, "", 403},
		{"alice", "POST", "/?create=true", "", 403}, {"alice", "GET", "/data/", "", 403}, {"data", "POST", "/?create=true", "", 403}, {"data", "GET", "/data/", "", 403},
		{"token", "POST", "/token/?create=true", "", 200}, {"token", "GET", "/alice/laptop/data/", "", 403}, // a user like others
		{"metrics", "GET", "/metrics", "", 200}, {"alice", "GET", "/metrics", "", 403}, {"", "GET", "/metrics", "", 401},
		{"alice", "GET", "/-/repositories", "", 404}, {"token", "POST", "/-/tokens", "{}", 404},
	})
	_, page := s.as(t, "metrics", "m", "GET", "/metrics", "")
	for _, want := range []string{
		`rest_server_blob_write_total{repo="alice/laptop",type="data",user="alice"} 1`, `rest_server_blob_write_bytes_total{repo="alice/laptop",type="data",user="alice"} 6`,
		`rest_server_blob_read_total{repo="alice/laptop",type="data",user="alice"} 1`, `rest_server_blob_read_bytes_total{repo="alice/laptop",type="data",user="alice"} 6`,
		`rest_server_blob_delete_total{repo="alice/laptop",type="locks",user="alice"} 1`, `rest_server_blob_delete_bytes_total{repo="alice/laptop",type="locks",user="alice"} 6`,
		"go_goroutines", "process_open_fds", "packhouse_total_quota_bytes 100000",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("metrics: want %s", want)
		}
	}
	if strings.Contains(page, `type="config"`) || strings.Contains(page, `user="bob"`) {
		t.Errorf("metrics: got %s", page)
	}
	for _, want := range []string{
		"Data directory: " + dir, "Authentication enabled", "Append only mode enabled", "Private repositories enabled", "Group accessible repos disabled",
		"--no-verify-upload has no effect",
	} {
		if !strings.Contains(s.errs.String(), want) {
			t.Errorf("stderr: want %q, got %s", want, s.errs)
		}
	}
	if log := s.errs.String(); strings.Contains(log, "ignoring") || strings.Contains(log, "/alice/laptop/data") || s.out.String() != "" {
		t.Errorf("stderr: got %s, stdout %s", log, s.out)
	}
	if code, out, errs := runHere(t, "repo", "list", "-d", dir); code != 0 || !strings.Contains(out, "alice/laptop") {
		t.Errorf("repo list: got %d %s%s", code, out, errs)
	}
	if _, err := os.Stat(filepath.Join(dir, layout.OwnDir, "token")); err == nil {
		t.Error("a token was made, of which nobody knows")
	}
	if got := s.stop(t, syscall.SIGTERM); got != 0 {
		t.Errorf("exit code: got %d, want 0", got)
	}
}

// TestResticServerOpen: everyone may do everything in repositories, the one at the root too; a hangup does not end the server; each request is in
// the access log; the sum of all repositories is bounded.
func TestResticServerOpen(t *testing.T) {
	top := tempDir(t)
	log := filepath.Join(top, "access.log")
	s := startResticServer(t, filepath.Join(top, "data"), "--no-auth", "--private-repos", "--max-size", "200", "--log", log, "--htpasswd-file", "/nowhere")
	path, body := object("", "data", strings.Repeat("x", 120))
	other, otherBody := object("/alice", "data", strings.Repeat("y", 90))
	fits, fitsBody := object("/alice", "data", strings.Repeat("y", 80))
	if err := s.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.errs.await(t, "reloaded the configuration")
	s.all(t, nil, []requestOf{
		{"", "POST", "/?create=true", "", 200}, {"", "POST", "/alice/?create=true", "", 200}, {"", "POST", path, body, 200},
		{"", "POST", other, otherBody, 507}, {"", "POST", fits, fitsBody, 200}, {"", "DELETE", path, "", 200}, {"", "GET", path, "", 404}, {"", "POST", other, otherBody, 200},
		{"", "GET", "/metrics", "", 404}, {"", "GET", "/-/repositories", "", 404}, {"", "PUT", "/alice/-/quota", `{"quota":1}`, 404},
	})
	for _, want := range []string{"Authentication disabled", "--private-repos has no effect with --no-auth", "--htpasswd-file has no effect with --no-auth", "Append only mode disabled", "Private repositories disabled"} {
		if !strings.Contains(s.errs.String(), want) {
			t.Errorf("stderr: want %q, got %s", want, s.errs)
		}
	}
	if got := s.stop(t, syscall.SIGINT); got != 0 {
		t.Errorf("exit code: got %d, want 0", got)
	}
	text, err := os.ReadFile(log)
	if err != nil || strings.Count(string(text), "\n") != 11 || !regexp.MustCompile(`(?m)^127\.0\.0\.1 - - \[[^]]+\] "DELETE `+path+` HTTP/1\.1" 200 0 "" "Go-http-client/1\.1"$`).Match(text) {
		t.Errorf("access log: got %s, %v", text, err)
	}
}

// TestResticServerTLS: certificate and key from the data directory, the least version, and a socket without TLS.
func TestResticServerTLS(t *testing.T) {
	dir := filepath.Join(tempDir(t), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cert, key := selfSigned(t, tempDir(t))
	for from, to := range map[string]string{cert: "public_key", key: "private_key"} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, to), string(text))
	}
	s := startResticServer(t, dir, "--no-auth", "--tls", "--tls-min-ver", "1.3")
	for version, want := range map[uint16]bool{tls.VersionTLS12: false, tls.VersionTLS13: true} {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MaxVersion: version}}}
		response, err := client.Post(strings.Replace(s.url, "http:", "https:", 1)+"/?create=true", "", nil)
		if err == nil {
			response.Body.Close()
		}
		if got := err == nil && response.StatusCode == 200; got != want {
			t.Errorf("TLS %04x: got %t, %v", version, got, err)
		}
	}
	s.errs.await(t, "TLS enabled, private key "+filepath.Join(dir, "private_key"))
	if strings.Contains(s.errs.String(), "ignoring") {
		t.Errorf("stderr: got %s", s.errs)
	}
}

// TestResticServerProxy: a proxy that is trusted names the users; nobody else does, and passwords count for nothing.
func TestResticServerProxy(t *testing.T) {
	top := tempDir(t)
	for _, tt := range []struct {
		name, proxy, user, path string
		want                    int
	}{
		{"trusted", "127.0.0.1", "alice", "/alice/?create=true", 200}, {"foreign", "127.0.0.1", "bob", "/alice/?create=true", 403},
		{"nobody", "127.0.0.1", "", "/alice/?create=true", 401}, {"stranger", "192.0.2.1", "alice", "/alice/?create=true", 401}, {"named token", "127.0.0.1", "token", "/alice/?create=true", 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := startResticServer(t, filepath.Join(top, tt.name), "--proxy-auth-username", "x-user", "--private-repos", "--trusted-proxy", tt.proxy, "--debug")
			if got, text := s.as(t, "", "", "POST", tt.path, "", "X-User", tt.user); got != tt.want {
				t.Errorf("got %d %s, want %d", got, text, tt.want)
			}
			s.errs.await(t, "Proxy Authentication enabled")
			s.errs.await(t, fmt.Sprintf("operation=.* status=%d", tt.want))
		})
	}
}

// TestResticServerMetrics: who may read them.
func TestResticServerMetrics(t *testing.T) {
	top := tempDir(t)
	users := filepath.Join(top, "users")
	write(t, users, "alice:"+hashOf(t, "a")+"\n")
	for _, tt := range []struct {
		name string
		args []string
		user string
		want int
	}{
		{"none", nil, "alice", 404}, {"any user", []string{"--prometheus"}, "alice", 200}, {"nobody", []string{"--prometheus"}, "", 401},
		{"open", []string{"--prometheus", "--prometheus-no-auth", "--private-repos"}, "", 200}, {"open, but none", []string{"--prometheus-no-auth"}, "alice", 404},
	} {
		s := startResticServer(t, filepath.Join(top, "data"), append(tt.args, "--htpasswd-file", users)...)
		if got, text := s.as(t, tt.user, "a", "GET", "/metrics", ""); got != tt.want {
			t.Errorf("%s: got %d %s, want %d", tt.name, got, text, tt.want)
		}
		s.stop(t, syscall.SIGTERM)
	}
}

// TestResticServerGroup: with the option the group may read and write what repositories consist of, and without it nobody else may.
func TestResticServerGroup(t *testing.T) {
	old := syscall.Umask(0o007)
	defer syscall.Umask(old)
	top := tempDir(t)
	for name, args := range map[string][]string{"group": {"--group-accessible-repos"}, "own": nil} {
		dir := filepath.Join(top, name)
		s := startResticServer(t, dir, append(args, "--no-auth")...)
		path, body := object("/r", "data", strings.Repeat("large", 100_000))
		s.all(t, nil, []requestOf{{"", "POST", "/r/?create=true", "", 200}, {"", "POST", path, body, 200}})
		s.stop(t, syscall.SIGTERM)
		files := 0
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.Name() == layout.OwnDir {
				return fs.SkipDir
			}
			info, err := entry.Info()
			want := map[bool]fs.FileMode{true: 0o700, false: 0o600}[entry.IsDir()]
			if args != nil {
				want |= want >> 3
			}
			if err != nil || info.Mode().Perm() != want {
				t.Errorf("%s: got %04o, %v, want %04o", path, info.Mode().Perm(), err, want)
			}
			files++
			return nil
		})
		if err != nil || files < 5 {
			t.Errorf("%s: %d files, %v", name, files, err)
		}
	}
}

// TestResticServerRefuses: what cannot be meant, by the name of the option and with one line, and exit code 1 as rest-server has it.
func TestResticServerRefuses(t *testing.T) {
	top := tempDir(t)
	foreign := filepath.Join(top, "foreign")
	for _, name := range []string{"", "alice", "alice/laptop", "bob/x"} {
		for _, kind := range []string{"data", "index", "keys", "locks", "snapshots"} {
			if err := os.MkdirAll(filepath.Join(foreign, name, kind), 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(t, filepath.Join(top, "nobody"), "")
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--bogus"}, "unknown flag: --bogus; see packhouse rest-server --help"},
		{[]string{"x"}, `rest-server takes no arguments, got "x"`},
		{[]string{"--cpu-profile", "f"}, "--cpu-profile is not known here: packhouse serve --profile"},
		{[]string{"--max-size", "10G"}, `invalid argument "10G" for "--max-size"`},
		{[]string{"--tls-cert", "c"}, "--tls-cert and --tls-key require --tls"}, {[]string{"--tls-key", "c"}, "--tls-cert and --tls-key require --tls"},
		{[]string{"--tls", "--tls-min-ver", "1.1"}, `--tls-min-ver: "1.1" is not one of 1.2, 1.3`},
		{[]string{"--listen", "nonsense"}, `--listen: "nonsense" is not an address`}, {[]string{"--path", ""}, "--path: must not be empty"},
		{[]string{"--proxy-auth-username", "Authorization"}, "--proxy-auth-username: the header Authorization is for something else"},
		{[]string{"--proxy-auth-username", "X-User", "--trusted-proxy", "everyone"}, `--trusted-proxy: "everyone" is neither`},
		{nil, "password file " + filepath.Join(top, "d", ".htpasswd") + ": no such file or directory; --no-auth serves without users"},
		{[]string{"--htpasswd-file", filepath.Join(top, "nobody")}, "has no user that can log in"},
		{[]string{"--no-auth", "--tls"}, "TLS certificate: open " + filepath.Join(top, "d", "public_key")},
		{[]string{"--no-auth", "--log", filepath.Join(top, "no", "log")}, "--log: open "},
		{[]string{"--no-auth", "--path", foreign}, "--path: " + foreign + " has repositories of rest-server (one at its top, alice, alice/laptop, bob/x): make ours of them, without copying, in a new directory on the same file system, each as in packhouse adopt " + foreign + " --as data -d NEW"},
	} {
		args := append([]string{resticServerName, "--path", filepath.Join(top, "d"), "--listen", "127.0.0.1:0"}, tt.args...)
		code, out, errs := runHere(t, args...)
		if code != 1 || !strings.Contains(errs, tt.want) || strings.Count(errs, "\n") > 2 || out != "" {
			t.Errorf("%q: got %d %s%s, want 1 and %q", tt.args, code, out, errs, tt.want)
		}
	}
	if entries, err := os.ReadDir(top); err != nil || len(entries) != 2 {
		t.Errorf("something was created: %v, %v", entries, err)
	}
	if code, out, _ := runHere(t, resticServerName, "--version"); code != 0 || !strings.HasPrefix(out, "rest-server version packhouse ") {
		t.Errorf("--version: got %d %s", code, out)
	}
}

// TestResticServerBeside: repositories of ours are no repositories of rest-server, whatever their names are.
func TestResticServerBeside(t *testing.T) {
	dir := filepath.Join(tempDir(t), "d")
	s := startServer(t, filepath.Dir(dir), "-d", dir)
	for _, name := range []string{"data", "index", "keys", "locks", "snapshots"} {
		s.expect(t, http.StatusOK, "POST", "/"+name+"/?cmd=create", "")
	}
	s.stop(t, syscall.SIGTERM)
	s = startResticServer(t, dir, "--no-auth")
	s.all(t, nil, []requestOf{{"", "GET", "/other/keys/", "", 404}, {"", "POST", "/other/?create=true", "", 200}, {"", "GET", "/other/keys/", "", 200}})
}
