//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// resticTrees is a client with some snapshots of a small tree that changes, and what is in each.
func resticTrees(t testing.TB, r *restic, seed uint64, snapshots int) (tr *tree, ids []string, want map[string]picture) {
	t.Helper()
	tr = newTree(t, seed, 40, 6<<20)
	want = make(map[string]picture)
	for i := range snapshots {
		if i > 0 {
			tr.change(i, 4)
		}
		id := r.backup(tr)
		ids = append(ids, id)
		want[id] = look(t, tr.dir)
	}
	return tr, ids, want
}

// TestResticCopy copies the snapshots of one repository to another on the same server.
func TestResticCopy(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	from := resticOn(t, s, "alice/laptop")
	_, ids, want := resticTrees(t, from, 72, 2)
	to := resticOn(t, s, "copies", "RESTIC_FROM_REPOSITORY=rest:"+s.url("alice/laptop")+"/", "RESTIC_FROM_PASSWORD="+resticPassword)
	to.run("copy")
	to.run("copy") // has nothing to do
	copied := to.snapshots()
	if len(copied) != len(ids) {
		t.Fatalf("the copy has the snapshots %v, want as many as %v", copied, ids)
	}
	for i, id := range copied {
		to.restored(id, want[ids[i]])
	}
	to.run("check", "--read-data")
	if source, copies := s.info("alice/laptop").Usage, s.info("copies").Usage; copies.LastBackup.Before(source.LastBackup) {
		t.Errorf("the copies do not count as backups: %+v, after %+v", copies, source)
	}
	s.onlyStatuses(200, 206)
}

// TestResticKeys adds, changes and removes passwords.
func TestResticKeys(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := resticOn(t, s, "laptop")
	_, ids, want := resticTrees(t, r, 73, 1)
	second := filepath.Join(t.TempDir(), "second")
	third := filepath.Join(t.TempDir(), "third")
	writeFile(t, second, "second\n", 0o600)
	writeFile(t, third, "third\n", 0o600)
	r.run("key", "add", "--new-password-file", second)
	other := newRestic(t, r.program, s.url("laptop"), "RESTIC_PASSWORD=second")
	other.restored(ids[0], want[ids[0]])
	other.run("key", "passwd", "--new-password-file", third)
	if out, code := other.try("snapshots"); code != 12 {
		t.Errorf("with a password that was changed: exit code %d, want 12\n%s", code, out)
	}
	other = newRestic(t, r.program, s.url("laptop"), "RESTIC_PASSWORD=third")
	var first string
	for line := range strings.Lines(other.run("key", "list")) {
		if fields := strings.Fields(line); len(fields) > 3 && !strings.HasPrefix(line, "*") && len(fields[0]) == shortID {
			first = fields[0]
		}
	}
	other.run("key", "remove", first)
	if out, code := r.try("snapshots"); code != 12 {
		t.Errorf("with a password that was removed: exit code %d, want 12\n%s", code, out)
	}
	other.run("check")
}

