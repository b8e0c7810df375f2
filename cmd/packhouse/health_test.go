package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestHealthCommand: over the socket of the data directory and over the network, while the server runs and when it does not.
func TestHealthCommand(t *testing.T) {
	dir := tempDir(t)
	data, file := filepath.Join(dir, "packhouse-data"), filepath.Join(dir, "packhouse.toml")
	write(t, file, "[server]\ndata_dir = '"+data+"'\n")
	expect := func(code int, want string, args ...string) {
		t.Helper()
		got, out, errs := runHere(t, append([]string{"health"}, args...)...)
		if got != code || !strings.Contains(out+errs, want) {
			t.Errorf("%q: got %d, %s%s, want %d with %q", args, got, out, errs, code, want)
		}
	}
	expect(exitNotReached, "there is no directory", "-d", data)
	s := startServer(t, dir)
	expect(0, "ok", "-d", data)
	expect(0, "ok", "-c", file)
	expect(0, "ok", "--server", s.url)
	expect(0, `"status": "ok"`, "--server", s.url, "--json")
	t.Setenv(serverVariable, s.url)
	expect(0, "ok")
	if code := s.stop(t, syscall.SIGTERM); code != 0 {
		t.Fatalf("the server: got %d", code)
	}
	expect(exitNotReached, "connection refused", "--server", s.url)
	expect(exitNotReached, "no server runs on", "-d", data)
	expect(exitUsage, "must be a URL", "--server", "backup")
	expect(exitUsage, "above 0", "--timeout", "0s")
}

// TestHealthOfTheDegraded: what the server gives as a reason is printed.
func TestHealthOfTheDegraded(t *testing.T) {
	silent := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("the check has sent credentials")
		}
		if r.URL.Path != "/health" {
			<-silent
		}
		io.WriteString(w, `{"status":"degraded","reason":"the disk is full"}`)
	}))
	defer server.Close()
	defer close(silent)
	t.Setenv("PACKHOUSE_TOKEN", "secret")
	code, out, errs := runHere(t, "health", "--server", server.URL)
	if code != exitDegraded || out != "degraded: the disk is full\n" || errs != "" {
		t.Errorf("got %d, %q, %q", code, out, errs)
	}
}
