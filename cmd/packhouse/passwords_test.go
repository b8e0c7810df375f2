package main

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"packhouse/cmd/packhouse/internal/config"
	"packhouse/repo"
)

// as sends a request of a user in a dialect; headers are pairs.
func (r *running) as(t testing.TB, user, password, method, path, body string, headers ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// TestPasswordFile: its users may use every repository, and administrate nothing; who is in it counts when it changes, at SIGHUP at once, and
// what is wrong with it is said.
func TestPasswordFile(t *testing.T) {
	dir := tempDir(t)
	file, passwords := filepath.Join(dir, "f.toml"), filepath.Join(dir, "users")
	sum := sha1.Sum([]byte("sha"))
	write(t, passwords, "alice:"+strings.Replace(hashOf(t, "a"), "$2a$", "$2y$", 1)+"\nsha:{SHA}"+base64.StdEncoding.EncodeToString(sum[:])+
		"\nold:$apr1$x$y\ntoken:"+hashOf(t, "x")+"\nbob:"+hashOf(t, "of the file")+"\n")
	write(t, file, "[server]\ntoken = 't'\nhtpasswd_file = 'users'\ndata_dir = 'd'\n[[user]]\nname = 'bob'\npassword_hash = '"+hashOf(t, "b")+"'\nrole = 'read'\n")
	s := startServer(t, dir, "-c", "f.toml")
	for _, warning := range []string{
		`password file: line 3: user "old" cannot log in: the hash is an MD5 hash`, `password file: user "token" is ignored: the name is reserved`,
		`password file: user "bob" is ignored: the configuration has a user of this name`,
	} {
		s.errs.await(t, warning)
	}
	s.token = "t"
	s.expect(t, http.StatusOK, "POST", "/r/?cmd=create", "")
	borg := func(user, password, method, path string, want int) {
		t.Helper()
		if got, text := s.as(t, user, password, method, path, "x", "Accept", acceptBorgStore); got != want {
			t.Errorf("%s %s as %s: got %d %s, want %d\n%s", method, path, user, got, text, want, s.errs)
		}
	}
	borg("alice", "a", "POST", "/r/packs/1", 200)
	borg("alice", "a", "DELETE", "/r/packs/1", 200)
	borg("sha", "sha", "POST", "/other/?cmd=create", 200)
	borg("sha", "sha", "POST", "/other/packs/1", 200)
	borg("alice", "wrong", "GET", "/other/packs/1", 401)
	borg("old", "", "GET", "/other/packs/1", 401)
	borg("token", "x", "GET", "/other/packs/1", 401)
	borg("bob", "of the file", "GET", "/other/packs/1", 401)
	borg("bob", "b", "GET", "/other/packs/1", 200)
	borg("bob", "b", "POST", "/other/packs/2", 403)
	for _, path := range []string{"/-/tokens", "/r/-/history", "/r/-/trash"} {
		if got, text := s.as(t, "alice", "a", "GET", path, ""); got != 403 || !strings.Contains(text, "do not administrate") {
			t.Errorf("%s as alice: got %d %s, want 403", path, got, text)
		}
	}
	for _, path := range []string{"/-/repositories", "/r/-/", "/metrics"} {
		if got, text := s.as(t, "alice", "a", "GET", path, ""); got != 200 {
			t.Errorf("%s as alice: got %d %s, want 200", path, got, text)
		}
	}
	if code, _, errs := runHere(t, "token", "create", "alice", "--role", "read", "--repo", "r", "-d", filepath.Join(dir, "d")); code == 0 {
		t.Errorf("a token with a user's name was created: %s", errs)
	}

	// A change counts without a signal.
	write(t, passwords, "carol:"+hashOf(t, "c")+"\n")
	s.errs.await(t, "read the password file again")
	borg("carol", "c", "GET", "/other/packs/1", 200)
	borg("alice", "a", "GET", "/other/packs/1", 401)

	// One without users changes nothing, until it has some.
	write(t, passwords, "dora:plain\n")
	s.errs.await(t, `could not read the password file again; the old users stay.*has no user that can log in`)
	borg("carol", "c", "GET", "/other/packs/1", 200)
	write(t, passwords, "dora:"+hashOf(t, "d")+"\n")
	await(t, "second reading", func() bool { return strings.Count(s.errs.String(), "read the password file again, as") == 2 }, s.errs)
	borg("dora", "d", "GET", "/other/packs/1", 200)

	hangup := func(want string) {
		t.Helper()
		before := strings.Count(s.errs.String(), "reloaded the configuration")
		if err := s.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		await(t, "reload", func() bool { return strings.Count(s.errs.String(), "reloaded the configuration") > before }, s.errs)
		s.errs.await(t, want)
	}
	if err := os.Remove(passwords); err != nil {
		t.Fatal(err)
	}
	hangup("reload: could not read the password file; the old users stay")
	borg("dora", "d", "GET", "/other/packs/1", 200)
	write(t, filepath.Join(dir, "others"), "eve:"+hashOf(t, "e")+"\n")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, strings.Replace(string(text), "'users'", "'others'", 1))
	hangup("")
	borg("eve", "e", "GET", "/other/packs/1", 200)
	borg("dora", "d", "GET", "/other/packs/1", 401)
	write(t, file, strings.Replace(string(text), "htpasswd_file", "# ", 1))
	hangup("")
	borg("eve", "e", "GET", "/other/packs/1", 401)
	if log := s.errs.String(); strings.Contains(log, "$apr1$x") || strings.Contains(log, "plain\n") {
		t.Errorf("the log has a hash or a password: %s", log)
	}
}

