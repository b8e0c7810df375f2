//go:build e2e

package e2e

import (
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRestic is the life of a repository with the newest restic, over HTTP and TLS, and with Debian's: from init to prune, on a tree that
// changes. The repository is below the name of a user.
func TestRestic(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		program func(testing.TB) string
		tls     bool
	}{{"newest", newestRestic, false}, {"newest/tls", newestRestic, true}, {"debian", oldRestic, false}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var s *server
			var flags []string
			var trusted *tls.Config
			if c.tls {
				certificate, key := selfSigned(t)
				s = startServer(t, "--tls-cert", certificate, "--tls-key", key)
				s.scheme, flags, trusted = "https", []string{"--cacert", certificate}, trusting(t, certificate)
			} else {
				s = startServer(t)
			}
			if !c.tls {
				resticInit(t, newRestic(t, c.program(t), s.url("alice/fresh")))
			}
			raw := newResticHTTP(s, "alice/laptop")
			raw.http.Transport = &http.Transport{TLSClientConfig: trusted}
			raw.initialize(t)
			r := newRestic(t, c.program(t), s.url("alice/laptop"))
			r.flags = flags
			resticLife(t, r)
			s.onlyStatuses(200, 206, 404)
			for _, e := range s.requests() {
				if e.Status == 404 && e.Key != "config" {
					t.Errorf("got 404 of something else than the config of a repository that is not there yet: %s", e.raw)
				}
			}
			run(t, nil, packhouse(), "check", "--verify", "-d", s.data)
		})
	}
}

// resticInit makes a repository and a first backup.
func resticInit(t *testing.T, r *restic) {
	t.Helper()
	r.run("init")
	if out, code := r.try("init"); code == 0 {
		t.Errorf("a second init: exit code 0\n%s", out)
	}
	tr := newTree(t, 70, 5, 10_000)
	r.restored(r.backup(tr), look(t, tr.dir))
}

// resticLife is what is done with a repository that exists.
func resticLife(t *testing.T, r *restic) {
	t.Helper()
	tr := resticTree(t, 71)
	want := make(map[string]picture)
	var ids []string
	for i := range 3 {
		if i > 0 {
			tr.change(i, 4)
		}
		ids = append(ids, r.backup(tr))
		want[ids[i]] = look(t, tr.dir)
	}
	if got := r.snapshots(); !slices.Equal(got, ids) {
		t.Fatalf("snapshots %v, want %v", got, ids)
	}
	name := tr.files[0]
	body, err := os.ReadFile(filepath.Join(tr.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, contains string }{
		{"ls latest", "/tree/" + name},
		{"find " + filepath.Base(name), "/tree/" + name},
		{"diff " + ids[1] + " " + ids[2], "/tree/"},
		{"dump latest /tree/" + name, string(body)},
		{"stats latest", "Total File Count:"},
		{"list packs", ""},
		{"cat snapshot " + ids[0], `"/`},
	} {
		if out := r.run(strings.Fields(c.args)...); !strings.Contains(out, c.contains) {
			t.Errorf("%s has not %.80q:\n%.2000s", c.args, c.contains, out)
		}
	}
	r.sound(want)

	r.run("tag", "--add", "kept", ids[1])
	tagged := r.snapshots("--tag", "kept")
	if len(tagged) != 1 {
		t.Fatalf("tagged: %v", tagged)
	}
	r.restored(tagged[0], want[ids[1]])
	r.run("forget", ids[0])
	if out := r.run("prune", "--max-unused", "0"); !strings.Contains(out, "done") {
		t.Errorf("prune:\n%s", out)
	}
	r.run("forget", "--keep-last", "1", "--prune", "--max-unused", "0")
	if left := r.snapshots(); !slices.Equal(left, ids[2:]) {
		t.Errorf("forget leaves %v, want the last of %v", left, ids)
	}
	r.sound(map[string]picture{ids[2]: want[ids[2]]})
	tr.change(3, 4)
	id := r.backup(tr)
	r.restored(id, look(t, tr.dir))
}

// TestResticSocket: restic finds the server by a Unix socket, with a name and a password from its environment.
func TestResticSocket(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(shortDir(t), "http.sock")
	s := startServer(t)
	s.stop()
	s.args = append(s.args, "--listen", "unix:"+socket)
	s.start()
	s.initialized("alice/laptop")
	r := newRestic(t, newestRestic(t), "http+unix://"+socket+":/alice/laptop", "RESTIC_REST_USERNAME=alice", "RESTIC_REST_PASSWORD="+token)
	tr := newTree(t, 69, 10, 1<<20)
	r.sound(map[string]picture{r.backup(tr): look(t, tr.dir)})
}
