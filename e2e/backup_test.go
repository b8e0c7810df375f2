//go:build e2e

package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// traced runs a command of packhouse that is killed when it calls the kernel with a path; it tells whether that has happened.
func traced(t *testing.T, call, path string, args ...string) (killed bool) {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil || traceless(strace) {
		note(t, "strace cannot run: backups are not killed")
		return false
	}
	out, err := exec.Command(strace, append([]string{"-f", "-o", "/dev/null", "-P", path, "-e", "trace=" + call,
		"-e", "inject=" + call + ":signal=KILL", packhouse()}, args...)...).CombinedOutput()
	if err == nil {
		t.Errorf("%v was not killed at %s of %s: %s", args, call, path, out)
		return false
	}
	return true
}

// readBackup reads all of a backup, which must be one complete state, and returns what is said of it.
func readBackup(t *testing.T, dest string) string {
	t.Helper()
	out := run(t, nil, packhouse(), "repo", "restore", dest, "--verify")
	return out[strings.Index(out, "read: "):]
}

// killedBackups brings a backup up to date without a server, after it was killed at calls of several kinds: its directory has the state
// of before, or the new one, and what is killed before it has begun to write is as it was.
func killedBackups(t *testing.T, data, name, dest string) {
	t.Helper()
	before := readBackup(t, dest)
	args := []string{"repo", "backup", name, dest, "-d", data, "--copy"}
	for _, at := range []struct{ call, path string }{
		{"flock", filepath.Join(dest, "lock")}, {"mkdirat", filepath.Join(dest, "new")}, {"syncfs", dest}, {"fdatasync", filepath.Join(dest, "new", "items.jsonl.zst")},
		{"renameat", filepath.Join(dest, "items.jsonl.zst")}, {"fsync", dest},
	} {
		if !traced(t, at.call, at.path, args...) {
			return
		}
		switch got := readBackup(t, dest); {
		case at.call == "renameat": // the kernel may have renamed the list, and then killed
		case (got == before) == (at.call == "fsync"):
			t.Errorf("killed at %s of %s: got %s; it was %s", at.call, at.path, got, before)
		}
	}
}

// killedServers kills the server while it makes a backup, at moments that chance chooses, and wants the backup to be a complete state each time.
func killedServers(t *testing.T, s *server, name, dest string) {
	t.Helper()
	_, random := crashRandom(t)
	for range *crashRounds {
		var group sync.WaitGroup
		group.Go(func() {
			_, _ = exec.Command(packhouse(), "repo", "backup", name, dest, "-d", s.data, "--copy", "--verify").CombinedOutput() // it may fail
		})
		time.Sleep(time.Duration(20+random.IntN(150)) * time.Millisecond)
		s.kill()
		group.Wait() // it may have made the backup itself, without the server
		readBackup(t, dest)
		s.start()
	}
}

// restored makes a repository of a backup in a data directory whose server does not run, after that was killed at calls of several kinds.
func restored(t *testing.T, data, name, dest string) {
	t.Helper()
	args := []string{"repo", "restore", dest, "--as", name, "-d", data}
	dir := filepath.Join(data, name)
	for _, at := range []struct{ call, path string }{
		{"renameat", filepath.Join(dir, "index.db.adopting")}, {"fsync", filepath.Join(dir, "blobs")}, {"fdatasync", filepath.Join(dir, "index.db.rebuilt")},
		{"renameat", filepath.Join(dir, "index.db")},
	} {
		if !traced(t, at.call, at.path, args...) {
			break
		}
		if exists(filepath.Join(dir, "index.db")) { // the kernel has renamed it, and then killed
			return
		}
		if out := run(t, nil, packhouse(), "repo", "list", "-d", data); strings.Contains(out, name+"\tborgstore\t") {
			t.Errorf("killed at %s of %s: %s", at.call, at.path, out)
		}
	}
	if out := run(t, nil, packhouse(), args...); !strings.Contains(out, "restored as "+name) {
		t.Errorf("restore: %s", out)
	}
}

