//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// guarded is borg with a repository of some archives on a server with rules of the guard.
func guarded(t *testing.T, archives int, args ...string) (s *server, b *borg, tr *tree, want map[string]picture) {
	s = startServer(t, args...)
	s.harmed = true
	b = newBorg(t, s.url("laptop"), "BORG_PACK_MAX_SIZE=1000000")
	tr = newTree(t, 61, 40, 4<<20)
	b.run("repo-create", "--encryption", "aes256-ocb")
	want = make(map[string]picture)
	for i := range archives {
		if i > 0 {
			tr.change(i, 4)
		}
		b.in(filepath.Dir(tr.dir), `"$BORG" create laptop tree`)
		ids := b.archives()
		want[ids[len(ids)-1]] = look(t, tr.dir)
	}
	return s, b, tr, want
}

// sound wants the archives to be there, byte by byte.
func (b *borg) sound(t *testing.T, want map[string]picture) {
	t.Helper()
	if out, code := b.try("check", "--verify-data"); code != 0 {
		t.Errorf("check: exit code %d\n%s", code, lastLines(out, 20))
	}
	for id, files := range want {
		dir := b.extract(id)
		look(t, filepath.Join(dir, "tree")).same(t, files)
		_ = os.RemoveAll(dir)
	}
}

// TestBorgGuard: with sensible rules everything works that an honest client does with its archives. Then an attacker with its credentials has the
// real ones pruned and compacted away, and replaces what it may, and one rollback brings them back, although no grace time is set.
func TestBorgGuard(t *testing.T) {
	t.Parallel()
	s, b, tr, _ := guarded(t, 4, "--min-age", "7d", "--keep-last", "3", "--max-removed", "30")
	ids := b.archives()
	b.run("tag", "aid:"+ids[0], "--add", "weekly")
	b.run("rename", "aid:"+ids[1], "another")
	b.run("recreate", "--comment", "a comment", "-a", "aid:"+ids[2])
	b.run("delete", "aid:"+b.archives()[0])
	b.run("undelete", "-a", "laptop")
	b.run("prune", "--keep", "3")
	b.run("compact")
	b.in(filepath.Dir(tr.dir), `"$BORG" create laptop tree`)
	b.run("check", "--verify-data")
	if show := run(t, nil, packhouse(), "guard", "show", "laptop", "-d", s.data); !strings.Contains(show, "max_removed  30 snapshots within a day; ") || strings.Contains(show, "; 0 were") || strings.Contains(show, "refused") {
		t.Errorf("guard show:\n%s", show)
	}

	want := make(map[string]picture)
	for _, id := range b.archives() {
		dir := b.extract(id)
		want[id] = look(t, filepath.Join(dir, "tree"))
		_ = os.RemoveAll(dir)
	}
	to := moment()
	mallory := newBorg(t, s.url("laptop"), "BORG_PACK_MAX_SIZE=1000000")
	empty := t.TempDir()
	for range 3 {
		mallory.in(empty, `"$BORG" create laptop .`)
	}
	mallory.run("prune", "--keep", "3")
	mallory.run("compact")
	raw := newStoreClient(s, "laptop", 1)
	overwritten(t, raw, "config/manifest", "index/", "cache/", "keys/")
	done := s.rollBack(to)
	t.Logf("%s", done)
	newBorg(t, s.url("laptop")).sound(t, want)
	b.in(filepath.Dir(tr.dir), `"$BORG" create laptop tree`)
	b.run("check", "--verify-data")
}

// TestBorgGuardRefuses: a client is refused the removal of young archives, and of more than a share of them a day, and nothing is lost by that. An
// administrator lifts it for a time.
func TestBorgGuardRefuses(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{"min_age": {"--min-age", "1d", "--guard", "refuse"}, "max_removed": {"--max-removed", "30%"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, b, tr, want := guarded(t, 4, args...)
			ids := b.archives()
			out, code := b.try("prune", "--keep", "1")
			if code == 0 || !strings.Contains(out, "PermissionDenied") {
				t.Errorf("prune: exit code %d\n%s", code, lastLines(out, 20))
			}
			b.run("break-lock")
			left := b.archives()
			if may := map[string]int{"min_age": 4, "max_removed": 3}[name]; len(left) != may {
				t.Errorf("%d archives are left of 4, want %d", len(left), may)
			}
			for _, id := range ids {
				if !slices.Contains(left, id) {
					delete(want, id)
				}
			}
			b.run("compact")
			b.sound(t, want)
			if out, code := b.try("repo-delete"); code == 0 {
				t.Errorf("repo-delete: exit code 0\n%s", lastLines(out, 20))
			}
			text, err := os.ReadFile(s.logPath)
			if err != nil || !strings.Contains(string(text), `"outcome":"refused"`) || !strings.Contains(string(text), "refused by "+name) {
				t.Errorf("audit log: %v\n%s", err, text)
			}
			health, err := s.health(http.DefaultClient)
			if err != nil || health["status"] != "degraded" || !strings.Contains(fmt.Sprint(health["reason"]), "guard") {
				t.Errorf("health: %v, %v", health, err)
			}
			run(t, nil, packhouse(), "guard", "lift", "laptop", "--for", "1h", "-d", s.data)
			b.run("prune", "--keep", "1")
			b.run("compact")
			if left := b.archives(); len(left) != 1 || left[0] != ids[3] {
				t.Errorf("after the guard was lifted: archives %v, want the last of %v", left, ids)
			}
			run(t, nil, packhouse(), "guard", "lift", "laptop", "--end", "-d", s.data)
			b.in(filepath.Dir(tr.dir), `"$BORG" create laptop tree`)
			b.run("check", "--verify-data")
		})
	}
}

// TestVykarGuard: the real vykar is told why the removal of a snapshot is refused, and goes on.
func TestVykarGuard(t *testing.T) {
	t.Parallel()
	program := vykarProgram(t)
	s := startServer(t, "--min-age", "1d", "--guard", "refuse")
	tr := newTree(t, 62, 40, 4<<20)
	v := newVykar(t, program, "http://"+s.addr+"/laptop", tr.dir)
	v.run("init")
	v.run("backup")
	tr.change(1, 4)
	v.run("backup")
	_, rows, _ := strings.Cut(v.run("list"), " ID ")
	id := regexp.MustCompile(`[0-9a-f]{8}`).FindString(rows)
	if out, code := v.try("snapshot", "delete", id); code == 0 || !strings.Contains(out, "HTTP 403") {
		t.Errorf("snapshot delete: exit code %d\n%s", code, out)
	}
	if out, code := v.try("delete", "--yes-delete-this-repo"); code == 0 {
		t.Errorf("delete: exit code 0\n%s", out)
	}
	v.run("check", "--verify-data")
	if got := v.run("list"); !strings.Contains(got, id) {
		t.Errorf("list after refusals:\n%s", got)
	}
	run(t, nil, packhouse(), "guard", "lift", "laptop", "--for", "1h", "-d", s.data)
	v.run("snapshot", "delete", id)
	v.run("compact")
	v.run("backup")
	v.run("check", "--verify-data")
}