// TestPasswordFileRefused: a server does not start with one that nobody can log in with, and `config check` says what is wrong.
func TestPasswordFileRefused(t *testing.T) {
	dir := tempDir(t)
	write(t, filepath.Join(dir, "empty"), "# nobody\n")
	write(t, filepath.Join(dir, "some"), "a:"+hashOf(t, "a")+"\nb:$6$x\na b:x\ntoken:"+hashOf(t, "a")+"\n")
	for file, want := range map[string]string{"empty": "has no user that can log in", "missing": "no such file or directory"} {
		code, _, errs := runHere(t, "serve", "-d", filepath.Join(dir, "d"), "-l", "127.0.0.1:0", "--htpasswd-file", filepath.Join(dir, file))
		if code != 1 || !strings.Contains(errs, want) || !strings.Contains(errs, filepath.Join(dir, file)) {
			t.Errorf("%s: got %d %s, want 1 and %q", file, code, errs, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "d")); err == nil {
		t.Error("the data directory was created")
	}
	conf := filepath.Join(dir, "f.toml")
	write(t, conf, "[server]\nhtpasswd_file = '"+filepath.Join(dir, "some")+"'\n")
	code, out, errs := runHere(t, "config", "check", conf)
	for _, want := range []string{`line 2: user "b" cannot log in`, `line 3: "a b" cannot be`, `user "token" is ignored`} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("config check: got %d %s %s, want %q", code, out, errs, want)
		}
	}
	write(t, conf, "[server]\nhtpasswd_file = '"+filepath.Join(dir, "empty")+"'\n")
	if code, _, errs := runHere(t, "config", "check", conf); code != 1 || !strings.Contains(errs, "has no user that can log in") {
		t.Errorf("config check of nobody: got %d %s", code, errs)
	}
}

// TestPrivateRepositories: each user has the repositories of its name, and learns nothing of others, in every protocol.
func TestPrivateRepositories(t *testing.T) {
	dir := tempDir(t)
	write(t, filepath.Join(dir, "users"), "alice:"+hashOf(t, "a")+"\nbob:"+hashOf(t, "b")+"\nmetrics:"+hashOf(t, "m")+"\n")
	write(t, filepath.Join(dir, "f.toml"), "[server]\ntoken = 't'\nhtpasswd_file = 'users'\nprivate_repositories = true\ndata_dir = 'd'\n"+
		"[[user]]\nname = 'carol'\npassword_hash = '"+hashOf(t, "c")+"'\n[[user]]\nname = 'helper'\npassword_hash = '"+hashOf(t, "h")+"'\nrepositories = ['bob', 'carol']\n")
	s := startServer(t, dir, "-c", "f.toml")
	passwords := map[string]string{"alice": "a", "bob": "b", "carol": "c", "helper": "h", "metrics": "m", "anyone": "t"}
	borg := []string{"Accept", acceptBorgStore}
	for _, step := range []struct {
		user, method, path string
		headers            []string
		want               int
	}{
		{"alice", "POST", "/alice/?cmd=create", borg, 200}, {"alice", "POST", "/alice/packs/1", borg, 200}, {"alice", "GET", "/alice/packs/1", borg, 200},
		{"bob", "POST", "/alice/?cmd=create", borg, 403}, {"bob", "POST", "/missing/?cmd=create", borg, 403},
		{"bob", "GET", "/alice/packs/1", borg, 403}, {"bob", "GET", "/missing/packs/1", borg, 403}, {"bob", "GET", "/Bob/packs/1", borg, 403},
		{"alice", "GET", "/alice2/packs/1", borg, 403}, {"alice", "DELETE", "/bob/packs/1", borg, 403},
		{"bob", "PUT", "/bob/config", nil, 201}, {"bob", "GET", "/bob/config", nil, 200}, // V'Ger
		{"alice", "GET", "/bob/config", nil, 403}, {"alice", "PUT", "/nobody/config", nil, 403}, {"alice", "GET", "/bob?stats", nil, 403}, {"alice", "GET", "/nobody?stats", nil, 403},
		{"alice", "GET", "/bob/-/", nil, 403}, {"alice", "GET", "/nobody/-/", nil, 403}, {"alice", "GET", "/alice/-/", nil, 200},
		{"carol", "POST", "/carol/?cmd=create", borg, 200}, {"carol", "GET", "/alice/packs/1", borg, 403},
		{"helper", "GET", "/bob/config", nil, 200}, {"helper", "GET", "/alice/packs/1", borg, 403}, {"helper", "GET", "/helper/packs/1", borg, 403},
		{"anyone", "GET", "/alice/packs/1", borg, 200}, // with the server's token
		{"metrics", "GET", "/metrics", nil, 200}, {"metrics", "GET", "/alice/packs/1", borg, 403}, {"alice", "GET", "/metrics", nil, 403}, {"anyone", "GET", "/metrics", nil, 200},
	} {
		if got, text := s.as(t, step.user, passwords[step.user], step.method, step.path, "x", step.headers...); got != step.want {
			t.Errorf("%s %s as %s: got %d %s, want %d", step.method, step.path, step.user, got, text, step.want)
		}
	}
	for user, want := range map[string][]string{"alice": {"alice"}, "bob": {"bob"}, "helper": {"bob", "carol"}, "metrics": nil, "anyone": {"alice", "bob", "carol"}} {
		_, text := s.as(t, user, passwords[user], "GET", "/-/repositories", "")
		var list struct{ Repositories []struct{ Name string } }
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		var names []string
		for _, r := range list.Repositories {
			names = append(names, r.Name)
		}
		if !slices.Equal(names, want) {
			t.Errorf("repositories listed for %s: got %q, want %q", user, names, want)
		}
		_, text = s.as(t, user, passwords[user], "GET", "/", "") // V'Ger's list
		for _, name := range []string{"alice", "bob", "carol"} {
			if got := strings.Contains(text, `"`+name+`"`); got && !slices.Contains(want, name) {
				t.Errorf("V'Ger's list for %s: got %s", user, text)
			}
		}
	}
}

