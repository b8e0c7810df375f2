package bench_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"packhouse/bench"
)

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "packhouse-bench-test-")
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "packhouse")
	out, err := exec.Command("go", "build", "-o", program, "packhouse/cmd/packhouse").CombinedOutput()
	if err != nil {
		os.Stderr.Write(out)
	}
	return program, err
})

func TestMain(m *testing.M) {
	code := m.Run()
	if program, err := build(); err == nil {
		_ = os.RemoveAll(filepath.Dir(program))
	}
	os.Exit(code)
}

// program is the packhouse program, built once.
func program(t testing.TB) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatalf("build: %v", err)
	}
	return path
}

// ownServers are those that need nothing but our program.
func ownServers(t testing.TB) []bench.Server {
	t.Helper()
	return append(bench.Packhouse(program(t), "test"), bench.FloorServer(program(t)))
}

// installedPeers are the servers of others that are installed on this machine.
func installedPeers(t testing.TB) []bench.Server {
	t.Helper()
	venv := os.Getenv("PACKHOUSE_VENV")
	if venv == "" {
		venv = "../.venv"
	}
	var found []bench.Server
	for name, program := range map[string]string{"borgstore": "borgstore-server-rest", "rest-server": "rest-server", "vykar": "vykar-server"} {
		for _, path := range []string{filepath.Join(venv, "bin", program), program} {
			s, err := bench.Peer(t.Context(), name, path)
			if err == nil {
				found = append(found, s)
				break
			}
			t.Logf("not tested: %v", err)
		}
	}
	return found
}