// TestResticUnlock: the lock of a client that was killed keeps others out, is shown by the server, and restic removes it.
func TestResticUnlock(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := resticOn(t, s, "laptop")
	cmd := exec.Command(r.program, "backup", "--stdin")
	cmd.Env = append(os.Environ(), r.env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	raw := newResticHTTP(s, "laptop")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if locks, err := raw.list("locks"); err != nil || len(locks) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the backup takes no lock")
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if out, code := r.try("check"); code != 11 {
		t.Errorf("check beside a lock: exit code %d, want 11\n%s", code, out)
	}
	list := run(t, nil, packhouse(), "lock", "list", "laptop", "-d", s.data)
	if !strings.Contains(list, "locks/") || !strings.Contains(list, "its holder is encrypted") || !strings.Contains(list, "token") {
		t.Errorf("lock list:\n%s", list)
	}
	r.run("unlock")
	r.run("check")
	if list := run(t, nil, packhouse(), "lock", "list", "laptop", "-d", s.data); list != "" {
		t.Errorf("lock list after unlock:\n%s", list)
	}
	s.onlyStatuses(200, 206)
}

// TestResticLockBreak: an administrator ends the lock of a client that nobody can.
func TestResticLockBreak(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := resticOn(t, s, "laptop")
	raw := newResticHTTP(s, "laptop")
	lock := bytes.Repeat([]byte("x"), 150)
	name := sha256Name(lock)
	if _, err := raw.do("POST", "/locks/"+name, lock); err != nil {
		t.Fatal(err)
	}
	run(t, nil, packhouse(), "lock", "break", "laptop", "locks/"+name, "-d", s.data)
	r.run("check")
}

// TestResticRepairIndex: an index that was deleted is made anew from the packs.
func TestResticRepairIndex(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := resticOn(t, s, "laptop")
	_, _, want := resticTrees(t, r, 74, 2)
	raw := newResticHTTP(s, "laptop")
	indexes, err := raw.list("index")
	if err != nil || len(indexes) != 2 {
		t.Fatalf("indexes: %v, %v", indexes, err)
	}
	for name := range indexes {
		if _, err := raw.do("DELETE", "/index/"+name, nil); err != nil {
			t.Fatal(err)
		}
		break
	}
	if out, code := r.try("check"); code == 0 {
		t.Errorf("check without an index: exit code 0\n%s", out)
	}
	r.run("repair", "index")
	r.sound(want)
	r.run("repair", "index", "--read-all-packs")
	r.sound(want)
}

// TestResticRewrite: what is done to snapshots counts as no backup, a backup does.
func TestResticRewrite(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := resticOn(t, s, "laptop")
	tr, ids, want := resticTrees(t, r, 75, 3)
	last := s.info("laptop").Usage.LastBackup
	gone := filepath.Dir(filepath.Dir(tr.files[0])) // a directory of the tree
	for _, args := range [][]string{
		{"tag", "--add", "one", ids[0]},
		{"tag", "--add", "all"},
		{"rewrite", "--forget", "--exclude", "/tree/" + gone},
		{"rewrite", "--forget", "--new-host", "another", "latest"},
		{"forget", "--keep-last", "2", "--group-by", ""},
		{"prune"},
		{"repair", "snapshots", "--forget"},
		{"check"},
	} {
		r.run(args...)
		if got := s.info("laptop").Usage.LastBackup; !got.Equal(last) {
			t.Errorf("after %v the last backup is of %v, want %v", args, got, last)
		}
	}
	left := r.snapshots()
	if len(left) != 2 {
		t.Fatalf("snapshots %v, want two", left)
	}
	for i, id := range left {
		files := picture{digests: make(map[string][32]byte)}
		for name, digest := range want[ids[i+1]].digests {
			if !strings.HasPrefix(name, gone+"/") {
				files.digests[name] = digest
			}
		}
		dir := t.TempDir()
		r.run("restore", id, "--target", dir)
		got := look(t, filepath.Join(dir, "tree"))
		got.size = 0
		got.same(t, files)
	}
	r.backup(tr)
	if got := s.info("laptop").Usage.LastBackup; !got.After(last) {
		t.Errorf("after a backup the last one is of %v, as before", got)
	}
	r.run("check", "--read-data")
}

// TestResticNoCache: a client without a cache reads the parts of packs that it needs, each by its range.
func TestResticNoCache(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := resticOn(t, s, "laptop")
	r.flags = []string{"--no-cache"}
	tr, ids, want := resticTrees(t, r, 76, 2)
	name := tr.files[1]
	for _, args := range []string{"ls latest", "find f1", "diff " + ids[0] + " " + ids[1], "stats"} {
		r.run(strings.Fields(args)...)
	}
	body, err := os.ReadFile(filepath.Join(tr.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if out := r.run("dump", "latest", "/tree/"+name); !strings.Contains(out, string(body)) {
		t.Errorf("dump of %s: %d bytes, want its %d", name, len(out), len(body))
	}
	r.sound(want)
	r.run("forget", "--keep-last", "1", "--prune", "--max-unused", "0")
	r.sound(map[string]picture{ids[1]: want[ids[1]]})
	if !exists(filepath.Join(envOf(r.env, "RESTIC_CACHE_DIR"))) {
		r.flags = nil
		r.run("ls", "latest") // fills a cache
		r.sound(map[string]picture{ids[1]: want[ids[1]]})
	} else {
		t.Error("there is a cache")
	}
	s.onlyStatuses(200, 206)
}

// envOf is the last value of a variable.
func envOf(env []string, name string) string {
	for _, entry := range slices.Backward(env) {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}

// TestResticTogether: clients back up to one repository at once, of both versions, while another one forgets and prunes when it gets its lock.
func TestResticTogether(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	first := resticOn(t, s, "laptop")
	old, ids, _ := resticTrees(t, first, 77, 3)
	type result struct {
		id   string
		code int
		out  string
	}
	programs := []string{first.program, oldRestic(t), first.program}
	trees := make([]*tree, len(programs))
	clients := make([]*restic, len(programs))
	for i, program := range programs {
		trees[i] = newTree(t, uint64(780+i), 60, 8<<20)
		clients[i] = newRestic(t, program, s.url("laptop"))
	}
	results := make([]chan result, len(programs))
	for i, r := range clients {
		results[i] = make(chan result, 1)
		go func() {
			out, code := r.tryIn(filepath.Dir(trees[i].dir), "backup", "--json", "--host", fmt.Sprint("host", i), "tree")
			results[i] <- result{savedSnapshot(out), code, out}
		}()
	}
	prune := make(chan result, 1)
	go func() {
		out, code := first.try("forget", "--retry-lock", "2m", "--prune", "--max-unused", "0", ids[0], ids[1])
		prune <- result{"", code, out}
	}()
	if p := <-prune; p.code != 0 {
		t.Errorf("forget --prune beside backups: exit code %d\n%s", p.code, lastLines(p.out, 30))
	}
	want := map[string]picture{ids[2]: look(t, old.dir)}
	for i := range results {
		got := <-results[i]
		if got.code == 11 { // prune had its lock
			got.id, got.code = clients[i].backup(trees[i], "--host", fmt.Sprint("host", i)), 0
		}
		// The older version has no exit code of its own for that.
		if got.code == 1 && strings.Contains(got.out, "already locked") {
			got.id, got.code = clients[i].backup(trees[i], "--host", fmt.Sprint("host", i)), 0
		}
		if got.code != 0 || got.id == "" {
			t.Errorf("client %d: exit code %d\n%s", i, got.code, lastLines(got.out, 30))
			continue
		}
		want[got.id] = look(t, trees[i].dir)
	}
	first.sound(want)
}

// TestResticNames: repositories of one user and of others, one below the name of another one, with names that have to be escaped; and the server's
// commands for each.
func TestResticNames(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--grace", "7d")
	type repository struct {
		*restic
		want map[string]picture
	}
	all := make(map[string]repository)
	for i, name := range []string{"alice", "alice/laptop", "alice/my pc", "bob@example.org/b\u00fcro", "keys2/data2"} {
		path := (&url.URL{Path: name}).EscapedPath()
		r := resticOn(t, s, path)
		tr := newTree(t, uint64(760+i), 5, 1<<20)
		all[name] = repository{r, map[string]picture{r.backup(tr): look(t, tr.dir)}}
	}
	list := run(t, nil, packhouse(), "repo", "list", "-d", s.data)
	for name, r := range all {
		if !strings.Contains(list, name) {
			t.Errorf("repo list lacks %q:\n%s", name, list)
		}
		if s.info(name).Usage.LastBackup.IsZero() {
			t.Errorf("%q: no backup is known", name)
		}
		for _, args := range [][]string{
			{"check", name, "--verify"}, {"scrub", "--wait", "--repo", name}, {"lock", "list", name}, {"trash", "list", name}, {"guard", "show", name},
			{"repo", "history", name}, {"repo", "quota", name, "1G"},
		} {
			run(t, nil, packhouse(), append(args, "-d", s.data)...)
		}
		id := r.snapshots()[0]
		to := moment()
		r.run("forget", id)
		run(t, nil, packhouse(), "repo", "rollback", name, "--to", to, "--yes", "-d", s.data)
		r.sound(r.want)
	}
	run(t, nil, packhouse(), "repo", "destroy", "alice", "--yes", "-d", s.data)
	if out, code := all["alice"].try("snapshots"); code != 10 {
		t.Errorf("a repository that was destroyed: exit code %d, want 10\n%s", code, out)
	}
	delete(all, "alice")
	s.stop()
	s.start()
	for _, r := range all {
		r.sound(r.want)
	}
}
