//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// libraries are the versions of borgstore's client library to test with: the one that borg brings, and the
// newest beside it. The value is what PYTHONPATH must hold.
func libraries(t *testing.T) map[string]string {
	t.Helper()
	need(t, "borgstore-server-rest")
	found := map[string]string{"installed": ""}
	if next := filepath.Join(venv(), "borgstore-next"); exists(next) {
		found["next"] = next
	} else {
		lack(t, next+" is not there; scripts/install-clients.sh installs it")
	}
	return found
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// python is the interpreter that has the client libraries.
func python(t testing.TB) string {
	t.Helper()
	need(t, "borgstore-server-rest")
	return filepath.Join(venv(), "bin", "python")
}

// script is the absolute path of a file in testdata.
func script(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// serverFirst puts our borgstore-server-rest before the reference's on the search path.
func serverFirst() string {
	return "PATH=" + programs + string(os.PathListSeparator) + os.Getenv("PATH")
}

// remoteShell is a stand-in for ssh: like it, it drops options and host, joins the words and lets a shell
// split them again, in the "login directory" home. A non-empty forced replaces the command that was asked
// for, as in authorized_keys.
func remoteShell(t testing.TB, home, forced string) string {
	t.Helper()
	command := `exec sh -c "$*"`
	if forced != "" {
		command = `SSH_ORIGINAL_COMMAND="$*"; export SSH_ORIGINAL_COMMAND; exec ` + forced
	}
	path := filepath.Join(t.TempDir(), "rsh")
	writeFile(t, path, strings.NewReplacer("HOME", home, "PROGRAMS", programs, "COMMAND", command).Replace(`#!/bin/sh
while :; do
	case $1 in
	-o | -p | -l) shift 2 ;;
	-*) shift ;;
	*) break ;;
	esac
done
shift
PATH=PROGRAMS:$PATH
cd 'HOME' || exit 1
COMMAND
`), 0o755)
	return path
}

// some are the checks of client.py where the way to the server is what is tested; it has them all elsewhere.
var some = []string{"life", "items", "ranges", "defrag", "gather", "stores"}

// TestBorgstoreLibrary runs the client library's every operation against each way to reach the server.
func TestBorgstoreLibrary(t *testing.T) {
	t.Parallel()
	for version, path := range libraries(t) {
		library := "PYTHONPATH=" + path
		t.Run("library="+version, func(t *testing.T) {
			t.Parallel()
			t.Run("http", func(t *testing.T) {
				s := startServer(t)
				held(t, run(t, []string{library}, python(t), script(t, "client.py"), s.url("conformance")))
				s.onlyStatuses(200, 206, 400, 404, 409, 410, 416)
			})
			t.Run("http/one-store", func(t *testing.T) {
				s := oneStore(t, "--username", "u", "--password", "p")
				held(t, run(t, []string{library}, python(t),
					append([]string{script(t, "client.py"), "http://u:p@" + s.addr + "/"}, some...)...))
			})
			t.Run("https", func(t *testing.T) {
				certificate, key := selfSigned(t)
				s := startServer(t, "--tls-cert", certificate, "--tls-key", key)
				s.scheme = "https"
				env := []string{library, "REQUESTS_CA_BUNDLE=" + certificate}
				held(t, run(t, env, python(t), append([]string{script(t, "client.py"), s.url("conformance")}, some...)...))
			})
			t.Run("stdio/local", func(t *testing.T) {
				store := filepath.Join(t.TempDir(), "store")
				held(t, run(t, []string{library, serverFirst()}, python(t), script(t, "client.py"), "rest:///"+store))
			})
			t.Run("stdio/remote", func(t *testing.T) {
				home := t.TempDir()
				env := []string{library, "BORGSTORE_RSH=" + remoteShell(t, home, "")}
				held(t, run(t, env, python(t),
					append([]string{script(t, "client.py"), "rest://user@host/backup/store"}, some...)...))
			})
		})
	}
}

// held demands that the script went to its end: its last line counts the checks.
func held(t *testing.T, output string) {
	t.Helper()
	t.Log(lastLines(output, 1))
	if !strings.Contains(lastLines(output, 1), " held") {
		t.Errorf("the script printed %q, want its count of checks last", output)
	}
}

// oneStore runs borgstore-server-rest, by that name, with a store in a new directory.
func oneStore(t testing.TB, args ...string) *server {
	t.Helper()
	s := newServer(t)
	s.program = filepath.Join(programs, "borgstore-server-rest")
	host, port, _ := strings.Cut(s.addr, ":")
	s.args = append([]string{"--host", host, "--port", port, "--backend", "file://" + s.data}, args...)
	s.start()
	return s
}

// onlyStatuses demands that no request was answered with another status.
func (s *server) onlyStatuses(expected ...int) {
	s.t.Helper()
	requests := s.requests()
	if len(requests) == 0 {
		s.t.Errorf("no request in the server's log, want some")
	}
	for _, r := range requests {
		known := false
		for _, status := range expected {
			known = known || r.Status == status
		}
		if !known {
			s.t.Errorf("got status %d, want one of %v: %s", r.Status, expected, r.raw)
		}
	}
}
