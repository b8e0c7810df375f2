package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"packhouse/api/admin"
	"packhouse/api/tokens"
)

// issueToken runs `token create`, and returns the secret: the only line of its standard output.
func issueToken(t testing.TB, args ...string) string {
	t.Helper()
	code, out, errs := runHere(t, append([]string{"token", "create"}, args...)...)
	secret, ok := strings.CutSuffix(out, "\n")
	if code != 0 || !ok || !tokens.Like(secret) || strings.ContainsAny(secret, " \n") || strings.Contains(errs, secret) {
		t.Fatalf("token create %q: got %d, %q, %q", args, code, out, errs)
	}
	return secret
}

// administer sends a request to the administration API.
func administer(t testing.TB, s *running, status int, method, path, body string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.token)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != status {
		t.Fatalf("%s %s %s: got %d %q, %v; want %d\n%s", method, path, body, response.StatusCode, text, err, status, s.errs)
	}
	return string(text)
}

// commandWorks carries out a command that must succeed.
func commandWorks(t testing.TB, args ...string) string {
	t.Helper()
	code, out, errs := runHere(t, args...)
	if code != 0 {
		t.Fatalf("%q: got %d, %q, %q", args, code, out, errs)
	}
	return out
}

// TestTokens: tokens are created, used and revoked while the server runs, over its socket and over the network, and without a
// server.
func TestTokens(t *testing.T) {
	dir := tempDir(t)
	data := filepath.Join(dir, "d")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "f.toml"), "[server]\ndata_dir = 'd'\n[[user]]\nname = 'alice'\npassword_hash = '$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe'\nrepositories = ['laptop']\n")
	commandWorks(t, "repo", "create", "laptop", "--dialect", "borgstore", "-d", data)
	commandWorks(t, "repo", "create", "phone", "--dialect", "borgstore", "-d", data)
	early := issueToken(t, "-d", data, "--repo", "laptop", "--role", "read", "--name", "early")

	s := startServer(t, dir, "--config", "f.toml")
	own := s.token
	as := func(secret string) *running {
		s.token = secret
		return s
	}
	as(own).expect(t, http.StatusOK, "POST", "/laptop/packs/a", "bytes of a")
	as(early).expect(t, http.StatusOK, "GET", "/laptop/packs/a", "")
	as(early).expect(t, http.StatusForbidden, "POST", "/laptop/packs/b", "bytes of b")
	as(early).expect(t, http.StatusForbidden, "GET", "/phone/packs/a", "")
	as(early).expect(t, http.StatusForbidden, "GET", "/nothing/packs/a", "")

	backup := issueToken(t, "-d", data, "-r", "laptop", "-r", "phone", "--role", "backup", "--expires", "90d")
	as(backup).expect(t, http.StatusOK, "POST", "/phone/packs/b", "bytes of b")
	as(backup).expect(t, http.StatusForbidden, "DELETE", "/phone/packs/b", "")
	as(backup).expect(t, http.StatusForbidden, "POST", "/phone/packs/b", "other bytes")
	administer(t, as(backup), http.StatusForbidden, "GET", "/phone/-/trash", "")
	administer(t, as(backup), http.StatusForbidden, "GET", "/-/tokens", "")
	administer(t, as(backup), http.StatusForbidden, "POST", "/-/tokens", `{"role": "admin", "repositories": ["*"]}`)
	administer(t, as(backup), http.StatusForbidden, "DELETE", "/-/tokens/early", "")

	// An administrator of one repository is none of the server.
	one := issueToken(t, "-d", data, "--repo", "laptop", "--role", "admin")
	administer(t, as(one), http.StatusOK, "GET", "/laptop/-/trash", "")
	administer(t, as(one), http.StatusForbidden, "GET", "/-/tokens", "")
	all := issueToken(t, "-d", data, "--all-repositories", "--role", "admin", "--name", "root")
	var list admin.TokenList
	if err := json.Unmarshal([]byte(administer(t, as(all), http.StatusOK, "GET", "/-/tokens", "")), &list); err != nil {
		t.Fatal(err)
	}
	names := ""
	for _, token := range list.Tokens {
		names += " " + token.Name
		if token.LastUsed.IsZero() || time.Since(token.UsesKnownSince) > time.Hour {
			t.Errorf("%s: last used %v, known since %v", token.Name, token.LastUsed, token.UsesKnownSince)
		}
		if token.Secret != "" {
			t.Errorf("the list has the secret of %s", token.Name)
		}
	}
	if names != " early laptop-admin laptop-backup root" {
		t.Errorf("tokens: got%s", names)
	}

	// Over the network.
	t.Setenv("PACKHOUSE_TOKEN", all)
	remote := issueToken(t, "--server", s.url, "--repo", "laptop", "--role", "maintain", "--name", "remote")
	as(remote).expect(t, http.StatusOK, "DELETE", "/laptop/packs/a", "")
	as(remote).expect(t, http.StatusForbidden, "DELETE", "/laptop?cmd=destroy", "")
	if out := commandWorks(t, "token", "list", "--server", s.url); !strings.Contains(out, "remote\tmaintain\tlaptop\t") ||
		!regexp.MustCompile(`\nremote\t.*\troot\tdoes not expire\t20\S+Z\n`).MatchString(out) {
		t.Errorf("list: %s", out)
	}
	issueToken(t, "--server", s.url, "--repo", "laptop", "--role", "read", "--name", "spare")
	commandWorks(t, "token", "revoke", "remote", "--server", s.url)
	as(remote).expect(t, http.StatusUnauthorized, "GET", "/laptop/packs/a", "")
	if out := commandWorks(t, "token", "list", "-d", data); strings.Contains(out, "remote") || !strings.Contains(out, "laptop-backup\tbackup\tlaptop, phone\t") || !strings.Contains(out, "\texpires 20") {
		t.Errorf("list: %s", out)
	}

	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"create", "--repo", "none", "--role", "read"}, 1, `there is no repository "none"`},
		{[]string{"create", "--repo", "laptop", "--role", "reed"}, 2, `did you mean "read"?`},
		{[]string{"create", "--repo", "laptop"}, 2, "--role is missing"},
		{[]string{"create", "--role", "read"}, 2, "give either --repo NAME or --all-repositories"},
		{[]string{"create", "--role", "read", "--repo", "laptop", "--all-repositories"}, 2, "give either --repo NAME or --all-repositories"},
		{[]string{"create", "--repo", "laptop", "--role", "read", "--expires", "soon"}, 2, "not a duration"},
		{[]string{"create", "--repo", "laptop", "--role", "read", "--expires", "0"}, 2, "must be more than 0"},
		{[]string{"create", "--repo", "laptop", "--role", "read", "--name", ""}, 2, "must not be empty"},
		{[]string{"create", "--repo", "laptop", "--role", "read", "--name", "early"}, 1, `there is a token "early" already`},
		{[]string{"create", "--repo", "laptop", "--role", "read", "--name", "alice"}, 1, `there is a user "alice" in the configuration`},
		{[]string{"create", "--repo", "laptop", "--role", "read", "--name", "a b"}, 1, "the name of a token has"},
		{[]string{"create", "--repo", "..", "--role", "read"}, 1, `there is no repository ".."`},
		{[]string{"revoke", "none"}, 1, `there is no token "none"`},
		{[]string{"revoke"}, 2, "needs a NAME"},
		{[]string{"list", "-d", filepath.Join(data, "laptop")}, 0, "early"}, // the server of the directory above
	} {
		code, out, errs := runHere(t, append(append([]string{"token"}, test.args...), "-d", data)...)
		if test.args[0] == "list" {
			code, out, errs = runHere(t, append([]string{"token"}, test.args...)...)
		}
		if code != test.code || !strings.Contains(out+errs, test.want) {
			t.Errorf("token %q: got %d, %q, %q; want %d, %q", test.args, code, out, errs, test.code, test.want)
		}
	}
	for body, want := range map[string]int{
		`{"role": "nothing", "repositories": ["*"]}`: 400, `{"role": "read"}`: 400, `{"role": "read", "repositories": []}`: 400, `{`: 400,
		`{"role": "read", "repositories": ["laptop", "*"]}`: 400, `{"role": "read", "repositories": ["*"], "secret": "mine"}`: 400,
		`{"role": "read", "repositories": ["*"], "expires": "2020-01-01T00:00:00Z"}`: 400,
	} {
		administer(t, as(all), want, "POST", "/-/tokens", body)
	}
	unused := regexp.MustCompile(`\nspare\t.*\tnot since 20\S+Z\n`)
	if got := commandWorks(t, "token", "list", "-d", data); strings.Count(got, "\n") != 5 || !unused.MatchString(got) {
		t.Errorf("refused requests left tokens: %s", got)
	}

	// After a restart, and behind a reload, in which a user takes the name of a token.
	if got := s.stop(t, syscall.SIGTERM); got != 0 {
		t.Fatalf("exit code: got %d\n%s", got, s.errs)
	}
	// A use in the last minute before the end of the server is known, also while none runs.
	if out := commandWorks(t, "token", "list", "-d", data); !regexp.MustCompile(`\nlaptop-backup\t.*\t20\S+Z\n`).MatchString("\n"+out) || !unused.MatchString(out) {
		t.Errorf("list without a server: %s", out)
	}
	commandWorks(t, "token", "revoke", "early", "-d", data)
	s = startServer(t, dir, "--config", "f.toml")
	as(early).expect(t, http.StatusUnauthorized, "GET", "/phone/packs/b", "")
	as(backup).expect(t, http.StatusOK, "GET", "/phone/packs/b", "")
	write(t, filepath.Join(dir, "f.toml"), "[server]\ndata_dir = 'd'\n[[user]]\nname = 'laptop-backup'\npassword_hash = '$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe'\nrepositories = ['laptop']\n")
	if err := s.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.errs.await(t, "reloaded the configuration")
	s.errs.await(t, "a user has the name of a token")
	as(backup).expect(t, http.StatusForbidden, "GET", "/phone/packs/b", "")
	as(backup).expect(t, http.StatusOK, "GET", "/laptop?cmd=quota", "")
}

