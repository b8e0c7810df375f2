//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// borg is one BorgBackup client with its own configuration and caches.
type borg struct {
	t       testing.TB
	program string
	env     []string
	jobs    func() string // lists the repository's jobs; nil: not asked
}

func newBorg(t testing.TB, repository string, env ...string) *borg {
	t.Helper()
	return newBorgOf(t, need(t, "borg"), repository, env...)
}

// newestBorg is the program of the newest BorgBackup, which needs a newer OpenSSL than the other.
func newestBorg(t testing.TB) string {
	t.Helper()
	program := filepath.Join(venv(), "newest", "bin", "borg")
	if !exists(program) {
		leave(t, "the newest BorgBackup is not installed: it needs OpenSSL 3.2, or cargo to get its source")
	}
	return program
}

// newBorgOf is newBorg for a program.
func newBorgOf(t testing.TB, program, repository string, env ...string) *borg {
	t.Helper()
	return &borg{t: t, program: program, env: append([]string{
		"BORG_REPO=" + repository,
		"BORG_BASE_DIR=" + t.TempDir(),
		"BORG_PASSPHRASE=correct horse battery staple",
		"BORG_TESTONLY_WEAKEN_KDF=1", // the passphrase is not what we test
		"BORG_RELOCATED_REPO_ACCESS_IS_OK=yes",
		"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes",
		"BORG_DELETE_I_KNOW_WHAT_I_AM_DOING=YES",
		"BORG_LOCK_WAIT=120",
		"LC_ALL=C.UTF-8",
	}, env...)}
}

// run demands success, and returns what borg printed.
func (b *borg) run(args ...string) string {
	b.t.Helper()
	return run(b.t, b.env, b.program, args...)
}

// try returns what borg printed and its exit code.
func (b *borg) try(args ...string) (string, int) {
	b.t.Helper()
	return try(b.t, b.env, b.program, args...)
}

// in runs a shell line in a directory, with $BORG as the program.
func (b *borg) in(dir, line string) string {
	b.t.Helper()
	return run(b.t, append(b.env, "BORG="+b.program), "sh", "-c", "cd '"+dir+"' && "+line)
}

// archives are the IDs of the archives, oldest first.
func (b *borg) archives() []string {
	b.t.Helper()
	out := b.run("repo-list", "--json")
	var list struct{ Archives []struct{ ID string } }
	if err := json.Unmarshal([]byte(out[strings.Index(out, "{"):]), &list); err != nil {
		b.t.Fatalf("repo-list: %v\n%s", err, out)
	}
	ids := make([]string, 0, len(list.Archives))
	for _, archive := range list.Archives {
		ids = append(ids, archive.ID)
	}
	return ids
}

// extract restores an archive and returns the directory.
func (b *borg) extract(id string) string {
	b.t.Helper()
	dir := b.t.TempDir()
	b.in(dir, `"$BORG" extract aid:`+id)
	return dir
}

// remote is how borg names a repository that it reaches over ssh. Since 2.0.0b24 the scheme is ssh.
func (b *borg) remote(path string) string {
	b.t.Helper()
	var beta int
	if _, err := fmt.Sscanf(b.run("--version"), "borg 2.0.0b%d", &beta); err == nil && beta < 24 {
		return "rest://user@host/" + path
	}
	return "ssh://user@host/" + path
}

// overShell is a client that starts `packhouse serve --rest` through a stand-in for ssh, whose login directory
// is home. forced replaces the command it asks for, unless empty.
func overShell(t testing.TB, home, forced string) *borg {
	t.Helper()
	return overShellOf(t, need(t, "borg"), home, forced)
}

// overShellOf is overShell for a program.
func overShellOf(t testing.TB, program, home, forced string) *borg {
	t.Helper()
	b := newBorgOf(t, program, "", "BORG_RSH="+remoteShell(t, home, forced), "BORG_REMOTE_PATH=packhouse",
		"PACKHOUSE_HOLD_IDLE=20s")
	b.env = append(b.env, "BORG_REPO="+b.remote("repository"))
	letGo(t, filepath.Join(home, "repository"))
	return b
}

// letGo ends the background holder of a repository when the test ends, so that its directory can be removed.
func letGo(t testing.TB, dir string) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("end of the holder's log:\n%s", tail(filepath.Join(dir, ".packhouse", "log"), 20))
		}
		pid := holderOf(dir)
		if pid == 0 {
			return
		}
		_ = syscall.Kill(pid, syscall.SIGINT)
		for range 6000 {
			if !alive(pid) {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("the holder, process %d, still runs a minute after SIGINT", pid)
	})
}

// holderOf is the process in the background that holds the repository in dir, 0 if there is none.
func holderOf(dir string) (pid int) {
	out, err := os.ReadFile(filepath.Join(dir, ".packhouse", "lock"))
	if err != nil {
		return 0
	}
	if n, _ := fmt.Sscanf(string(out), "%d", &pid); n != 1 || pid <= 1 || !alive(pid) {
		return 0
	}
	// The number outlives the process in the file, and may be another's by now.
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !strings.Contains(string(line), "\x00hold\x00") {
		return 0
	}
	return pid
}

