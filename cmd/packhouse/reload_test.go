package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"packhouse/api/tokens"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/repo"
	"packhouse/repo/policy"
)

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// overUnix is a client of the server on a Unix socket.
func overUnix(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}}
}

// TestPrecedence: flag over environment over file over default.
func TestPrecedence(t *testing.T) {
	const file, variable, flag = "token-of-the-file", "token-of-the-environment", "token-of-the-flag"
	for _, test := range []struct {
		name string
		env  []string
		args []string
		want string
	}{
		{"file", nil, nil, file},
		{"environment", []string{"PACKHOUSE_TOKEN=" + variable}, nil, variable},
		{"environment of vykar", []string{"VYKAR_TOKEN=" + variable, "VGER_TOKEN=x"}, nil, variable},
		{"environment of V'Ger", []string{"VGER_TOKEN=" + variable}, nil, variable},
		{"ours first", []string{"VGER_TOKEN=x", "PACKHOUSE_TOKEN=" + variable}, nil, variable},
		{"flag", []string{"PACKHOUSE_TOKEN=" + variable}, []string{"--token-file", "flag.token"}, flag},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := tempDir(t)
			write(t, filepath.Join(dir, "flag.token"), flag+"\n")
			write(t, filepath.Join(dir, "f.toml"), fmt.Sprintf("[server]\ntoken = %q\nlisten = '127.0.0.1:1'\ndata_dir = 'd'\n", file))
			cmd := program(t, dir, append([]string{"packhouse", "serve", "-c", "f.toml", "-l", "127.0.0.1:0"}, test.args...)...)
			cmd.Env = append(cmd.Env, test.env...)
			s := launch(t, cmd)
			s.url = s.out.await(t, `serves d at (http://\S+)`)[1]
			for _, token := range []string{file, variable, flag} {
				want := http.StatusUnauthorized
				if token == test.want {
					want = http.StatusGone
				}
				if got, _ := request(t, http.DefaultClient, token, "GET", s.url+"/r/x", ""); got != want {
					t.Errorf("%s: got %d, want %d", token, got, want)
				}
			}
			if strings.Contains(s.out.String()+s.errs.String(), test.want) {
				t.Errorf("a configured token was printed:\n%s", s.out)
			}
		})
	}
}

// TestReload: SIGHUP changes what can change, keeps what cannot, and a broken file changes nothing.
func TestReload(t *testing.T) {
	dir := tempDir(t)
	file := filepath.Join(dir, "f.toml")
	write(t, file, "[server]\ntoken = 'first'\ndata_dir = 'd'\n")
	s := startServer(t, dir, "--config", file)
	s.token = "first"
	s.expect(t, http.StatusOK, "POST", "/r/?cmd=create", "")
	s.expect(t, http.StatusOK, "POST", "/r/packs/a", "12345")

	hangup := func(want string) {
		t.Helper()
		before := strings.Count(s.errs.String(), "reload")
		if err := s.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		await(t, want, func() bool {
			text := s.errs.String()
			return strings.Count(text, "reload") > before && strings.Contains(text, want)
		}, s.errs)
	}
	write(t, file, "[server]\ntoken = 'second'\ndata_dir = 'elsewhere'\nlog_level = 'debug'\n[[repository]]\nname = 'r'\nquota = 6\nappend_only = true\n")
	hangup("reloaded the configuration")
	s.errs.await(t, "this setting has changed and needs a restart setting=data_dir")
	s.expect(t, http.StatusUnauthorized, "GET", "/r/packs/a", "")
	s.token = "second"
	s.expect(t, http.StatusOK, "GET", "/r/packs/a", "")
	s.expect(t, http.StatusInsufficientStorage, "POST", "/r/packs/b", "12")
	s.expect(t, http.StatusForbidden, "DELETE", "/r/packs/a", "")

	write(t, file, "[server]\ntoken_file = 'new.token'\ndata_dir = 'd'\n")
	hangup("a new token was generated")
	made, err := os.ReadFile(filepath.Join(dir, "new.token"))
	if err != nil {
		t.Fatal(err)
	}
	s.token = strings.TrimSpace(string(made))
	await(t, "the new token", func() bool { code, _ := s.do(t, "GET", "/r/packs/a", ""); return code == http.StatusOK }, s.errs)

	write(t, file, "[server]\ntoken = 'third'\nnonsense = 1\n")
	hangup("the configuration has errors")
	s.expect(t, http.StatusOK, "GET", "/r/packs/a", "")
	write(t, file, "# nothing but a comment\n")
	hangup("the configuration file is empty; nothing was changed")
	s.expect(t, http.StatusOK, "GET", "/r/packs/a", "")
	if got := s.stop(t, syscall.SIGINT); got != 0 {
		t.Errorf("exit code: got %d, want 0", got)
	}
}