// TestTokenOfSingle: a single repository has no tokens.
func TestTokenOfSingle(t *testing.T) {
	data := tempDir(t)
	commandWorks(t, "repo", "create", "laptop", "--dialect", "borgstore", "-d", data)
	for _, args := range [][]string{{"list"}, {"create", "--all-repositories", "--role", "read"}, {"revoke", "x"}} {
		code, _, errs := runHere(t, append(append([]string{"token"}, args...), "-d", filepath.Join(data, "laptop"))...)
		if code != 2 || !strings.Contains(errs, "has no tokens") {
			t.Errorf("token %q: got %d, %q", args, code, errs)
		}
	}
}

// TestDamagedTokens: a server that does not know what was revoked does not start.
func TestDamagedTokens(t *testing.T) {
	data := tempDir(t)
	commandWorks(t, "repo", "create", "laptop", "--dialect", "borgstore", "-d", data)
	issueToken(t, "-d", data, "--repo", "laptop", "--role", "read")
	write(t, filepath.Join(data, ".packhouse", "tokens.json"), "{")
	for _, args := range [][]string{{"serve", "-d", data, "-l", "127.0.0.1:0"}, {"token", "list", "-d", data}} {
		if code, _, errs := runHere(t, args...); code != 1 || !strings.Contains(errs, "tokens.json: damaged") {
			t.Errorf("%q: got %d, %q", args, code, errs)
		}
	}
}

