//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"packhouse/api/apitest"
)

// restServer is the path of restic's own server, or the test ends: it is the reference of its protocol.
func restServer(t testing.TB) string {
	t.Helper()
	if program := os.Getenv("PACKHOUSE_REST_SERVER"); program != "" {
		if !exists(program) {
			t.Fatalf("PACKHOUSE_REST_SERVER: there is no %s", program)
		}
		return program
	}
	for _, candidate := range []string{filepath.Join("..", "bin", "rest-server"), "rest-server"} {
		if path, err := exec.LookPath(candidate); err == nil {
			if path, err = filepath.Abs(path); err == nil {
				return path
			}
		}
	}
	leave(t, "rest-server is not there; PACKHOUSE_REST_SERVER is the path of its program, or make peers builds it")
	return ""
}

// TestResticReference replays the dialect's transcripts at restic's own server. Each difference is a line in them, with its reason.
func TestResticReference(t *testing.T) {
	t.Parallel()
	program := restServer(t)
	paths, err := filepath.Glob("../api/restic/testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.program, s.args = program, []string{"--no-auth", "--path", s.data, "--listen", s.addr}
			s.start()
			apitest.ReplayReference(t, s.addr, path)
		})
	}
}
