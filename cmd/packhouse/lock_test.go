package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"packhouse/api"
)

// TestLockBreak: the administrator breaks locks through a running server, also where clients may remove nothing.
func TestLockBreak(t *testing.T) {
	top := tempDir(t)
	data := filepath.Join(top, "data")
	s := startServer(t, top, "--data-dir", data, "--permissions", "read-only")
	if code, _, errs := runHere(t, "repo", "create", "laptop", "--dialect", "borgstore", "-d", data); code != 0 {
		t.Fatalf("create: exit code %d, %s", code, errs)
	}
	s.expect(t, http.StatusOK, "POST", "/laptop/locks/aa", `{"hostid":"h","processid":1}`)
	s.expect(t, http.StatusOK, "POST", "/laptop/locks/bb", `{"hostid":"h","processid":2}`)
	code, out, errs := runHere(t, "lock", "break", "laptop", "locks/aa", "locks/zz", "locks/bb", "-d", data)
	if code != 1 || out != "broke locks/aa\nbroke locks/bb\n" || !strings.Contains(errs, "there is no lock locks/zz") {
		t.Errorf("got exit code %d, %q, %q", code, out, errs)
	}
	if code, out, errs := runHere(t, "lock", "list", "laptop", "-d", data); code != 0 || out != "" {
		t.Errorf("list: got exit code %d, %q, %q", code, out, errs)
	}
}

// TestLockOfCrashedClient: an administrator sees for how long who took a lock has been silent, also after a restart, and the
// printed command breaks the lock as it stands there.
func TestLockOfCrashedClient(t *testing.T) {
	top := tempDir(t)
	data := filepath.Join(top, "my data")
	s := startServer(t, top, "--data-dir", data)
	send := func(method, path, body string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+s.token)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	// list is what is printed of the lock: the silence and the command.
	list := func() (by, silence, command string) {
		t.Helper()
		code, out, errs := runHere(t, "lock", "list", "laptop", "-d", data)
		cells := strings.Split(strings.TrimSuffix(out, "\n"), "\t")
		if code != 0 || len(cells) != 11 || cells[0] != "repo-lock" {
			t.Fatalf("list: got exit code %d, %q, %q", code, out, errs)
		}
		return cells[8], cells[9], cells[10]
	}
	// acquire asks for the lock as a client: 1 gets it and crashes.
	acquire := func(process, status int) {
		t.Helper()
		if got := send("POST", "/laptop/locks/repo-lock", fmt.Sprintf(`{"hostname":"h","pid":%d}`, process)); got != status {
			t.Fatalf("acquire by %d: got %d, want %d", process, got, status)
		}
	}
	match := func(when, pattern string) {
		t.Helper()
		if by, silence, _ := list(); by != "token 127.0.0.1" || !regexp.MustCompile("^"+pattern+"$").MatchString(silence) {
			t.Errorf("%s: got %q, %q", when, by, silence)
		}
	}
	acquire(1, http.StatusCreated)
	match("at first", `no request for \d+ s`)
	if got := s.stop(t, syscall.SIGTERM); got != 0 {
		t.Fatalf("stop: exit code %d", got)
	}
	match("without a server", "no server is running")
	s = startServer(t, top, "--data-dir", data)
	match("after a restart", `no request since the server started, \d+ s ago`)
	acquire(2, http.StatusConflict)
	match("when another was kept out", `no request for \d+ s; nothing stored or removed since the server started, \d+ s ago`)
	code, out, errs := runHere(t, "lock", "list", "laptop", "--json", "-d", data)
	var shown api.LockList
	if err := json.Unmarshal([]byte(out), &shown); code != 0 || err != nil || len(shown.Locks) != 1 {
		t.Fatalf("list --json: got exit code %d, %q, %q, %v", code, out, errs, err)
	}
	lock := shown.Locks[0]
	if lock.Principal != "token" || lock.Address != "127.0.0.1" || lock.LastRequest == nil || lock.LastChange != nil || lock.SeenSince == nil {
		t.Errorf("list --json: got %s", out)
	}
	_, _, command := list()
	if want := "packhouse lock break -d '" + data + "' laptop repo-lock"; command != want || lock.Break != want {
		t.Fatalf("got the commands %q and %q, want %q", command, lock.Break, want)
	}
	shell := exec.Command("sh", "-c", "packhouse() { printf '%s\\n' \"$@\"; }; "+command)
	words, err := shell.Output()
	if err != nil {
		t.Fatal(err)
	}
	if code, out, errs := runHere(t, strings.Split(strings.TrimSuffix(string(words), "\n"), "\n")...); code != 0 || out != "broke repo-lock\n" {
		t.Errorf("%s: got exit code %d, %q, %q", command, code, out, errs)
	}
	acquire(2, http.StatusCreated)
}
