//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// rusticProgram is the path of rustic, or the test ends: nothing here builds it, as that takes an hour of a processor.
func rusticProgram(t testing.TB) string {
	t.Helper()
	program := os.Getenv("PACKHOUSE_RUSTIC")
	switch {
	case program == "":
		leave(t, "PACKHOUSE_RUSTIC is the path of the program rustic, which is not there; cargo install rustic-rs --locked builds it")
	case !exists(program):
		t.Fatalf("PACKHOUSE_RUSTIC: there is no %s", program)
	}
	return program
}

// rustic is one rustic client.
type rustic struct {
	t       testing.TB
	program string
	env     []string
}

func newRustic(t testing.TB, program, url string) *rustic {
	t.Helper()
	home := t.TempDir()
	return &rustic{t, program, []string{
		"RUSTIC_REPOSITORY=rest:" + url + "/", "RUSTIC_PASSWORD=" + resticPassword, "RUSTIC_CACHE_DIR=" + filepath.Join(home, "cache"), "RUSTIC_NO_PROGRESS=true", "RUSTIC_LOG_LEVEL=warn",
		"HOME=" + home, "XDG_CONFIG_HOME=" + home, "LC_ALL=C.UTF-8",
	}}
}

func (r *rustic) run(args ...string) string {
	r.t.Helper()
	return run(r.t, r.env, r.program, args...)
}

// backup stores a tree, and returns the ID of the snapshot.
func (r *rustic) backup(tr *tree, args ...string) string {
	r.t.Helper()
	out := run(r.t, r.env, "sh", append([]string{"-c", `cd "$0" && exec "$@"`, filepath.Dir(tr.dir), r.program, "backup", "--json", "tree"}, args...)...)
	var snapshot struct{ ID string }
	// What it warns of is before and behind that.
	if err := json.NewDecoder(strings.NewReader(out[max(strings.Index(out, "{\n"), 0):])).Decode(&snapshot); err != nil || snapshot.ID == "" {
		r.t.Fatalf("backup: %v\n%s", err, out)
	}
	return snapshot.ID
}

// restored demands that a snapshot has a tree's files, byte by byte.
func (r *rustic) restored(id string, want picture) {
	r.t.Helper()
	dir := r.t.TempDir()
	r.run("restore", id, dir)
	look(r.t, filepath.Join(dir, "tree")).same(r.t, want)
}

// TestRustic: rustic, which has no locks, uploads without a length and names its protocol in listings only, works on a repository of its own, and then beside
// restic. A key of another password is added, with which restic opens it.
func TestRustic(t *testing.T) {
	t.Parallel()
	program := rusticProgram(t)
	s := startServer(t)
	r := newRustic(t, program, s.url("alice/laptop"))
	r.run("init")
	tr := newTree(t, 91, 200, 24<<20)
	pictures := make(map[string]picture)
	var ids []string
	for i := range 3 {
		if i > 0 {
			tr.change(i, 4)
		}
		ids = append(ids, r.backup(tr))
		pictures[ids[i]] = look(t, tr.dir)
	}
	sound := func() {
		t.Helper()
		r.run("check", "--read-data")
		for id, want := range pictures {
			r.restored(id, want)
		}
	}
	if out := r.run("snapshots"); !strings.Contains(out, ids[0][:shortID]) || !strings.Contains(out, ids[2][:shortID]) {
		t.Errorf("snapshots:\n%s", out)
	}
	sound()
	r.run("forget", ids[0])
	delete(pictures, ids[0])
	r.run("prune", "--max-unused", "0B", "--instant-delete", "--keep-delete", "0s")
	sound()

	other := newRestic(t, newestRestic(t), s.url("alice/laptop"))
	other.run("check", "--read-data")
	tr.change(7, 4)
	id := other.backup(tr)
	now := look(t, tr.dir)
	other.restored(id, now)
	r.restored(id, now)
	other.run("forget", ids[1], "--prune")
	delete(pictures, ids[1])
	sound()
	other.run("check", "--read-data")
}
