package main

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEveryCommandFromAfar: with --server, commands do over the network what they do on the server; what is for the server alone says so,
// and what works with its files is a wrong command line.
func TestEveryCommandFromAfar(t *testing.T) {
	dir := tempDir(t)
	s := startServer(t, dir, "--grace", "1d", "--trash-quota", "1G")
	t.Setenv("PACKHOUSE_TOKEN", s.token)
	t.Setenv(serverVariable, s.url)
	call := func(code int, want string, args ...string) string {
		t.Helper()
		got, out, errs := runHere(t, args...)
		if got != code || !strings.Contains(out+errs, want) {
			t.Errorf("%q: got %d, %s%s, want %d with %q", args, got, out, errs, code, want)
		}
		return out
	}
	call(0, "created laptop", "repo", "create", "laptop", "--dialect", "borgstore")
	call(1, "already exists", "repo", "create", "laptop", "--dialect", "borgstore")
	call(0, "created alice/laptop", "repo", "create", "alice/laptop", "--dialect", "restic")
	call(0, "destroyed alice/laptop", "repo", "destroy", "alice/laptop", "--yes")
	call(0, "purged alice/laptop", "repo", "purge", "alice/laptop", "--yes", "-d", filepath.Join(dir, "packhouse-data"))
	s.expect(t, http.StatusOK, http.MethodPost, "/laptop/packs/one", "bytes")
	call(0, "laptop\tborgstore\t1\t5\t", "repo", "list")
	call(0, "grace        1d", "repo", "info", "laptop")
	info := call(0, `"grace_seconds": 86400`, "repo", "info", "laptop", "--json")
	since := regexp.MustCompile(`"history_since": "([^"]+)"`).FindStringSubmatch(info)
	if since == nil {
		t.Fatalf("no history: %s", info)
	}
	call(0, "store\tpacks/one", "repo", "history", "laptop")
	call(0, "quota 1048576 bytes (1 MiB)", "repo", "quota", "laptop", "1M")
	call(0, "min_age      none", "guard", "show", "laptop")
	call(0, "", "lock", "list", "laptop")
	call(0, "", "repo", "plans", "laptop")
	s.expect(t, http.StatusOK, http.MethodDelete, "/laptop/packs/one", "")
	trash := call(0, "packs/one", "trash", "list", "laptop")
	call(0, "restored packs/one", "trash", "restore", "laptop", strings.SplitN(trash, "\t", 2)[0])
	call(0, "come back", "repo", "rollback", "laptop", "--to", since[1], "--dry-run")
	call(0, "until", "repo", "salvage", "laptop", "--for", "1h")
	call(0, "no longer served", "repo", "salvage", "laptop", "--off")
	call(0, "0 of 1 items are missing", "repo", "accept-loss", "laptop", "--dry-run")

	scrub := call(0, "done: 1 items", "scrub", "--repo", "laptop", "--wait")
	call(0, "laptop: 1 items in the index, 0 problems", "check")
	call(0, "laptop: 1 items in the index, 5 bytes read, 0 problems", "check", "laptop", "--verify")
	call(1, "no such repository", "check", "never")
	id := strings.SplitN(scrub, " ", 2)[0]
	call(0, `"id": "`+id+`"`, "job", "show", id)
	call(0, id+" done", "job", "wait", id)
	call(1, "the job has ended: done", "job", "cancel", id)
	call(1, "no repository has a job "+strings.Repeat("0", 32), "job", "show", strings.Repeat("0", 32))

	// Damage is found, and the answer names no file of the server.
	call(0, "created broken", "repo", "create", "broken", "--dialect", "borgstore")
	s.expect(t, http.StatusOK, http.MethodPost, "/broken/packs/large", strings.Repeat("x", 1<<20))
	blobs, err := filepath.Glob(filepath.Join(dir, "packhouse-data", "broken", "blobs", "*", strings.Repeat("[0-9a-f]", 32)))
	if err != nil || len(blobs) != 1 {
		t.Fatalf("got %q, %v, want one blob", blobs, err)
	}
	write(t, blobs[0], strings.Repeat("x", 1<<19)+strings.Repeat("y", 1<<19))
	if out := call(3, "broken: packs/large: ", "check", "broken", "--verify"); strings.Contains(out, dir) {
		t.Errorf("a path of the server is printed: %s", out)
	}

	call(0, "destroyed laptop", "repo", "destroy", "laptop", "--yes")
	removed := call(0, "laptop\tborgstore\t1\t5\t", "repo", "list", "--removed")
	call(0, "restored laptop2", "repo", "restore", strings.SplitN(removed, "\t", 2)[0], "--as", "laptop2")
	call(0, "laptop2\tborgstore\t1\t5\t", "repo", "list")

	// Only on the server.
	const only = "only on the server itself"
	call(1, only, "repo", "destroy", "laptop2", "--yes", "--now")
	call(1, only, "repo", "purge", "laptop", "--yes")
	call(1, only, "trash", "empty", "laptop2", "--yes")
	call(1, only, "guard", "lift", "laptop2", "--for", "1h")
	const files = "works with files on the server's machine"
	call(2, files, "repo", "rebuild", "laptop2")
	call(2, files, "repo", "export", "laptop2", filepath.Join(dir, "out"), "--as", "borgstore")
	call(2, files, "adopt", dir, "--as", "other")
	call(2, "instead of the variable "+serverVariable, "repo", "backup", "laptop2", filepath.Join(dir, "out"))
	call(2, "without --server", "repo", "backup", "laptop2", filepath.Join(dir, "out"), "--server", s.url)

	// A directory on the command line is meant instead of the variable's server, and contradicts the flag.
	data := filepath.Join(dir, "packhouse-data")
	call(0, "laptop2: 1 items in the index, 0 problems", "check", "laptop2", "-d", data)
	call(2, "--server and --data-dir exclude each other", "repo", "list", "-d", data, "--server", s.url)
	call(2, "--server and --config exclude each other", "repo", "list", "-c", data, "--server", s.url)
}