// TestBackupBorg: a repository is backed up while borg writes to it, and brought up to date; what is restored of it, beside it and in another data directory,
// borg checks, extracts, and works on. Killed at any moment, the backup is one complete state.
func TestBackupBorg(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	tr := newTree(t, 81, 150, 12<<20)
	b := newBorg(t, s.url("laptop"))
	b.run("repo-create", "--encryption", "aes256-ocb")
	b.in(filepath.Dir(tr.dir), `"$BORG" create story tree`)
	pictures := []picture{look(t, tr.dir)}
	dest := filepath.Join(s.dir, "dest")
	args := []string{"repo", "backup", "laptop", dest, "-d", s.data}

	// While borg works.
	tr.change(1, 4)
	pictures = append(pictures, look(t, tr.dir))
	var group sync.WaitGroup
	group.Go(func() { b.in(filepath.Dir(tr.dir), `"$BORG" create story tree`) })
	for range 3 {
		if out := run(t, nil, packhouse(), args...); !strings.Contains(out, "backed up to "+dest) {
			t.Errorf("backup: %s", out)
		}
	}
	group.Wait()
	run(t, nil, packhouse(), "repo", "restore", dest, "--as", "meanwhile", "-d", s.data)
	other := newBorg(t, s.url("meanwhile")) // the one that has worked meanwhile knows of a newer state
	if got := other.archives(); len(got) == 0 {
		t.Error("no archive in a backup that was made while borg worked")
	}
	look(t, filepath.Join(other.extract(other.archives()[0]), "tree")).same(t, pictures[0])

	// Up to date: only what is new is transferred, and what borg has removed is gone.
	out := run(t, nil, packhouse(), args...)
	if !strings.Contains(out, "that were there") || strings.Contains(out, "and 0 items") {
		t.Errorf("backup: %s", out)
	}
	ids := b.archives()
	b.run("delete", "aid:"+ids[0])
	b.run("compact")
	before := unchanged(t, filepath.Join(s.data, "laptop", "blobs"))
	run(t, nil, packhouse(), append(args, "--verify")...)
	wantUnchanged(t, filepath.Join(s.data, "laptop", "blobs"), before)

	tr.change(2, 4)
	pictures = append(pictures, look(t, tr.dir))
	b.in(filepath.Dir(tr.dir), `"$BORG" create story tree`)
	s.stop()
	killedBackups(t, s.data, "laptop", dest)
	s.start()
	killedServers(t, s, "laptop", dest)
	run(t, nil, packhouse(), args...)

	// Elsewhere, without the server that it comes from.
	fresh := startServer(t)
	fresh.stop()
	restored(t, fresh.data, "laptop", dest)
	fresh.start()
	again := b.with("BORG_REPO=" + fresh.url("laptop"))
	again.run("check", "--verify-data")
	if got := again.archives(); len(got) != 2 || got[0] != ids[1] {
		t.Fatalf("archives: got %v, want the last two, with %s", got, ids[1])
	}
	for i, id := range again.archives() {
		look(t, filepath.Join(again.extract(id), "tree")).same(t, pictures[i+1])
	}
	tr.change(3, 4)
	again.in(filepath.Dir(tr.dir), `"$BORG" create story tree`)
	again.run("delete", "aid:"+ids[1])
	again.run("compact")
	again.run("check", "--verify-data")
	look(t, filepath.Join(again.extract(again.archives()[1]), "tree")).same(t, look(t, tr.dir))
	run(t, nil, packhouse(), "check", "-d", fresh.data, "--verify")
	// It goes on with the backup of the one that is gone.
	if out := run(t, nil, packhouse(), "repo", "backup", "laptop", dest, "-d", fresh.data, "--take-over"); strings.Contains(out, "and 0 items") {
		t.Errorf("backup of what was restored: %s", out)
	}
}

// TestBackupVykar is TestBackupBorg with vykar, in short.
func TestBackupVykar(t *testing.T) {
	t.Parallel()
	program := vykarProgram(t)
	s := startServer(t)
	tr := newTree(t, 82, 150, 12<<20)
	at := func(s *server, name string) *vykar {
		return newVykar(t, program, fmt.Sprintf("%s://%s/%s", s.scheme, s.addr, name), tr.dir)
	}
	v := at(s, "vault")
	v.run("init")
	v.run("backup")
	dest := filepath.Join(s.dir, "dest")
	run(t, nil, packhouse(), "repo", "backup", "vault", dest, "-d", s.data)
	tr.change(1, 4)
	v.run("backup")
	v.run("compact", "--threshold", "1")
	now := look(t, tr.dir)
	run(t, nil, packhouse(), "repo", "backup", "vault", dest, "-d", s.data, "--verify")

	fresh := startServer(t)
	run(t, nil, packhouse(), "repo", "restore", dest, "--as", "again", "-d", fresh.data)
	other := at(fresh, "again")
	for _, args := range [][]string{{"check", "--verify-data"}, {"check", "--verify-data", "--distrust-server"}} {
		if out := other.run(args...); !strings.Contains(out, " 0 errors") {
			t.Errorf("vykar %v: %s", args, lastLines(out, 5))
		}
	}
	dir := filepath.Join(t.TempDir(), "restored")
	other.run("restore", "latest", dir)
	look(t, dir).same(t, now)
	tr.change(2, 10)
	other.run("backup")
	other.run("compact", "--threshold", "1")
	if out := other.run("check", "--verify-data"); !strings.Contains(out, " 0 errors") {
		t.Errorf("vykar check after a backup: %s", lastLines(out, 5))
	}
}
