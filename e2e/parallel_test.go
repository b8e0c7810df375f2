//go:build e2e

package e2e

import (
	"path/filepath"
	"sync"
	"testing"
)

// clients is how many work on one repository at once.
const clients = 8

// TestBorgInParallel has eight borg clients on one repository at once; each backs up its own tree, which a
// ninth to sixteenth then restores while the others still work.
func TestBorgInParallel(t *testing.T) {
	t.Run("http", func(t *testing.T) {
		s := startServer(t)
		together(t, func(*testing.T) *borg { return newBorg(t, s.url("shared")) })
		s.onlyStatuses(200, 206, 404)
	})
	t.Run("ssh", func(t *testing.T) {
		home := t.TempDir()
		together(t, func(*testing.T) *borg { return overShell(t, home, "") })
	})
	t.Run("ssh beside a server", func(t *testing.T) {
		// The processes that ssh starts reach the repository through the running server.
		s := startServer(t)
		n := 0
		together(t, func(*testing.T) *borg {
			if n++; n%2 == 0 {
				return newBorg(t, s.url("shared"))
			}
			b := newBorg(t, "", "BORG_RSH="+remoteShell(t, s.data, ""), "BORG_REMOTE_PATH=packhouse")
			b.env = append(b.env, "BORG_REPO="+b.remote("shared"))
			return b
		})
		s.onlyStatuses(200, 206, 404)
	})
}

// together runs the clients that client makes, all on one repository, and then checks the repository.
//
// Who restores has its own configuration, as on another machine: borg picks the time of a new config/manifest
// before it stores it (borg/manifest.py, Manifest.write), without a lock against the others, so that of two who
// store it at once the one with the older time may come last. Whoever wrote the newer one then takes the
// repository for a replayed one (borg/security.py, assert_no_manifest_replay). No server can put that in order.
func together(t *testing.T, client func(*testing.T) *borg) {
	t.Helper()
	first := client(t)
	first.run("repo-create", "--encryption", "aes256-ocb")
	borgs := make([]*borg, clients)
	readers := make([]*borg, clients)
	trees := make([]*tree, clients)
	pictures := make([]picture, clients)
	for i := range borgs {
		borgs[i] = client(t)
		trees[i] = newTree(t, uint64(100+i), 60, 6<<20)
		pictures[i] = look(t, trees[i].dir)
	}
	for i := range readers {
		readers[i] = client(t)
	}
	var group sync.WaitGroup
	for i, b := range borgs {
		name := "client" + string(rune('0'+i))
		group.Go(func() {
			if out, code := try(t, append(b.env, "BORG="+b.program), "sh", "-c",
				"cd '"+filepath.Dir(trees[i].dir)+"' && \"$BORG\" create "+name+" tree"); code != 0 {
				t.Errorf("%s: create: exit code %d\n%s", name, code, lastLines(out, 30))
				return
			}
			dir := t.TempDir()
			if out, code := try(t, append(readers[i].env, "BORG="+b.program), "sh", "-c",
				"cd '"+dir+"' && \"$BORG\" extract "+name); code != 0 {
				t.Errorf("%s: extract: exit code %d\n%s", name, code, lastLines(out, 30))
				return
			}
			look(t, filepath.Join(dir, "tree")).same(t, pictures[i])
		})
	}
	group.Wait()
	if archives := first.archives(); len(archives) != clients {
		t.Errorf("got %d archives, want %d", len(archives), clients)
	}
	first.run("check", "--verify-data")
}
