package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// TestServeWithoutConfiguration: the first start makes everything, and what it prints works.
func TestServeWithoutConfiguration(t *testing.T) {
	dir := tempDir(t)
	s := startServer(t, dir)
	for _, want := range []string{"BORG_REPO=http://packhouse:" + s.token + "@127.0.0.1:", "borg repo-create", "access_token: " + s.token} {
		if !strings.Contains(s.out.String(), want) {
			t.Errorf("output lacks %q:\n%s", want, s.out)
		}
	}
	for name, mode := range map[string]os.FileMode{
		"packhouse-data": 0o700, "packhouse-data/.packhouse": 0o700, "packhouse-data/.packhouse/token": 0o600, "packhouse-data/.packhouse/socket": 0o600,
	} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != mode {
			t.Errorf("mode of %s: got %o, want %o", name, got, mode)
		}
	}
	s.expect(t, http.StatusOK, "POST", "/myrepo/?cmd=create", "")
	s.expect(t, http.StatusOK, "POST", "/myrepo/config/a", "hello")
	if got, _ := request(t, http.DefaultClient, "wrong", "GET", s.url+"/myrepo/config/a", ""); got != http.StatusUnauthorized {
		t.Errorf("wrong token: got %d, want 401", got)
	}
	if got := s.stop(t, syscall.SIGTERM); got != 0 {
		t.Errorf("exit code: got %d, want 0\n%s", got, s.errs)
	}
	if strings.Contains(s.errs.String(), s.token) {
		t.Errorf("the log has the token:\n%s", s.errs)
	}

	again := startServer(t, dir)
	if again.token != s.token {
		t.Errorf("token after a restart: got %s, want %s", again.token, s.token)
	}
	if got := again.expect(t, http.StatusOK, "GET", "/myrepo/config/a", ""); got != "hello" {
		t.Errorf("item after a restart: got %q, want hello", got)
	}
}

// TestMaxBody: the largest item that is configured is the largest of every protocol.
func TestMaxBody(t *testing.T) {
	s := startServer(t, tempDir(t), "--max-body", "1K")
	s.expect(t, http.StatusOK, "POST", "/borg/?cmd=create", "")
	s.expect(t, http.StatusRequestEntityTooLarge, "POST", "/borg/packs/a", strings.Repeat("x", 1025))
	for size, want := range map[int]int{1024: http.StatusCreated, 1025: http.StatusRequestEntityTooLarge} {
		req, err := http.NewRequestWithContext(t.Context(), "PUT", s.url+"/vger/keys/k", strings.NewReader(strings.Repeat("x", size)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+s.token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.StatusCode; got != want && (want != http.StatusCreated || got != http.StatusNoContent) {
			t.Errorf("PUT of %d bytes: got %d, want %d", size, got, want)
		}
	}
}

// TestPlanLimits: the limits of plans that are configured hold for the plans of V'Ger's clients.
func TestPlanLimits(t *testing.T) {
	dir := tempDir(t)
	file := filepath.Join(dir, "f.toml")
	write(t, file, "[server]\ntoken = 'secret'\ndata_dir = 'd'\n[maintenance]\nplan_bytes = '1K'\nplan_operations = 2\nplan_ranges = 2\nplan_output = 100\n")
	s := startServer(t, dir, "--config", file)
	send := func(method, path, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer secret")
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
	if got, text := send("PUT", "/r/config", "x"); got != http.StatusCreated {
		t.Fatalf("PUT config: got %d %s", got, text)
	}
	blob := func(length int) string { return fmt.Sprintf(`{"offset":13,"length":%d}`, length) }
	operation := func(blobs ...string) string {
		return `{"source_pack":"packs/00/` + strings.Repeat("0", 64) + `","keep_blobs":[` + strings.Join(blobs, ",") + `],"delete_after":false}`
	}
	plan := func(operations ...string) string { return `{"operations":[` + strings.Join(operations, ",") + `]}` }
	for _, c := range []struct {
		body   string
		status int
		text   string
	}{
		{plan(operation(blob(87)), operation()), http.StatusConflict, "no such pack"}, // within all limits
		{plan(operation(blob(1), blob(1))), http.StatusConflict, "no such pack"},
		{plan(operation(blob(88))), http.StatusBadRequest, "output too large"},
		{plan(operation(blob(1), blob(1), blob(1))), http.StatusBadRequest, "too many keep_blobs"},
		{plan(operation(), operation(), operation()), http.StatusBadRequest, "too many"},
		{plan(operation()) + strings.Repeat(" ", 1024), http.StatusRequestEntityTooLarge, "length limit exceeded"},
	} {
		if got, text := send("POST", "/r?repack", c.body); got != c.status || !strings.Contains(text, c.text) {
			t.Errorf("%s: got %d %q, want %d %q", c.body, got, text, c.status, c.text)
		}
	}
}

// TestServePermissions: those of the command line hold for every repository, over the network and through pipes.
func TestServePermissions(t *testing.T) {
	dir := tempDir(t)
	if code, _, errs := runHere(t, "repo", "create", "r", "--dialect", "borgstore", "-d", dir); code != 0 {
		t.Fatal(errs)
	}
	s := startServer(t, dir, "-d", dir, "--permissions", "read-only")
	s.expect(t, http.StatusForbidden, "POST", "/r/packs/a", "x")
	s.expect(t, http.StatusOK, "GET", "/r/", "")
	c := stdioAt(t, filepath.Join(dir, "r"))
	c.want(t, http.StatusForbidden, "POST", "/packs/a", "x")
	c.finish(t)
	for _, bad := range []string{"", "nothing", "{"} {
		if code, _, errs := runHere(t, "serve", "-d", dir, "--permissions", bad); code != exitUsage || !strings.Contains(errs, "--permissions") {
			t.Errorf("%q: got exit code %d, %q", bad, code, errs)
		}
	}
}

// TestForeignEntries are ignored, and named in the log.
func TestForeignEntries(t *testing.T) {
	dir := tempDir(t)
	data := filepath.Join(dir, "data")
	for _, name := range []string{"lost+found", "empty", "packs/00", ".hidden", "half/blobs/00"} {
		if err := os.MkdirAll(filepath.Join(data, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(data, "config"), "x")
	write(t, filepath.Join(dir, "token"), "secret\n")
	if err := os.Chmod(filepath.Join(dir, "token"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := startServer(t, dir, "--data-dir", data, "--token-file", "token")
	s.token = "secret"
	s.expect(t, http.StatusOK, "POST", "/empty/?cmd=create", "")
	s.expect(t, http.StatusOK, "POST", "/half/?cmd=create", "")
	s.expect(t, http.StatusConflict, "POST", "/packs/?cmd=create", "")
	for name, want := range map[string]bool{
		"name=lost+found": true, "name=packs": true, "name=.hidden": true, "name=config": true, "name=empty": false, "name=half": false,
		"other users can read the token file": true,
	} {
		if want {
			s.errs.await(t, regexp.QuoteMeta(name)) // the log is written behind those who log
		} else if strings.Contains(s.errs.String(), name) {
			t.Errorf("%q is in the log, and should not be\n%s", name, s.errs)
		}
	}
}
