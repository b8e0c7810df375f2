package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
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
