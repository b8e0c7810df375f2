package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestPolicyHoldsForPipes: what the server's configuration forbids, a stdio process of its user cannot do either;
// the administrator can.
func TestPolicyHoldsForPipes(t *testing.T) {
	top := tempDir(t)
	write(t, filepath.Join(top, "f.toml"), "[server]\ntoken = 't'\ndata_dir = 'd'\ngrace = '1h'\n[[repository]]\nname = 'r'\nappend_only = true\n")
	s := startServer(t, top, "-c", "f.toml")
	c := stdioAt(t, filepath.Join(top, "d", "r"))
	c.want(t, http.StatusOK, "POST", "/?cmd=create", "")
	c.want(t, http.StatusOK, "POST", "/packs/00/a", "x")
	c.want(t, http.StatusForbidden, "DELETE", "/packs/00/a", "")
	c.want(t, http.StatusOK, "POST", "/locks/a", "x")
	c.want(t, http.StatusOK, "DELETE", "/locks/a", "")
	if pid := holderOf(filepath.Join(top, "d", "r")); pid != 0 {
		t.Errorf("process %d holds the repository beside server %d", pid, s.Process.Pid)
	}
	// A holder of its own, while no server runs, keeps to it too; also the grace time.
	if got := s.stop(t, syscall.SIGTERM); got != 0 {
		t.Fatalf("exit code of the server: %d", got)
	}
	c.want(t, http.StatusForbidden, "DELETE", "/packs/00/a", "")
	c.want(t, http.StatusOK, "POST", "/cache/a", "x")
	c.want(t, http.StatusOK, "DELETE", "/cache/a", "")
	c.finish(t)
	if code, out, errs := runHere(t, "trash", "list", "r", "-d", filepath.Join(top, "d")); code != 0 || !strings.Contains(out, "\tcache/a\t") {
		t.Errorf("trash: exit code %d, %q, %s", code, out, errs)
	}
	if code, _, errs := runHere(t, "repo", "destroy", "r", "--yes", "-d", filepath.Join(top, "d")); code != 0 {
		t.Errorf("destroy by the administrator: exit code %d, %s", code, errs)
	}
}
