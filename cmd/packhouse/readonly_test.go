package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mountMemory mounts a file system of its own, in memory, on dir. Who may not do that does not run the test.
func mountMemory(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=512m"); err != nil {
		t.Skipf("NOT TESTED: mounting takes root: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

func remount(t *testing.T, dir string, flags uintptr) {
	t.Helper()
	var err error
	for range 100 { // until a file that was just closed is
		if err = unix.Mount("", dir, "", unix.MS_REMOUNT|flags, ""); err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal(err)
}

// filesOf is what lies below a directory, with times.
func filesOf(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				fmt.Fprintln(&b, path, info.Size(), info.ModTime().Format(time.RFC3339Nano))
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestReadOnlyFileSystem: a server, the commands and stdio processes read what lies on a read-only file system, several at
// a time, and write nothing. When it takes writes the server does, without a restart.
func TestReadOnlyFileSystem(t *testing.T) {
	top := tempDir(t)
	t.Setenv("TMPDIR", tempDir(t)) // where the sockets are
	data := filepath.Join(top, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	mountMemory(t, data)
	s := startServer(t, top, "--data-dir", data)
	s.expect(t, http.StatusOK, "POST", "/laptop/?cmd=create", "")
	s.expect(t, http.StatusOK, "POST", "/laptop/config/a", "hello")
	s.expect(t, http.StatusOK, "POST", "/laptop/locks/stale", `{"hostid":"h","processid":1}`)
	kept := s.token
	if code := s.stop(t, syscall.SIGTERM); code != 0 {
		t.Fatalf("exit code %d\n%s", code, s.errs)
	}
	remount(t, data, unix.MS_RDONLY)
	before := filesOf(t, data)

	s = startServer(t, top, "--data-dir", data)
	if s.token != kept {
		t.Errorf("token: got %q, want the one that is kept", s.token)
	}
	s.errs.await(t, "file system of the data directory is read-only")
	var h map[string]any
	s.expect(t, http.StatusOK, "GET", "/laptop//", "")
	if err := json.Unmarshal([]byte(page(t, s, "/health")), &h); err != nil || h["status"] != "degraded" || h["read_only_repos"] != 1.0 || !strings.Contains(fmt.Sprint(h["reason"]), "read-only") {
		t.Errorf("health: %v, %v", h, err)
	}
	if got := s.expect(t, http.StatusOK, "GET", "/laptop/config/a", ""); got != "hello" {
		t.Errorf("item: got %q", got)
	}
	s.expect(t, http.StatusOK, "POST", "/laptop/locks/mine", "lock")
	if got := s.expect(t, http.StatusOK, "GET", "/laptop/locks/", ""); !strings.Contains(got, "mine") || !strings.Contains(got, "stale") {
		t.Errorf("locks: got %q", got)
	}
	s.expect(t, http.StatusOK, "DELETE", "/laptop/locks/stale", "")
	s.expect(t, http.StatusForbidden, "POST", "/laptop/config/b", "x")
	s.expect(t, http.StatusForbidden, "DELETE", "/laptop/config/a", "")
	s.expect(t, http.StatusForbidden, "POST", "/new/?cmd=create", "")
	s.expect(t, http.StatusForbidden, "DELETE", "/laptop/?cmd=destroy", "")
	if err := s.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.errs.await(t, "reloaded the configuration")

	// Beside it others read.
	for _, args := range [][]string{{"check", "--verify"}, {"repo", "list"}, {"repo", "info", "laptop"}, {"lock", "list", "laptop"}} {
		if code, out, errs := runHere(t, append(args, "-d", data)...); code != 0 {
			t.Errorf("%v: exit code %d, %s%s", args, code, out, errs)
		}
	}
	for _, args := range [][]string{{"lock", "break", "laptop", "locks/stale"}, {"repo", "create", "new"}, {"repo", "destroy", "laptop", "--yes"}, {"scrub", "--repo", "laptop"}} {
		if code, out, errs := runHere(t, append(args, "-d", data)...); code == 0 || code == 1 && !strings.Contains(out+errs, "read-only") {
			t.Errorf("%v: exit code %d, %s%s; want a refusal", args, code, out, errs)
		}
	}
	for range 2 {
		c := stdioAt(t, filepath.Join(data, "laptop"))
		if got := c.want(t, http.StatusOK, "GET", "/config/a", ""); got != "hello" {
			t.Errorf("over stdio: got %q", got)
		}
		c.want(t, http.StatusOK, "POST", "/locks/stdio", "lock")
		c.want(t, http.StatusOK, "DELETE", "/locks/stdio", "")
		c.want(t, http.StatusForbidden, "POST", "/config/b", "x")
		c.finish(t)
	}
	if after := filesOf(t, data); after != before {
		t.Errorf("the directory was changed:\n%s\nbefore:\n%s", after, before)
	}
	if left, err := filepath.Glob(filepath.Join(os.TempDir(), "packhouse-*", "socket")); err != nil || len(left) > 1 { // the server's
		t.Errorf("sockets are left: %v, %v", left, err)
	}

	remount(t, data, 0)
	await(t, "writes", func() bool { status, _ := s.do(t, "POST", "/laptop/config/b", "now"); return status == http.StatusOK }, s.errs)
	if code, _, errs := runHere(t, "serve", "-d", data, "-l", "127.0.0.1:0"); code != 1 || !strings.Contains(errs, "in use by process") {
		t.Errorf("a second server that may write: exit code %d, %s", code, errs)
	}
	s.expect(t, http.StatusNotFound, "GET", "/laptop/locks/mine", "") // of before
	if code := s.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.errs)
	}
	if code, out, errs := runHere(t, "check", "--verify", "-d", data); code != 0 {
		t.Errorf("check: exit code %d, %s%s", code, out, errs)
	}
}

// TestReadOnlyWithoutAnything: a copy of a repository that never had a server, such as one of a snapshot.
func TestReadOnlyWithoutAnything(t *testing.T) {
	top := tempDir(t)
	data := filepath.Join(top, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	mountMemory(t, data)
	c := stdioAt(t, filepath.Join(top, "r"))
	c.want(t, http.StatusOK, "POST", "/?cmd=create", "")
	c.want(t, http.StatusOK, "POST", "/config/a", "hello")
	c.finish(t)
	endHolder(t, filepath.Join(top, "r"))
	if err := os.RemoveAll(filepath.Join(top, "r", ".packhouse")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(data, "r"), os.DirFS(filepath.Join(top, "r"))); err != nil {
		t.Fatal(err)
	}
	remount(t, data, unix.MS_RDONLY)
	s := startServer(t, top, "--data-dir", data)
	if s.token == "" || !strings.Contains(s.out.String(), "valid until the server stops") {
		t.Fatalf("no token:\n%s", s.out)
	}
	s.expect(t, http.StatusOK, "GET", "/r/config/a", "")
	if err := s.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.errs.await(t, "reloaded the configuration")
	s.expect(t, http.StatusOK, "GET", "/r/config/a", "") // with the same token
	rest := startRest(t, filepath.Join(data, "r"))
	rest.expect(t, http.StatusOK, "GET", "/config/a", "")
	rest.expect(t, http.StatusForbidden, "POST", "/config/b", "x")
	for _, r := range []*running{s, rest} {
		if code := r.stop(t, syscall.SIGTERM); code != 0 {
			t.Errorf("exit code %d\n%s", code, r.errs)
		}
	}
}
