package main

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"packhouse/repo/layout"
)

// startRest runs borgstore-server-rest on a port the system chooses.
func startRest(t testing.TB, dir string, args ...string) *running {
	t.Helper()
	r := launch(t, program(t, "/", append([]string{restName, "--backend", "file://" + dir, "--port", "0"}, args...)...))
	r.url = "http://" + r.errs.await(t, `BorgStore REST server listening on (\S+)`)[1]
	return r
}

// TestRestServer: one repository at "/", with the reference's options, beside stdio processes on the same.
func TestRestServer(t *testing.T) {
	dir := filepath.Join(tempDir(t), "r")
	s := startRest(t, dir, "--username", "u", "--password", "p", "--quota", "20", "--permissions", `{"":"lrwD"}`)
	as := func(password, method, path, body string, want int) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", acceptBorgStore)
		req.SetBasicAuth("u", password)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s %s: got %d, want %d\n%s", method, path, resp.StatusCode, want, s.errs)
		}
	}
	as("x", "POST", "/?cmd=create", "", 401)
	as("p", "POST", "/?cmd=create", "", 200)
	as("p", "POST", "/a", "0123456789", 200)
	as("p", "POST", "/a", "9876543210", 403)
	as("p", "POST", "/b", "0123456789x", 507)

	c := stdioAt(t, dir)
	c.want(t, http.StatusOK, "GET", "/a", "")
	c.want(t, http.StatusOK, "POST", "/c", "x")
	as("p", "GET", "/c", "", 200)
	if pid := holderOf(dir); pid != s.Process.Pid {
		t.Errorf("holder: got process %d, want the server, %d", pid, s.Process.Pid)
	}
	if got := s.stop(t, syscall.SIGINT); got != 0 {
		t.Errorf("exit code: got %d, want 0", got)
	}
	c.want(t, http.StatusOK, "GET", "/c", "") // from a holder of its own now

	// A server that starts takes the repository from the holder, and the pipe goes on.
	s = startRest(t, dir, "--username", "u", "--password", "p")
	as("p", "GET", "/c", "", 200)
	c.want(t, http.StatusOK, "GET", "/a", "")
	c.finish(t)

	// It closes the repository for nobody.
	second := launch(t, program(t, "/", restName, "--backend", "FILE:"+dir, "--port", "0"))
	if got := second.code(t); got != 1 || !strings.Contains(second.errs.String(), "it serves clients of its own") {
		t.Errorf("second server: got exit code %d, %s", got, second.errs)
	}
	above := launch(t, program(t, "/", "packhouse", "serve", "-d", filepath.Dir(dir), "-l", "127.0.0.1:0"))
	if got := above.code(t); got != 1 || !strings.Contains(above.errs.String(), "it serves clients of its own") {
		t.Errorf("server above: got exit code %d, %s", got, above.errs)
	}
}

// TestRestSocketActivation: descriptor 3, whatever LISTEN_PID says; the socket is the service manager's.
func TestRestSocketActivation(t *testing.T) {
	top := tempDir(t)
	path := filepath.Join(top, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := program(t, "/", restName, "--backend", "file://"+filepath.Join(top, "with%20blank"), "--socket-activation")
	cmd.Env = append(cmd.Env, "LISTEN_FDS=1", "LISTEN_PID=1")
	cmd.ExtraFiles = []*os.File{f}
	s := launch(t, cmd)
	s.errs.await(t, "using systemd-activated socket on "+path)
	if got, text := request(t, overUnix(path), "", "POST", "http://x/?cmd=create", ""); got != http.StatusOK {
		t.Errorf("create: got %d %q, want 200", got, text)
	}
	if _, err := os.Stat(filepath.Join(top, "with blank", layout.IndexFile)); err != nil {
		t.Errorf("the URL's path was not decoded: %v", err)
	}
	if got := s.stop(t, syscall.SIGTERM); got != 0 {
		t.Errorf("exit code: got %d, want 0", got)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the socket is gone: %v", err)
	}
}
