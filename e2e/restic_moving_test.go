//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"testing"
)

// TestMovingRestic: what restic has stored in a directory of rest-server, or in one by itself, which has the same layout, becomes a repository without
// copying, and is worked on; and the reverse, after an export.
func TestMovingRestic(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.stop()
	top := filepath.Join(s.dir, "source")
	source := filepath.Join(top, "laptop")
	tr := resticTree(t, 71)
	local := newRestic(t, newestRestic(t), "").with("RESTIC_REPOSITORY="+source, "RESTIC_PACK_SIZE=4")
	first := local
	var theirs *server // nil: restic works on the directory by itself
	if os.Getenv("PACKHOUSE_REST_SERVER") != "" {
		theirs = serveRestic(t, top)
		first = local.with("RESTIC_REPOSITORY=rest:http://" + theirs.addr + "/laptop/")
	}
	first.run("init")
	pictures := make(map[string]picture)
	var ids []string
	for i := range 3 {
		if i > 0 {
			tr.change(i, 4)
		}
		ids = append(ids, first.backup(tr))
		pictures[ids[i]] = look(t, tr.dir)
	}
	first.run("forget", ids[0])
	delete(pictures, ids[0])
	if theirs != nil {
		theirs.kill()
	}
	before := unchanged(t, source)

	adopted(t, s, source, "laptop", onePack(t, source), filepath.Join(source, "config"))
	r := local.with("RESTIC_REPOSITORY=rest:" + s.url("laptop") + "/")
	r.sound(pictures)
	scrubbed(t, s, "laptop")
	tr.change(3, 4)
	now := r.backup(tr)
	pictures[now] = look(t, tr.dir)
	r.run("forget", ids[1], "--prune")
	delete(pictures, ids[1])
	r.sound(pictures)
	wantUnchanged(t, source, before)

	dir := filepath.Join(s.dir, "out")
	exported(t, s, "laptop", "restic", dir, blobKey(t, s, "laptop", "restic", "data"))
	roundTrip(t, dir, "restic")
	out := local.with("RESTIC_REPOSITORY=" + dir)
	out.sound(pictures)
	if os.Getenv("PACKHOUSE_REST_SERVER") != "" {
		theirs := serveRestic(t, dir)
		defer theirs.kill()
		out = local.with("RESTIC_REPOSITORY=rest:http://" + theirs.addr + "/")
	}
	tr.change(4, 4)
	pictures[out.backup(tr)] = look(t, tr.dir)
	out.run("forget", now, "--prune")
	delete(pictures, now)
	out.sound(pictures)
}

// serveRestic starts restic's own server with a directory.
func serveRestic(t *testing.T, dir string) *server {
	t.Helper()
	s := newServer(t)
	s.program, s.args = restServer(t), []string{"--no-auth", "--path", dir, "--listen", s.addr}
	s.start()
	return s
}

// onePack is a pack of a directory in restic's layout.
func onePack(t *testing.T, dir string) string {
	t.Helper()
	packs, err := filepath.Glob(filepath.Join(dir, "data", "*", "*"))
	if err != nil || len(packs) == 0 {
		t.Fatalf("packs: %q, %v", packs, err)
	}
	return packs[0]
}