// TestProxyUsers: a proxy that is trusted names the users, and only those that are known where some are.
func TestProxyUsers(t *testing.T) {
	dir := tempDir(t)
	common := "[server]\ntoken = 't'\nproxy_user_header = 'X-Remote-User'\nprivate_repositories = true\nappend_only = true\n"
	write(t, filepath.Join(dir, "any.toml"), common+"data_dir = 'a'\n")
	write(t, filepath.Join(dir, "some.toml"), common+"data_dir = 'b'\n[[user]]\nname = 'alice'\npassword_hash = '"+hashOf(t, "p")+"'\n")
	write(t, filepath.Join(dir, "other.toml"), common+"data_dir = 'c'\ntrusted_proxies = '192.0.2.1'\n")
	for _, tt := range []struct {
		file, user, method, path string
		want                     int
	}{
		{"any", "alice", "POST", "/alice/?cmd=create", 200}, {"any", "alice", "POST", "/alice/packs/1", 200}, {"any", "alice", "DELETE", "/alice/packs/1", 403},
		{"any", "bob", "GET", "/alice/packs/1", 403}, {"any", "bob", "GET", "/bob/packs/1", 410}, {"any", "token", "GET", "/alice/packs/1", 403}, {"any", "", "GET", "/alice/packs/1", 401},
		{"some", "alice", "POST", "/alice/?cmd=create", 200}, {"some", "bob", "POST", "/bob/?cmd=create", 403},
		{"other", "alice", "POST", "/alice/?cmd=create", 401},
	} {
		t.Run("", func(t *testing.T) {
			s := startServer(t, dir, "-c", tt.file+".toml")
			defer s.stop(t, syscall.SIGTERM)
			if got, text := s.as(t, "", "", tt.method, tt.path, "x", "X-Remote-User", tt.user, "Accept", acceptBorgStore); got != tt.want {
				t.Errorf("%+v: got %d %s", tt, got, text)
			}
			if got, text := s.as(t, "x", "t", "GET", "/-/repositories", ""); got != 200 {
				t.Errorf("the token, without a name: got %d %s", got, text)
			}
		})
	}
}

// TestOwns: a name owns the repository of that name and those below it, and nothing else.
func TestOwns(t *testing.T) {
	for _, tt := range []struct {
		user, repository string
		want             bool
	}{
		{"alice", "alice", true}, {"alice", "alice/laptop", true}, {"alice", "alicelaptop", false}, {"alice", "bob", false}, {"alice", "bob/alice", false},
		{"alice", "Alice", false}, {"alice", "", false}, {"", "", false}, {"a/b", "a/b", false},
	} {
		if got := config.Owns(tt.user, tt.repository); got != tt.want {
			t.Errorf("%q, %q: got %t", tt.user, tt.repository, got)
		}
	}
	c := &config.Config{PrivateRepositories: true, Users: []config.User{{Name: "alice"}, {Name: "bob", Repositories: []string{"alice/laptop"}}}}
	sv := &service{}
	sv.current.Store(c)
	for _, tt := range []struct {
		user, repository string
		want             bool
	}{{"alice", "alice/laptop", true}, {"alice", "bob/x", false}, {"alice", "", false}, {"bob", "alice/laptop", true}, {"bob", "bob/x", false}, {"eve", "eve/x", false}} {
		if got := !sv.grants(c, tt.user, tt.repository, "").GrantNothing(); got != tt.want {
			t.Errorf("%q, %q: got %t", tt.user, tt.repository, got)
		}
	}
	if p := (repo.Principal{Permissions: sv.grants(c, "eve", "eve", "")}); p.MayEnter() == nil {
		t.Error("an unknown user may enter a repository of its name")
	}
}
