//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// moment is a time between what was done before and what is done after, as an administrator would write it.
func moment() string {
	time.Sleep(50 * time.Millisecond)
	at := time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
	time.Sleep(50 * time.Millisecond)
	return at
}

// rollBack goes back to a moment, and returns what the command printed.
func (s *server) rollBack(to string, args ...string) string {
	s.t.Helper()
	args = append([]string{"repo", "rollback", "laptop", "--to", to, "--yes", "-d", s.data}, args...)
	return run(s.t, nil, packhouse(), args...)
}

// overwritten puts noise in the place of all that a directory, or an item, has.
func overwritten(t *testing.T, c *storeClient, names ...string) (n int) {
	t.Helper()
	spoil := func(name string, size int64) {
		if err := c.store(name, bytes.Repeat([]byte("x"), int(min(size, 1000))+1)); err != nil {
			t.Errorf("overwrite %s: %v", name, err)
		}
		n++
	}
	for _, name := range names {
		if strings.HasSuffix(name, "/") {
			if err := c.walk(strings.TrimSuffix(name, "/"), spoil); err != nil {
				t.Error(err)
			}
			continue
		}
		spoil(name, 100)
	}
	return n
}

// TestBorgRollback: an attacker with the credentials of a client makes fake archives, lets the real ones be pruned and compacted away,
// overwrites all mutable keys and deletes packs. One rollback brings everything back, byte by byte, for the client that was there before
// and for one with empty caches; both go on working.
func TestBorgRollback(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--grace", "7d")
	s.harmed = true
	size := "BORG_PACK_MAX_SIZE=1000000"
	b := newBorg(t, s.url("laptop"), size)
	tr := newTree(t, 51, 120, 12<<20)
	b.run("repo-create", "--encryption", "aes256-ocb")
	var want []picture
	for i := range 3 {
		if i > 0 {
			tr.change(i, 4)
		}
		want = append(want, look(t, tr.dir))
		b.in(filepath.Dir(tr.dir), `"$BORG" create laptop tree`)
	}
	ids := b.archives()
	to := moment()

	mallory := newBorg(t, s.url("laptop"), size)
	empty := t.TempDir()
	for range 3 {
		mallory.in(empty, `"$BORG" create laptop .`)
	}
	mallory.run("prune", "--keep", "3")
	mallory.run("compact")
	if left := mallory.archives(); len(left) != 3 || left[0] == ids[0] {
		t.Fatalf("the attack left the archives %v of %v", left, ids)
	}
	raw := newStoreClient(s, "laptop", 1)
	overwritten(t, raw, "config/manifest", "index/", "cache/", "archives/", "keys/")
	var packs []string
	if err := raw.walk("packs", func(name string, _ int64) { packs = append(packs, name) }); err != nil {
		t.Fatal(err)
	}
	for _, name := range packs {
		if err := raw.delete(name); err != nil {
			t.Error(err)
		}
	}
	if out, code := b.try("repo-list"); code == 0 {
		t.Fatalf("the client does not notice the attack:\n%s", out)
	}
	dry := run(t, nil, packhouse(), "repo", "rollback", "laptop", "--to", to, "--dry-run", "-d", s.data)
	done := s.rollBack(to)
	t.Logf("%s", done)
	if !strings.HasPrefix(done, strings.TrimSpace(dry)) || !strings.Contains(done, "Done.") || strings.Contains(done, "cannot be") {
		t.Errorf("dry run:\n%s\nrollback:\n%s", dry, done)
	}
	for name, client := range map[string]*borg{"the client": b, "a client with empty caches": newBorg(t, s.url("laptop"), size)} {
		if out, code := client.try("check", "--verify-data"); code != 0 {
			t.Errorf("%s: check: exit code %d\n%s", name, code, lastLines(out, 20))
		}
		if got := client.archives(); fmt.Sprint(got) != fmt.Sprint(ids) {
			t.Errorf("%s: archives %v, want %v", name, got, ids)
		}
		for i, id := range ids {
			dir := client.extract(id)
			look(t, filepath.Join(dir, "tree")).same(t, want[i])
			_ = os.RemoveAll(dir)
		}
	}
	tr.change(3, 4)
	b.in(filepath.Dir(tr.dir), `"$BORG" create laptop tree`)
	b.run("prune", "--keep", "2")
	b.run("compact")
	b.run("check", "--verify-data")

	ids = b.archives()
	mallory.run("repo-delete")
	if out, code := b.try("repo-list"); code == 0 {
		t.Fatalf("the repository is there after repo-delete:\n%s", out)
	}
	if out := run(t, nil, packhouse(), "repo", "list", "--removed", "-d", s.data); !strings.Contains(out, "\tlaptop\tborgstore\t") {
		t.Errorf("repo list --removed:\n%s", out)
	}
	run(t, nil, packhouse(), "repo", "restore", "laptop", "-d", s.data)
	if out := run(t, nil, packhouse(), "lock", "list", "laptop", "-d", s.data); out != "" {
		t.Errorf("it came back with locks:\n%s", out)
	}
	if got := b.archives(); fmt.Sprint(got) != fmt.Sprint(ids) {
		t.Errorf("after the restore: archives %v, want %v", got, ids)
	}
	b.in(filepath.Dir(tr.dir), `"$BORG" create laptop tree`)
	b.run("check", "--verify-data")
	run(t, nil, packhouse(), "check", "--verify", "-d", s.data)
}

// TestVykarRollback is TestBorgRollback with the real vykar.
func TestVykarRollback(t *testing.T) {
	t.Parallel()
	program := vykarProgram(t)
	s := startServer(t, "--grace", "7d")
	s.harmed = true
	tr := newTree(t, 52, 60, 12<<20)
	v := newVykar(t, program, "http://"+s.addr+"/laptop", tr.dir)
	v.run("init")
	v.run("backup")
	tr.change(1, 4)
	v.run("backup")
	want := look(t, tr.dir)
	list := func() string {
		_, rows, _ := strings.Cut(v.run("list"), " ID ") // what is before it has the time
		return rows
	}
	snapshots := list()
	to := moment()

	v.run("snapshot", "delete", regexp.MustCompile(`[0-9a-f]{8}`).FindString(snapshots))
	v.run("compact")
	raw := newStoreClient(s, "laptop", 1)
	c := &crashVger{base: "http://" + s.addr, http: raw.http}
	for _, key := range []string{"index", "index.gen", "manifest", "config"} {
		if _, err := c.do("PUT", "laptop/"+key, []byte("spoiled"), nil); err != nil {
			t.Logf("overwrite %s: %v", key, err)
		}
	}
	if _, code := v.try("check"); code == 0 {
		t.Fatal("the client does not notice the attack")
	}
	t.Logf("%s", s.rollBack(to))
	v.run("check", "--verify-data")
	if got := list(); got != snapshots {
		t.Errorf("snapshots\n%s\nwant\n%s", got, snapshots)
	}
	to = moment()
	v.run("delete", "--yes-delete-this-repo")
	t.Logf("%s", s.rollBack(to))
	if got := list(); got != snapshots {
		t.Errorf("after the deletion of all: snapshots\n%s\nwant\n%s", got, snapshots)
	}
	other := newVykar(t, program, "http://"+s.addr+"/laptop", tr.dir)
	other.run("check", "--verify-data")
	dir := t.TempDir()
	other.run("restore", "latest", dir)
	look(t, dir).same(t, want)
	v.run("backup")
	v.run("check", "--verify-data")
	run(t, nil, packhouse(), "check", "--verify", "-d", s.data)
}