// TestAddressFromAfar: errors name the server's address, and what is wrong with it.
func TestAddressFromAfar(t *testing.T) {
	t.Setenv("PACKHOUSE_TOKEN", "secret")
	sent := ""
	var other *httptest.Server
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+r.URL.RequestURI(), http.StatusPermanentRedirect)
	}))
	defer server.Close()
	other = httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { sent = r.Header.Get("Authorization") }))
	defer other.Close()
	for _, test := range []struct {
		name, url string
		code      int
		want      string
	}{
		{"nobody there", "http://127.0.0.1:1", 1, "request to http://127.0.0.1:1: dial tcp 127.0.0.1:1: "},
		{"redirect", server.URL, 1, server.URL + " sends requests on to " + other.URL + ": give the URL"},
		{"unknown authority", other.URL, 1, "request to " + other.URL + ": tls: failed to verify certificate: x509: certificate signed by unknown authority; for a certificate"},
		{"user", "https://u:hidden@127.0.0.1", 2, "has a user or a password in it"},
		{"query", server.URL + "?x", 2, "must be a URL such as"},
	} {
		code, out, errs := runHere(t, "repo", "list", "--server", test.url)
		if code != test.code || !strings.Contains(errs, test.want) || strings.Contains(errs, "http://packhouse") || strings.Contains(errs, "hidden") {
			t.Errorf("%s: got %d, %s%s, want %d with %q", test.name, code, out, errs, test.code, test.want)
		}
	}
	if sent != "" {
		t.Errorf("the token was sent on to another server")
	}
}

// TestRightsFromAfar: who may not administrate is told which token may.
func TestRightsFromAfar(t *testing.T) {
	s := startServer(t, tempDir(t))
	t.Setenv("PACKHOUSE_TOKEN", s.token)
	t.Setenv(serverVariable, s.url)
	if code, _, errs := runHere(t, "repo", "create", "laptop", "--dialect", "borgstore"); code != 0 {
		t.Fatal(errs)
	}
	code, reader, errs := runHere(t, "token", "create", "--repo", "laptop", "--role", "maintain")
	if code != 0 {
		t.Fatal(errs)
	}
	t.Setenv("PACKHOUSE_TOKEN", strings.TrimSpace(reader))
	for want, args := range map[string][]string{
		"all rights in the server, as the server's own token has them, or one with the role admin for all repositories": {"token", "list"},
		"all rights in the repository, as a token with the role admin has them":                                         {"trash", "list", "laptop"},
		"One of permissions 'lrwWD' required for ''":                                                                    {"trash", "list", "other"},
	} {
		if code, out, errs := runHere(t, args...); code != 1 || !strings.Contains(errs, want) {
			t.Errorf("%q: got %d, %s%s, want 1 with %q", args, code, out, errs, want)
		}
	}
}

// TestGuardFromAfar: what the guard refuses to clients, it refuses to who destroys a repository over the network.
func TestGuardFromAfar(t *testing.T) {
	s := startServer(t, tempDir(t), "--keep-last", "1")
	t.Setenv("PACKHOUSE_TOKEN", s.token)
	s.expect(t, http.StatusOK, http.MethodPost, "/laptop?cmd=create", "")
	s.expect(t, http.StatusOK, http.MethodPost, "/laptop/archives/"+strings.Repeat("a", 64), "bytes")
	if code, out, errs := runHere(t, "repo", "destroy", "laptop", "--yes", "--server", s.url); code != 1 || !strings.Contains(errs, "keep_last") {
		t.Errorf("got %d, %s%s, want 1 because of keep_last", code, out, errs)
	}
}

// TestConfigurationOfTheEnvironment: PACKHOUSE_CONFIG is what --config would be, for the server and for commands; a flag takes precedence.
func TestConfigurationOfTheEnvironment(t *testing.T) {
	dir := tempDir(t)
	file := filepath.Join(dir, "packhouse.toml")
	write(t, file, "[server]\ndata_dir = '"+filepath.Join(dir, "data")+"'\nquota = '3M'\n")
	t.Setenv(configVariable, file)
	cmd := program(t, dir, "packhouse", "serve", "--listen", "127.0.0.1:0")
	cmd.Env = append(cmd.Env, configVariable+"="+file)
	r := launch(t, cmd)
	r.url = r.out.await(t, `serves .* at (https?://\S+)`)[1]
	r.token = regexp.MustCompile(`token   ([0-9a-f]{64})`).FindStringSubmatch(r.out.String())[1]
	for _, args := range [][]string{
		{"repo", "create", "laptop", "--dialect", "borgstore"}, {"repo", "quota", "laptop"}, {"config", "check"},
	} {
		code, out, errs := runHere(t, args...)
		if code != 0 || args[1] == "quota" && !strings.Contains(out, "(3 MiB)") {
			t.Errorf("%q: got %d, %s%s", args, code, out, errs)
		}
	}
	if code, _, errs := runHere(t, "repo", "list", "-c", filepath.Join(dir, "none.toml")); code != 1 || !strings.Contains(errs, "none.toml") {
		t.Errorf("with --config: got %d, %s", code, errs)
	}
}
