//go:build e2e

package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

var (
	withRace    = flag.Bool("e2e.race", false, "build the server with the race detector")
	crashRounds = flag.Int("crash.rounds", 5, "how often TestCrash kills the server")
	crashSeed   = flag.Int64("crash.seed", 0, "seed of TestCrash; 0: from the clock, and printed")
)

// programs is a directory with the server as packhouse and, by symbolic links, as borgstore-server-rest and rest-server.
var programs string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "packhouse-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if err := build(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		programs = dir
		return m.Run()
	}())
}

func build(dir string) error {
	args := []string{"build", "-o", filepath.Join(dir, "packhouse")}
	if *withRace {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "packhouse/cmd/packhouse")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("build the server: %w\n%s", err, out)
	}
	for _, name := range []string{"borgstore-server-rest", "rest-server"} {
		if err := os.Symlink("packhouse", filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func packhouse() string { return filepath.Join(programs, "packhouse") }

// venv is where scripts/install-clients.sh put the Python clients.
func venv() string {
	if dir := os.Getenv("PACKHOUSE_VENV"); dir != "" {
		return dir
	}
	dir, _ := filepath.Abs("../.venv")
	return dir
}

// need ends the test unless the program is installed, and returns its path.
func need(t testing.TB, program string) string {
	t.Helper()
	for _, candidate := range []string{
		filepath.Join(venv(), "bin", program), program, filepath.Join("/usr/sbin", program),
	} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path
		}
	}
	lack(t, program+" is not installed; scripts/install-clients.sh installs it")
	return ""
}

// lack ends a test that cannot run on this machine.
func lack(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("PACKHOUSE_STRICT") != "" {
		t.Fatalf("must run here: %s", why)
	}
	leave(t, why)
}

// leave ends a test that cannot run on this machine, and takes note of it for the end of `make test`.
func leave(t testing.TB, why string) {
	t.Helper()
	if path := os.Getenv("PACKHOUSE_SKIPPED"); path != "" {
		if f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err == nil {
			fmt.Fprintf(f, "%s: %s\n", t.Name(), why)
			f.Close()
		}
	}
	t.Skip(why)
}
