//go:build e2e

package e2e

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"packhouse/api/apitest"
)

// TestReference replays the dialect's transcripts at the reference server: that of the newest client library. What
// the transcripts say of it is what clients are used to; each difference is a line in them.
func TestReference(t *testing.T) {
	program := python(t)
	library := filepath.Join(venv(), "borgstore-next")
	if !exists(library) {
		lack(t, "the newest borgstore is not installed; scripts/install-clients.sh installs it")
	}
	special := map[string][]string{
		"auth.txt":  {"--username", "u", "--password", "p"},
		"quota.txt": {"--quota", "1000"},
	}
	// The reference serves one store.
	ours := map[string]bool{"many.txt": true, "root.txt": true}
	transcripts, err := filepath.Glob("../api/borgstore/testdata/*.txt")
	if err != nil || len(transcripts) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, path := range transcripts {
		name := filepath.Base(path)
		if ours[name] {
			continue
		}
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
