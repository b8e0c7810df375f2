//go:build e2e

package e2e

import (
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"packhouse/api/apitest"
)

// TestReference replays the dialect's transcripts at the reference server: that of the newest client library. What
// the transcripts say of it is what clients are used to; each difference is a line in them.
func TestReference(t *testing.T) {
	t.Parallel()
	program := python(t)
	library := filepath.Join(venv(), "borgstore-next")
	if !exists(library) {
		lack(t, "the newest borgstore is not installed; scripts/install-clients.sh installs it")
	}
	special := map[string][]string{
		"auth.txt":  {"--username", "u", "--password", "p"},
		"quota.txt": {"--quota", "1000"},
	}
	for _, path := range transcripts(t) {
		name := filepath.Base(path)
		t.Run(strings.TrimSuffix(name, ".txt"), func(t *testing.T) {
			s := newServer(t)
			s.program, s.env = program, []string{"PYTHONPATH=" + library}
			host, port, err := net.SplitHostPort(s.addr)
			if err != nil {
				t.Fatal(err)
			}
			s.args = append([]string{"-m", "borgstore.server.rest", "--host", host, "--port", port,
				"--backend", "file://" + filepath.Join(s.data, "store")}, special[name]...)
			s.start()
			defer s.kill() // on SIGTERM it ends by the signal
			apitest.ReplayReference(t, s.addr, path)
		})
	}
}

// transcripts are those of the dialect that are about one store.
func transcripts(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob("../api/borgstore/testdata/*.txt")
	paths = slices.DeleteFunc(paths, func(path string) bool {
		name := filepath.Base(path)
		return name == "many.txt" || name == "root.txt"
	})
	if err != nil || len(paths) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	return paths
}

// TestTranscriptsOnStdio has our own program answer the transcripts on its standard input and output: each
// answer has its exact length there, errors too, and leaves the pipe in step.
func TestTranscriptsOnStdio(t *testing.T) {
	t.Parallel()
	options := map[string][]string{"quota.txt": {"--quota", "1000"}}
	for _, path := range transcripts(t) {
		name := filepath.Base(path)
		if name == "auth.txt" {
			continue // its credentials are those of a network
		}
		t.Run(strings.TrimSuffix(name, ".txt"), func(t *testing.T) {
			args := append([]string{"--stdio", "--backend", "FILE:" + filepath.Join(t.TempDir(), "store")}, options[name]...)
			apitest.ReplayOn(t, startStdio(t, filepath.Join(programs, "borgstore-server-rest"), args...), path)
		})
	}
}

// stdio is a process as a connection.
type stdio struct {
	t   *testing.T
	cmd *exec.Cmd
	io.Reader
	io.WriteCloser
}

func startStdio(t *testing.T, program string, args ...string) *stdio {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Stderr = t.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &stdio{t, cmd, out, in}
}

// Close ends the input; the process must then end with 0, and have said nothing more.
func (s *stdio) Close() error {
	if err := s.WriteCloser.Close(); err != nil {
		return err
	}
	if rest, err := io.ReadAll(s.Reader); err != nil || len(rest) > 0 {
		s.t.Errorf("after the last answer: got %q, %v", rest, err)
	}
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("at the end of input: %v, want exit code 0", err)
	}
	return nil
}
