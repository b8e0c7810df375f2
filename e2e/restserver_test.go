//go:build e2e

package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// newRestServer prepares a server with the command line of rest-server; "": ours under that name. Its data directory has the users.
func newRestServer(t testing.TB, program string, users string, args ...string) *server {
	t.Helper()
	s := newServer(t)
	if s.program = program; program == "" {
		s.program = filepath.Join(programs, "rest-server")
	}
	s.args = append([]string{"--path", s.data, "--listen", s.addr}, args...)
	if users != "" {
		if err := os.Mkdir(s.data, 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(s.data, ".htpasswd"), users, 0o600)
	}
	return s
}

// passwordLine is a line of an htpasswd file, with the mark that htpasswd -B writes.
func passwordLine(t testing.TB, user, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return user + ":" + strings.Replace(string(hash), "$2a$", "$2y$", 1) + "\n"
}

// restRequest is one request to both servers. Where ours is not to answer as the reference does, ours is why it does not.
type restRequest struct {
	user, method, path, body string
	header                   [2]string
	theirs, ours             int // ours is 0: the same
}

func (q restRequest) send(t testing.TB, s *server) int {
	t.Helper()
	req, err := http.NewRequest(q.method, "http://"+s.addr+q.path, strings.NewReader(q.body))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(q.path, "/metrics") {
		req.Header.Set("Accept", "application/vnd.x.restic.rest.v2")
	}
	if q.header[0] != "" {
		req.Header.Set(q.header[0], q.header[1])
	}
	if q.user != "" {
		req.SetBasicAuth(q.user, q.user+"-password")
	}
	response, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// objectOf is the path of an object with the content.
func objectOf(prefix, kind, content string) string {
	return fmt.Sprintf("%s/%s/%x", prefix, kind, sha256.Sum256([]byte(content)))
}

// TestRestServerCommandLines: with the same command line ours answers as rest-server does, but for what is meant to differ.
func TestRestServerCommandLines(t *testing.T) {
	reference := restServer(t)
	users := passwordLine(t, "alice", "alice-password") + passwordLine(t, "bob", "bob-password") + passwordLine(t, "metrics", "metrics-password") + passwordLine(t, "Jürgen", "Jürgen-password")
	pack, large := objectOf("/alice", "data", "pack"), strings.Repeat("x", 80_000)
	for _, tt := range []struct {
		name     string
		users    string
		args     []string
		requests []restRequest
	}{
		{"users", users, nil, []restRequest{
			{method: "POST", path: "/?create=true", theirs: 401}, {user: "eve", method: "POST", path: "/?create=true", theirs: 401},
			{user: "alice", method: "POST", path: "/?create=true", theirs: 200}, {user: "alice", method: "POST", path: "/alice/?create=true", theirs: 200},
			{user: "bob", method: "POST", path: pack, body: "pack", theirs: 200}, {user: "alice", method: "GET", path: pack, theirs: 200}, {user: "alice", method: "DELETE", path: pack, theirs: 200},
			{user: "Jürgen", method: "POST", path: "/J%C3%BCrgen/?create=true", theirs: 200}, {user: "Jürgen", method: "GET", path: "/J%C3%BCrgen/keys/", theirs: 200},
			{user: "alice", method: "GET", path: "/metrics", theirs: 404}, {user: "alice", method: "GET", path: "/data/", theirs: 200}, {user: "alice", method: "GET", path: "/a/b/c/keys/", theirs: 404},
		}},
		{"append-only", users, []string{"--append-only"}, []restRequest{
			{user: "alice", method: "POST", path: "/alice/?create=true", theirs: 200}, {user: "alice", method: "POST", path: "/alice/config", body: "c", theirs: 200},
			{user: "alice", method: "POST", path: "/alice/config", body: "d", theirs: 403}, {user: "alice", method: "DELETE", path: "/alice/config", theirs: 403},
			{user: "alice", method: "POST", path: pack, body: "pack", theirs: 200}, {user: "alice", method: "DELETE", path: pack, theirs: 403},
			{user: "alice", method: "POST", path: pack, body: "pack", theirs: 403, ours: 200}, // a lost answer does not end a backup
			{user: "alice", method: "POST", path: objectOf("/alice", "locks", "l"), body: "l", theirs: 200}, {user: "alice", method: "DELETE", path: objectOf("/alice", "locks", "l"), theirs: 200},
			{user: "alice", method: "POST", path: objectOf("/alice", "data", "other"), body: "wrong", theirs: 400},
		}},
		{"private", users, []string{"--private-repos", "--prometheus"}, []restRequest{
			{user: "alice", method: "POST", path: "/alice/?create=true", theirs: 200}, {user: "alice", method: "POST", path: "/alice/laptop/?create=true", theirs: 200},
			// A foreign repository is no wrong password.
			{user: "alice", method: "POST", path: "/bob/?create=true", theirs: 401, ours: 403}, {user: "bob", method: "GET", path: "/alice/keys/", theirs: 401, ours: 403},
			{user: "bob", method: "GET", path: "/nobody/keys/", theirs: 401, ours: 403}, {user: "alice", method: "POST", path: "/Alice/?create=true", theirs: 401, ours: 403},
			{user: "alice", method: "POST", path: "/?create=true", theirs: 401, ours: 403}, {user: "alice", method: "GET", path: "/keys/", theirs: 401, ours: 403},
			{user: "metrics", method: "GET", path: "/metrics", theirs: 200}, {user: "alice", method: "GET", path: "/metrics", theirs: 401, ours: 403}, {method: "GET", path: "/metrics", theirs: 401},
		}},
		{"open", "", []string{"--no-auth", "--private-repos", "--htpasswd-file", "/nowhere", "--prometheus", "--group-accessible-repos", "--debug"}, []restRequest{
			{method: "POST", path: "/?create=true", theirs: 200}, {user: "anyone", method: "POST", path: "/alice/?create=true", theirs: 200}, {method: "POST", path: pack, body: "pack", theirs: 200},
			{method: "GET", path: "/keys/", theirs: 200}, {method: "GET", path: "/metrics", theirs: 401, ours: 200}, // nobody could read it
			{method: "POST", path: "/alice/keys/?create=true", theirs: 405},
		}},
		{"metrics for everyone", users, []string{"--prometheus", "--prometheus-no-auth", "--private-repos"}, []restRequest{
			{method: "GET", path: "/metrics", theirs: 200}, {method: "GET", path: "/alice/keys/", theirs: 401},
		}},
		{"metrics for users", users, []string{"--prometheus"}, []restRequest{{user: "alice", method: "GET", path: "/metrics", theirs: 200}, {method: "GET", path: "/metrics", theirs: 401}}},
		{"no metrics", users, []string{"--prometheus-no-auth"}, []restRequest{{user: "alice", method: "GET", path: "/metrics", theirs: 404}}},
		{"proxy", "", []string{"--proxy-auth-username", "X-User", "--private-repos"}, []restRequest{
			{method: "POST", path: "/alice/?create=true", header: [2]string{"X-User", "alice"}, theirs: 200}, {method: "GET", path: "/alice/keys/", header: [2]string{"x-user", "alice"}, theirs: 200},
			{method: "GET", path: "/alice/keys/", header: [2]string{"X-User", "bob"}, theirs: 401, ours: 403}, {method: "GET", path: "/alice/keys/", theirs: 401}, {user: "alice", method: "GET", path: "/alice/keys/", theirs: 401},
		}},
		{"size", users, []string{"--no-auth", "--max-size", "100000"}, []restRequest{
			{method: "POST", path: "/a/?create=true", theirs: 200}, {method: "POST", path: "/b/?create=true", theirs: 200},
			{method: "POST", path: objectOf("/a", "data", large), body: large, theirs: 200},
			{method: "POST", path: objectOf("/b", "data", large), body: large, theirs: 507}, // both count
			{method: "DELETE", path: objectOf("/a", "data", large), theirs: 200}, {method: "POST", path: objectOf("/b", "data", large), body: large, theirs: 200},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			theirs, ours := newRestServer(t, reference, tt.users, tt.args...), newRestServer(t, "", tt.users, tt.args...)
			theirs.start()
			ours.start()
			for _, q := range tt.requests {
				if got := q.send(t, theirs); got != q.theirs {
					t.Errorf("rest-server, %s %s as %q: got %d, want %d", q.method, q.path, q.user, got, q.theirs)
				}
				want := q.ours
				if want == 0 {
					want = q.theirs
				}
				if got := q.send(t, ours); got != want {
					t.Errorf("ours, %s %s as %q: got %d, want %d", q.method, q.path, q.user, got, want)
				}
			}
		})
	}
}

// TestRestServerStarts: what does not start rest-server does not start ours, with the same exit code.
func TestRestServerStarts(t *testing.T) {
	reference := restServer(t)
	for _, args := range [][]string{
		{}, {"--bogus"}, {"argument"}, {"--no-auth", "--tls-cert", "x"}, {"--no-auth", "--tls"}, {"--no-auth", "--tls", "--tls-min-ver", "1.1"}, {"--no-auth", "--listen", "nonsense"}, {"--no-auth", "--max-size", "5x"}, {"--no-auth", "--log", "/nonexistent/log"},
	} {
		for name, program := range map[string]string{"rest-server": reference, "ours": filepath.Join(programs, "rest-server")} {
			out, code := try(t, nil, program, append([]string{"--path", filepath.Join(t.TempDir(), "d"), "--listen", "127.0.0.1:0"}, args...)...)
			if code != 1 || out == "" {
				t.Errorf("%s %q: exit code %d, want 1\n%s", name, args, code, out)
			}
		}
	}
	for name, program := range map[string]string{"rest-server": reference, "ours": filepath.Join(programs, "rest-server")} {
		if out, code := try(t, nil, program, "--version"); code != 0 || !strings.HasPrefix(out, "rest-server version ") {
			t.Errorf("%s --version: got %d %s", name, code, out)
		}
	}
}

// TestRestServerRestic: restic with ours in place of rest-server, as a user of the password file: over TCP, TLS and a Unix socket, in one's own
// repositories and the one at the root.
func TestRestServerRestic(t *testing.T) {
	program := newestRestic(t)
	tree := t.TempDir()
	for i := range 30 {
		writeFile(t, filepath.Join(tree, fmt.Sprint(i)), strings.Repeat(fmt.Sprintf("line %d\n", i), 5000), 0o600)
	}
	env := []string{"RESTIC_PASSWORD=x", "RESTIC_CACHE_DIR=" + t.TempDir()}
	users := passwordLine(t, "alice", "alice-password") + passwordLine(t, "bob", "bob-password")
	backup := func(t *testing.T, url string, more ...string) {
		t.Helper()
		for _, command := range [][]string{{"init"}, {"backup", tree}, {"check", "--read-data"}, {"restore", "latest", "--target", t.TempDir(), "--verify"}} {
			run(t, env, program, append(append([]string{"-r", url}, more...), command...)...)
		}
	}
	refused := func(t *testing.T, url, want string, command ...string) {
		t.Helper()
		if out, code := try(t, env, program, append([]string{"-r", url, "--retry-lock", "0s"}, command...)...); code == 0 || !strings.Contains(out, want) {
			t.Errorf("%q: exit code %d, want an error with %q\n%s", command, code, want, out)
		}
	}
	t.Run("private, append-only", func(t *testing.T) {
		s := newRestServer(t, "", users, "--private-repos", "--append-only", "--log", "-")
		s.start()
		laptop, alice := "rest:http://alice:alice-password@"+s.addr+"/alice/laptop/", "rest:http://alice:alice-password@"+s.addr+"/alice"
		backup(t, laptop)
		backup(t, alice)
		refused(t, laptop, "403", "forget", "latest")
		run(t, env, program, "-r", laptop, "check")
		refused(t, "rest:http://bob:bob-password@"+s.addr+"/alice/laptop/", "403", "snapshots")
		refused(t, "rest:http://alice:wrong@"+s.addr+"/alice/laptop/", "401", "snapshots")
		refused(t, "rest:http://alice:alice-password@"+s.addr+"/", "403", "init")

		// Who is in the file counts from its change on, and after a crash there is what was acknowledged.
		writeFile(t, filepath.Join(s.data, ".htpasswd"), users+passwordLine(t, "carol", "carol-password"), 0o600)
		carol := restRequest{user: "carol", method: "POST", path: "/carol/?create=true"}
		for deadline := time.Now().Add(time.Minute); carol.send(t, s) != 200; time.Sleep(100 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("a new user cannot log in")
			}
		}
		s.kill()
		s.start()
		run(t, env, program, "-r", laptop, "check", "--read-data")
		if log := tail(s.logPath, 10000); !strings.Contains(log, `- alice [`) || !strings.Contains(log, `"GET /alice/laptop/snapshots/ HTTP/1.1" 200`) {
			t.Error("the access log has no request of alice's")
		}
		// A token beside the users, which may read and no more.
		words := strings.Fields(run(t, nil, packhouse(), "token", "create", "--repo", "alice/laptop", "--role", "read", "--name", "reader", "-d", s.data))
		reader := ""
		for _, word := range words {
			if strings.HasPrefix(word, "ph_") {
				reader = "rest:http://x:" + word + "@" + s.addr + "/alice/"
			}
		}
		run(t, env, program, "-r", reader+"laptop/", "check")
		refused(t, reader+"laptop/", "403", "backup", tree, "--tag", "other", "--force", "--host", "other")
		refused(t, reader, "403", "snapshots")
	})
	t.Run("everyone, at the root", func(t *testing.T) {
		s := newRestServer(t, "", "", "--no-auth")
		s.start()
		root := "rest:http://" + s.addr + "/"
		backup(t, root)
		backup(t, root+"alice/")
		run(t, env, program, "-r", root, "forget", "latest", "--prune")
		run(t, env, program, "-r", root, "check")
		if out := run(t, nil, packhouse(), "repo", "list", "-d", s.data); !strings.Contains(out, "data") || !strings.Contains(out, "alice") {
			t.Errorf("repo list: got %s", out)
		}
		_ = s.cmd.Process.Signal(syscall.SIGHUP) // which would end rest-server
		run(t, env, program, "-r", root, "check")
	})
	t.Run("TLS", func(t *testing.T) {
		certificate, key := selfSigned(t)
		s := newRestServer(t, "", users, "--tls", "--tls-cert", certificate, "--tls-key", key, "--tls-min-ver", "1.3")
		s.start()
		backup(t, "rest:https://alice:alice-password@"+s.addr+"/alice/", "--cacert", certificate)
	})
	t.Run("Unix socket", func(t *testing.T) {
		s := newRestServer(t, "", "", "--no-auth")
		socket := filepath.Join(s.dir, "s")
		s.args = append(s.args, "--listen", "unix:"+socket)
		s.launch()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			if conn, err := net.Dial("unix", socket); err == nil {
				conn.Close()
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("no socket")
			}
		}
		backup(t, "rest:http+unix://"+socket+":/alice/")
	})
	t.Run("full", func(t *testing.T) {
		s := newRestServer(t, "", "", "--no-auth", "--max-size", "3000000")
		s.start()
		url := "rest:http://" + s.addr + "/a/"
		run(t, env, program, "-r", url, "init")
		random := filepath.Join(t.TempDir(), "random")
		for i := range 2 {
			content := make([]byte, 2_000_000)
			for at := range content {
				content[at] = byte((at*2654435761 + i*7919) >> 7 * (at + i))
			}
			var seed [32]byte
			for at := 0; at < len(content); at += len(seed) { // nothing that could be compressed
				seed = sha256.Sum256(append(seed[:], byte(i)))
				copy(content[at:], seed[:])
			}
			writeFile(t, random, string(content), 0o600)
			if i == 0 {
				run(t, env, program, "-r", url, "backup", random)
				continue
			}
			refused(t, url, "507", "backup", random)
		}
		run(t, env, program, "-r", url, "check", "--read-data")
		run(t, env, program, "-r", url, "forget", "latest")
		run(t, env, program, "-r", url, "prune", "--max-repack-size", "0")
		run(t, env, program, "-r", url, "backup", random)
		run(t, env, program, "-r", url, "check", "--read-data")
	})
}

// TestRestServerRefusesItsDirectory: the data of the real rest-server are not taken for ours, nor changed.
func TestRestServerRefusesItsDirectory(t *testing.T) {
	s := newRestServer(t, restServer(t), "", "--no-auth")
	s.start()
	for _, path := range []string{"/?create=true", "/alice/?create=true", "/alice/laptop/?create=true"} {
		if got := (restRequest{method: "POST", path: path}).send(t, s); got != 200 {
			t.Fatalf("%s: got %d", path, got)
		}
	}
	s.stop()
	before := run(t, nil, "find", s.data)
	out, code := try(t, nil, filepath.Join(programs, "rest-server"), s.args...)
	if code != 1 || !strings.Contains(out, "(one at its top, alice, alice/laptop)") {
		t.Errorf("got %d %s", code, out)
	}
	if after := run(t, nil, "find", s.data); !bytes.Equal([]byte(before), []byte(after)) {
		t.Errorf("it was changed: %s", after)
	}
}