// TestUsersAndRepositories: who may use what, and the repository at "/".
func TestUsersAndRepositories(t *testing.T) {
	dir := tempDir(t)
	// bcrypt of "secret", cost 4
	write(t, filepath.Join(dir, "f.toml"), `[server]
token = "t"
[[repository]]
name = "main"
mount = "/"
[[user]]
name = "alice"
password_hash = "`+hashOf(t, "secret")+`"
permissions = { "" = "lr", locks = "lrwD" }
repositories = ["main"]
`)
	s := startServer(t, dir, "-c", "f.toml")
	s.token = "t"
	s.expect(t, http.StatusOK, "POST", "/?cmd=create", "") // main, at the root
	s.expect(t, http.StatusOK, "POST", "/main/config/a", "x")
	s.expect(t, http.StatusOK, "POST", "/other/?cmd=create", "")
	s.expect(t, http.StatusOK, "POST", "/other/config/a", "x")
	for _, test := range []struct {
		method, path, accept string
		want                 int
	}{
		{"GET", "/config/a", acceptBorgStore, 200}, {"GET", "/main/config/a", acceptBorgStore, 200},
		{"POST", "/main/locks/a", acceptBorgStore, 200}, {"DELETE", "/main/locks/a", acceptBorgStore, 200},
		{"POST", "/main/config/b", acceptBorgStore, 403}, {"DELETE", "/main/config/a", acceptBorgStore, 403},
		{"GET", "/other/config/a", acceptBorgStore, 403}, {"GET", "/other/-/", "", 403},
		{"GET", "/other/-/jobs", "", 403}, {"GET", "/missing/-/", "", 403}, {"GET", "/main/-/", "", 200}, {"PUT", "/main/-/quota", "", 403},
		{"GET", "/metrics", "", 403}, // it names the other repositories
	} {
		req, err := http.NewRequestWithContext(t.Context(), test.method, s.url+test.path, strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", test.accept)
		req.SetBasicAuth("alice", "secret")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != test.want {
			t.Errorf("%s %s as alice: got %d, want %d", test.method, test.path, resp.StatusCode, test.want)
		}
	}
}

// TestAuthorize: a user whom a reload removed may do nothing, even if it is let in once more; so may the holder of a token that
// was revoked.
func TestAuthorize(t *testing.T) {
	store, err := tokens.Open(tokens.Options{Path: filepath.Join(tempDir(t), "tokens.json")})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, token := range []tokens.Token{
		{Name: "reader", Role: policy.Read, Repositories: []string{"a"}}, {Name: "everywhere", Role: policy.Admin, Repositories: []string{tokens.All}},
		{Name: "carol", Role: policy.Read, Repositories: []string{tokens.All}},
	} {
		if _, _, err := store.Create(token); err != nil {
			t.Fatal(err)
		}
	}
	sv := &service{tokens: store}
	sv.current.Store(&config.Config{Users: []config.User{
		{Name: "alice", Repositories: []string{"a"}}, {Name: "bob"}, {Name: "carol", Repositories: []string{"a"}}, {Name: "dora", Role: policy.Backup},
	}})
	o := serverOptions{Policy: func(string) config.Policy { return config.Policy{} }, Authorize: sv.authorize}
	for _, test := range []struct {
		name, repository string
		trusted          bool
		want             string // letters on snapshots/x of V'Ger
	}{
		{"alice", "a", false, policy.All}, {"alice", "b", false, ""}, {"alice", "", false, ""},
		{"bob", "b", false, policy.All}, {"removed", "a", false, ""}, {config.TokenName, "b", false, policy.All},
		{"alice", "b", true, policy.All}, {"unknown", "b", true, policy.All}, // of the system, not of the configuration
		{"dora", "b", false, "lrw"}, {"reader", "a", false, "lr"}, {"reader", "b", false, ""}, {"reader", "", false, ""},
		{"everywhere", "b", false, policy.All}, {"everywhere", "", false, policy.All},
		{"carol", "a", false, "lr"}, {"carol", "b", false, ""}, // both a user and a token
	} {
		p := o.narrow(test.repository, "vger", repo.Principal{Name: test.name}, test.trusted)
		for _, letter := range policy.All {
			if got, want := p.Permissions.Allows("snapshots/x", string(letter)), strings.ContainsRune(test.want, letter); got != want {
				t.Errorf("%+v: %c: got %v", test, letter, got)
			}
		}
	}
	if _, err := store.Revoke("everywhere"); err != nil {
		t.Fatal(err)
	}
	if p := o.authorize("b", nil, repo.Principal{Name: "everywhere"}, false); !p.Permissions.GrantNothing() {
		t.Errorf("the holder of a revoked token may do %s", p.Permissions)
	}
}

// TestSocketActivation: the service manager's sockets are served, and stay open over a restart, so
// that no client is refused.
func TestSocketActivation(t *testing.T) {
	dir := tempDir(t)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	path := filepath.Join(dir, "s.sock")
	unix, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	said := func(want string) {
		t.Helper()
		b := make([]byte, 4096)
		n, err := notify.Read(b)
		if err != nil || !strings.Contains(string(b[:n]), want) {
			t.Fatalf("the service manager was told %q, %v; want %q", b[:n], err, want)
		}
	}
	start := func() *running {
		t.Helper()
		// A shell sets LISTEN_PID to the process that it becomes.
		cmd := program(t, dir, "packhouse")
		self := cmd.Path
		cmd = exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=2 exec "$0" serve`, self)
		cmd.Dir, cmd.Env = dir, append(cleanEnv(), asProgram+"=1", raceOptions, "NOTIFY_SOCKET="+filepath.Join(dir, "notify"), "PACKHOUSE_TOKEN=t")
		for _, l := range []interface{ File() (*os.File, error) }{tcp.(*net.TCPListener), unix.(*net.UnixListener)} {
			f, err := l.File()
			if err != nil {
				t.Fatal(err)
			}
			cmd.ExtraFiles = append(cmd.ExtraFiles, f)
			t.Cleanup(func() { f.Close() })
		}
		s := launch(t, cmd)
		said("READY=1")
		s.token, s.url = "t", "http://"+tcp.Addr().String()
		return s
	}
	s := start()
	s.expect(t, http.StatusOK, "POST", "/r/?cmd=create", "")
	over := overUnix(path)
	if got, text := request(t, over, "t", "GET", "http://x/r/", ""); got != http.StatusOK {
		t.Errorf("over the Unix socket: got %d %q, want 200", got, text)
	}
	if err := s.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	said("RELOADING=1\nMONOTONIC_USEC=")
	said("READY=1")
	if got := s.stop(t, syscall.SIGTERM); got != 0 {
		t.Fatalf("exit code: got %d, want 0\n%s", got, s.errs)
	}
	said("STOPPING=1")
	// While no server runs the request waits in the socket that stayed open.
	answered := make(chan int, 1)
	go func() {
		got, _ := request(t, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, "t", "GET", s.url+"/r/", "")
		answered <- got
	}()
	s = start()
	if got := <-answered; got != http.StatusOK {
		t.Errorf("a request during the restart: got %d, want 200", got)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the service manager's socket was removed: %v", err)
	}
}

// TestDrain: a stop lets a running upload finish, a second signal does not.
func TestDrain(t *testing.T) {
	for _, test := range []struct {
		name  string
		again bool
		code  int
	}{{"once", false, 0}, {"twice", true, 143}} {
		t.Run(test.name, func(t *testing.T) {
			dir := tempDir(t)
			s := startServer(t, dir)
			s.expect(t, http.StatusOK, "POST", "/r/?cmd=create", "")
			conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, "POST /r/packs/x HTTP/1.1\r\nHost: x\r\nAccept: %s\r\nAuthorization: Bearer %s\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n", acceptBorgStore, s.token)
			line := make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))
			if _, err := conn.Read(line); err != nil || !strings.Contains(string(line), "100") {
				t.Fatalf("got %q, %v", line, err)
			}
			if err := s.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			s.errs.await(t, "waiting for running requests")
			if test.again {
				if err := s.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
			} else {
				fmt.Fprint(conn, "0123456789")
				answer := make([]byte, 64)
				if n, err := conn.Read(answer); err != nil || !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 200") {
					t.Errorf("the upload's answer: %q, %v", answer[:n], err)
				}
			}
			if got := s.code(t); got != test.code {
				t.Errorf("exit code: got %d, want %d\n%s", got, test.code, s.errs)
			}
		})
	}
}

// TestTLS: our own listener with a certificate, and a Unix socket beside it without.
func TestTLS(t *testing.T) {
	dir := tempDir(t)
	certFile, keyFile := selfSigned(t, dir)
	s := startServer(t, dir, "--listen", "unix:"+filepath.Join(dir, "s"), "--tls-cert", certFile, "--tls-key", keyFile, "--log-format", "json")
	if !strings.HasPrefix(s.url, "https://") {
		t.Fatalf("URL: got %s, want https", s.url)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	if got, text := request(t, client, s.token, "POST", strings.TrimSuffix(s.url, ",")+"/r/?cmd=create", ""); got != http.StatusOK {
		t.Errorf("over TLS: got %d %q, want 200", got, text)
	}
	plain := overUnix(filepath.Join(dir, "s"))
	if got, _ := request(t, plain, s.token, "GET", "http://x/r/", ""); got != http.StatusOK {
		t.Errorf("over the socket: got %d, want 200", got)
	}
	s.errs.await(t, `\{"time":`)
}
