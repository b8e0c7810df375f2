//go:build e2e

package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestBenchInterrupted breaks off a measurement: its servers end and its scratch space goes, and it does not
// claim success.
func TestBenchInterrupted(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"SIGINT": syscall.SIGINT, "SIGTERM": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var out bytes.Buffer
			cmd := exec.Command(packhouse(), "bench", "store", "--dir", dir)
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // until one of its servers writes a log
				if found, _ := filepath.Glob(filepath.Join(dir, "*", "packhouse-*.log")); len(found) > 0 {
					break
				}
				if time.Now().After(deadline) {
					t.Error("no server was started within a minute")
					break
				}
			}
			_ = cmd.Process.Signal(signal)
			done := make(chan error, 1)
			go func() { done <- cmd.Wait() }()
			select {
			case err := <-done:
				if err == nil || cmd.ProcessState.ExitCode() != 1 {
					t.Errorf("ended with %v, want exit code 1", err)
				}
			case <-time.After(time.Minute):
				_ = cmd.Process.Kill()
				t.Fatal("still runs a minute after the signal")
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v (%v)", left, err)
			}
			lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range lines {
				if line, err := os.ReadFile(path); err == nil && strings.Contains(string(line), dir) {
					t.Errorf("still runs: %q", line)
				}
			}
			if t.Failed() {
				t.Logf("it printed:\n%s", out.String())
			}
		})
	}
}
