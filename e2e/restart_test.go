//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// keepSocket makes the test hold the server's listening socket, as a service manager does: connections that are
// made while no server runs wait for the next one.
func (s *server) keepSocket() (start func()) {
	s.t.Helper()
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		s.t.Fatal(err)
	}
	l.Close() // the descriptor keeps the socket
	s.t.Cleanup(func() { socket.Close() })
	tokenFile := filepath.Join(s.dir, "token")
	writeFile(s.t, tokenFile, token+"\n", 0o600)
	s.program = "/bin/sh"
	s.args = []string{"-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"`, "sh", packhouse(), "serve", "--data-dir", s.data,
		"--token-file", tokenFile, "--log-format", "json"}
	probe := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	return func() {
		s.t.Helper()
		s.launch(socket)
		// The connection waits in the socket's queue until the server is ready.
		if _, err := s.health(probe); err != nil {
			s.t.Fatalf("the server that was started: %v", err)
		}
	}
}

// backupClient is a real client with a repository of its own.
type backupClient struct {
	name   string
	backup func(n int) (output string, code int) // the n-th, of what no earlier one has stored
	check  func()
	broken string // what the client prints when a connection broke under a request
}

// TestBackupsSurviveRestarts: backups of real clients end well while the server is restarted again and again by one who
// keeps its socket.
func TestBackupsSurviveRestarts(t *testing.T) {
	t.Run("borg", func(t *testing.T) {
		survive(t, func(s *server, name string, seed uint64) backupClient {
			tr := newTree(t, seed, 200, 40<<20)
			b := newBorg(t, s.url(name), "BORG_PACK_MAX_SIZE=1000000")
			b.run("repo-create", "--encryption", "aes256-ocb")
			return backupClient{
				name: name,
				backup: func(n int) (string, int) {
					tr.change(n%2, 2)
					return b.try("create", "story", tr.dir)
				},
				check:  func() { b.run("check", "--verify-data") },
				broken: "connection lost",
			}
		})
	})
	t.Run("restic", func(t *testing.T) {
		survive(t, func(s *server, name string, seed uint64) backupClient {
			tr := newTree(t, seed, 200, 60<<20)
			r := resticOn(t, s, name)
			return backupClient{
				name: name,
				backup: func(n int) (string, int) {
					tr.change(n%2, 2)
					return r.try("backup", tr.dir)
				},
				check:  func() { r.run("check", "--read-data") },
				broken: ") failed: ",
			}
		})
	})
	t.Run("vykar", func(t *testing.T) {
		program := vykarProgram(t)
		survive(t, func(s *server, name string, seed uint64) backupClient {
			tr := newTree(t, seed, 200, 40<<20)
			v := newVykar(t, program, s.scheme+"://"+s.addr+"/"+name, tr.dir)
			v.run("init")
			return backupClient{
				name: name,
				backup: func(n int) (string, int) {
					tr.change(n%2, 2)
					return v.try("backup")
				},
				check:  func() { v.run("check", "--verify-data") },
				broken: "transient error",
			}
		})
	})
}

// survive restarts a server under two clients.
func survive(t *testing.T, newClient func(s *server, name string, seed uint64) backupClient) {
	s := newServer(t)
	start := s.keepSocket()
	start()
	clients := []backupClient{newClient(s, "one", 1), newClient(s, "two", 2)}
	stored := func(name string) (n int) {
		for _, r := range s.requests() {
			if r.Repository == name && (r.Operation == "store" || r.Operation == "put") {
				n++
			}
		}
		return n
	}
	var enough, failed atomic.Bool
	var broken atomic.Int64 // requests whose connection broke
	var group sync.WaitGroup
	for _, c := range clients {
		group.Go(func() {
			for n := 0; !enough.Load() && !failed.Load(); n++ {
				out, code := c.backup(n)
				if code != 0 {
					failed.Store(true)
					t.Errorf("backup %d of %s: exit code %d\n%s", n, c.name, code, lastLines(out, 30))
				}
				if n := strings.Count(out, c.broken); n > 0 {
					broken.Add(int64(n))
					t.Logf("backup %d of %s:\n%s", n, c.name, lastLines(out, 30))
				}
			}
		})
	}
	const restarts = 8
	for range restarts {
		for _, c := range clients {
			before := stored(c.name)
			for deadline := time.Now().Add(2 * time.Minute); stored(c.name) < before+5 && !failed.Load(); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%s stores nothing any more", c.name)
				}
			}
		}
		s.stop()
		start()
	}
	enough.Store(true)
	group.Wait()
	// A request may be on its way when its connection is closed for having been idle: clients repeat it. That is an accident;
	// clients at work have their requests answered.
	if n := broken.Load(); n > 1 {
		t.Errorf("%d requests lost their connection in %d restarts", n, restarts)
	}
	for _, c := range clients {
		c.check()
	}
}

// vykarProgram is the path of vykar: what PACKHOUSE_VYKAR says, else where it is installed.
func vykarProgram(t testing.TB) string {
	t.Helper()
	if program := os.Getenv("PACKHOUSE_VYKAR"); program != "" {
		if !exists(program) {
			t.Fatalf("PACKHOUSE_VYKAR: there is no %s", program)
		}
		return program
	}
	if program := filepath.Join(venv(), "bin", "vykar"); exists(program) {
		return program
	}
	leave(t, "vykar is not installed; PACKHOUSE_VYKAR is the path of its program")
	return ""
}

// vykar is one vykar client with its own configuration and caches.
type vykar struct {
	t       testing.TB
	program string
	env     []string
}

func newVykar(t testing.TB, program, url, source string) *vykar {
	t.Helper()
	home := t.TempDir()
	config := filepath.Join(home, "vykar.yaml")
	writeFile(t, config, fmt.Sprintf(`
sources:
  - %s
repositories:
  - label: main
    url: %s
    access_token: %s
    allow_insecure_http: true
    min_pack_size: 1048576
    max_pack_size: 1048576
chunker:
  min_size: 65536
  avg_size: 262144
  max_size: 1048576
`, source, url, token), 0o600)
	return &vykar{t: t, program: program, env: []string{
		"VYKAR_CONFIG=" + config, "VYKAR_PASSPHRASE=correct horse battery staple", "HOME=" + home,
		"XDG_CACHE_HOME=" + filepath.Join(home, "cache"), "XDG_CONFIG_HOME=" + filepath.Join(home, "config"),
		"XDG_DATA_HOME=" + filepath.Join(home, "data"), "XDG_STATE_HOME=" + filepath.Join(home, "state"),
	}}
}

// run demands success, and returns what vykar printed.
func (v *vykar) run(args ...string) string {
	v.t.Helper()
	return run(v.t, v.env, v.program, args...)
}

// try returns what vykar printed, and its exit code.
func (v *vykar) try(args ...string) (string, int) {
	v.t.Helper()
	return try(v.t, v.env, v.program, args...)
}