// alive tells whether a process runs. One that ended and that nobody waited for does not.
func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(state, "Z")
}

// TestBorgStory is a repository's life with a real client, over each way to reach the server, with a tree of more
// than 286 MiB in more than 5000 files.
func TestBorgStory(t *testing.T) {
	t.Parallel()
	large := func(t *testing.T, seed uint64) *tree {
		tr := newTree(t, seed, 5200, 320<<20)
		if p := look(t, tr.dir); len(p.digests) < 5000 || p.size < 286<<20 {
			t.Errorf("the tree has %d files of %d bytes, want at least 5000 of 286 MiB", len(p.digests), p.size)
		}
		return tr
	}
	t.Run("http", func(t *testing.T) {
		t.Parallel()
		s := startServer(t)
		b := newBorg(t, s.url("laptop"))
		b.jobs = func() string { return run(t, nil, s.program, "job", "list", "-d", s.data, "--repo", "laptop") }
		story(t, b, large(t, 1), s.requests)
		s.onlyStatuses(200, 206, 404)
	})
	t.Run("ssh", func(t *testing.T) {
		t.Parallel()
		home := t.TempDir()
		b := overShell(t, home, "")
		log := &server{t: t, logPath: filepath.Join(home, "repository", ".packhouse", "log")}
		story(t, b, large(t, 2), log.requests)
	})
}

// TestNewestBorg is TestBorgStory, on a smaller tree, with the BorgBackup whose borgstore asks the server for more.
func TestNewestBorg(t *testing.T) {
	t.Parallel()
	program := newestBorg(t)
	t.Run("http", func(t *testing.T) {
		t.Parallel()
		s := startServer(t)
		story(t, newBorgOf(t, program, s.url("laptop")), newTree(t, 8, 600, 40<<20), s.requests)
		s.onlyStatuses(200, 206, 404)
	})
	t.Run("ssh", func(t *testing.T) {
		t.Parallel()
		home := t.TempDir()
		log := &server{t: t, logPath: filepath.Join(home, "repository", ".packhouse", "log")}
		story(t, overShellOf(t, program, home, ""), newTree(t, 9, 600, 40<<20), log.requests)
	})
}

// story makes a repository with three archives of a changing tree, restores each, prunes, compacts, and
// restores what is left. requests reads the server's log.
func story(t *testing.T, b *borg, tr *tree, requests func() []entry) {
	t.Helper()
	b.t = t
	b.run("repo-create", "--encryption", "aes256-ocb")
	var pictures []picture
	for i := range 3 {
		if i > 0 {
			tr.change(i, 4)
		}
		pictures = append(pictures, look(t, tr.dir))
		b.in(filepath.Dir(tr.dir), `"$BORG" create story tree`)
	}
	ids := b.archives()
	if len(ids) != 3 {
		t.Fatalf("got %d archives, want 3", len(ids))
	}
	for i, id := range ids {
		if lines := strings.Count(b.run("list", "--format", "{type}{NL}", "aid:"+id), "-\n"); lines != len(pictures[i].digests) {
			t.Errorf("archive %d lists %d files, want %d", i, lines, len(pictures[i].digests))
		}
		if info := b.run("info", "aid:"+id); !strings.Contains(info, id) {
			t.Errorf("info of archive %d does not name it:\n%s", i, info)
		}
		dir := b.extract(id)
		look(t, filepath.Join(dir, "tree")).same(t, pictures[i])
		_ = os.RemoveAll(dir)
	}
	b.run("check", "--verify-data")

	b.run("prune", "--keep", "2")
	if kept := b.archives(); len(kept) != 2 || kept[1] != ids[2] {
		t.Errorf("after prune the archives are %v, want the last two of %v", kept, ids)
	}
	b.run("delete", "aid:"+ids[1])
	before := count(requests(), "defrag")
	b.run("compact")
	if after := count(requests(), "defrag"); after == before {
		t.Errorf("compact made no defrag request, want some in the server's log")
	} else {
		t.Logf("compact made %d defrag requests", after-before)
		if b.jobs != nil {
			if list := b.jobs(); strings.Count(list, "\tcompaction\tdone\t") != after-before {
				t.Errorf("packhouse job list shows\n%swant the %d compactions that borg asked for", list, after-before)
			}
		}
	}
	b.run("check", "--verify-data")
	if left := b.archives(); len(left) != 1 || left[0] != ids[2] {
		t.Errorf("after delete the archives are %v, want the last of %v", left, ids)
	}
	dir := b.extract(ids[2])
	look(t, filepath.Join(dir, "tree")).same(t, pictures[2])
	b.run("repo-delete")
}

// count is the number of successful requests of one operation.
func count(requests []entry, operation string) int {
	n := 0
	for _, r := range requests {
		if r.Operation == operation && r.Status == 200 {
			n++
		}
	}
	return n
}
