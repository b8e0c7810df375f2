package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestTotalQuota: it holds for all repositories together, also for those that nobody has used since the start, in each protocol, and
// SIGHUP changes it.
func TestTotalQuota(t *testing.T) {
	dir := tempDir(t)
	file := filepath.Join(dir, "f.toml")
	write(t, file, "[server]\ntoken = 't'\ndata_dir = 'd'\ntotal_quota = 100\n")
	start := func() *running {
		t.Helper()
		s := startServer(t, dir, "-c", "f.toml")
		s.token = "t"
		return s
	}
	s := start()
	s.expect(t, http.StatusOK, "POST", "/a/?cmd=create", "")
	s.expect(t, http.StatusOK, "POST", "/a/packs/1", strings.Repeat("x", 60))
	if got := s.stop(t, syscall.SIGTERM); got != 0 {
		t.Fatalf("exit code: got %d", got)
	}
	s = start()
	s.expect(t, http.StatusOK, "POST", "/b/?cmd=create", "")
	s.expect(t, http.StatusInsufficientStorage, "POST", "/b/packs/1", strings.Repeat("x", 41))
	s.expect(t, http.StatusOK, "POST", "/b/packs/1", strings.Repeat("x", 40))
	if got, text := s.as(t, "x", "t", "PUT", "/v/config", "y"); got != http.StatusRequestEntityTooLarge || !strings.Contains(text, "all repositories") {
		t.Errorf("V'Ger: got %d %s", got, text)
	}
	if _, text := s.as(t, "x", "t", "GET", "/metrics", ""); !strings.Contains(text, "packhouse_used_bytes 100\n") || !strings.Contains(text, "packhouse_total_quota_bytes 100\n") {
		t.Errorf("metrics: got %s", text)
	}
	if _, text := s.as(t, "x", "t", "GET", "/health", ""); !strings.Contains(text, `"short":["total quota"]`) {
		t.Errorf("health: got %s", text)
	}
	write(t, file, "[server]\ntoken = 't'\ndata_dir = 'd'\ntotal_quota = '1K'\n")
	if err := s.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.errs.await(t, "reloaded the configuration")
	s.expect(t, http.StatusOK, "POST", "/b/packs/2", strings.Repeat("x", 900))
	s.expect(t, http.StatusInsufficientStorage, "POST", "/b/packs/3", strings.Repeat("x", 100))
}