// TestRevokedJobs: jobs that wait or run end with the token of who queued them, and that of another does not.
func TestRevokedJobs(t *testing.T) {
	dir := tempDir(t)
	write(t, filepath.Join(dir, "f.toml"), "[maintenance]\nrate = '256K'\n") // the job below reads for 12 s at least
	s := startServer(t, dir, "--config", "f.toml")
	data, own := filepath.Join(dir, "packhouse-data"), s.token
	s.expect(t, http.StatusOK, "POST", "/laptop?cmd=create", "")
	s.expect(t, http.StatusOK, "POST", "/laptop/packs/a", "bytes of a")
	s.expect(t, http.StatusOK, "POST", "/laptop/packs/b", "bytes of b")
	s.expect(t, http.StatusOK, "POST", "/laptop/packs/large", strings.Repeat("x", 4<<20))
	later := time.Now().Add(24 * time.Hour).UTC().Format(time.RFC3339)
	queue := func(when, operation string) (id string) {
		t.Helper()
		var job struct{ ID string }
		text := administer(t, s, http.StatusAccepted, "POST", "/laptop/-/compactions?when="+when, `{"operations": [`+operation+`]}`)
		if err := json.Unmarshal([]byte(text), &job); err != nil {
			t.Fatal(err)
		}
		return job.ID
	}
	state := func(id string) string {
		t.Helper()
		var job struct{ State string }
		if err := json.Unmarshal([]byte(administer(t, s, http.StatusOK, "GET", "/laptop/-/jobs/"+id, "")), &job); err != nil {
			t.Fatal(err)
		}
		return job.State
	}
	kept := queue(later, `{"delete": ["packs/a"]}`)
	s.token = issueToken(t, "-d", data, "--repo", "laptop", "--role", "maintain")
	gone := queue(later, `{"delete": ["packs/b"]}`)
	runs := queue("now", `{"ranges": [["packs/large", 0, 4194304]], "target": "packs/copy"}`)
	s.token = own
	await(t, "beginning of the job", func() bool { return state(runs) == "running" }, s.errs)
	if got := state(gone); got != "queued" {
		t.Fatalf("got %s", got)
	}
	commandWorks(t, "token", "revoke", "laptop-maintain", "-d", data)
	await(t, "end of the job", func() bool { return state(gone) == "cancelled" }, s.errs)
	await(t, "end of the job that runs", func() bool { return state(runs) == "cancelled" }, s.errs)
	if got := state(kept); got != "queued" {
		t.Errorf("the job of another: %s", got)
	}
}
