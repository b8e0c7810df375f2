//go:build e2e

package e2e

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// exported runs `packhouse repo export` while the server runs, after it was killed at calls of several kinds without a server; first is the key of an
// item that is linked. Until it has come to its end there is no directory, and afterwards nothing but that.
func exported(t *testing.T, s *server, name, layout, dir, first string) {
	t.Helper()
	args := []string{"repo", "export", name, dir, "--as", layout, "-d", s.data}
	if out := run(t, nil, packhouse(), append(args, "--dry-run")...); !strings.Contains(out, "would be exported as "+layout) {
		t.Errorf("dry run: %s", out)
	}
	s.stop()
	strace, err := exec.LookPath("strace")
	if err != nil || traceless(strace) {
		note(t, "strace cannot run: exports are not killed")
	} else {
		tree := filepath.Join(dir+".partial", "tree")
		for _, at := range []struct{ call, path string }{
			{"mkdirat", dir + ".partial"}, {"mkdirat", tree}, {"linkat", filepath.Join(tree, first)}, {"syncfs", tree}, {"renameat", tree},
		} {
			out, err := exec.Command(strace, append([]string{"-f", "-o", "/dev/null", "-P", at.path, "-e", "trace=" + at.call,
				"-e", "inject=" + at.call + ":signal=KILL", packhouse()}, args...)...).CombinedOutput()
			if err == nil {
				t.Errorf("export was not killed at %s of %s: %s", at.call, at.path, out)
				return
			}
			if at.call == "renameat" { // the kernel has renamed it, and then killed
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
			} else if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("killed at %s of %s: the directory is there (%v)", at.call, at.path, err)
			}
		}
	}
	s.start()
	if out := run(t, nil, packhouse(), args...); !strings.Contains(out, "exported as "+layout) {
		t.Errorf("export: %s", out)
	}
	if _, err := os.Stat(dir + ".partial"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was not complete is left: %v", err)
	}
}

// fileDigests are those of the files of a directory, by path.
func fileDigests(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		found[strings.TrimPrefix(path, dir)] = fmt.Sprintf("%x", sha256.Sum256(body))
		return err
	})
	if err != nil || len(found) == 0 {
		t.Fatalf("%d files, %v", len(found), err)
	}
	return found
}

// roundTrip adopts a directory that was exported, and wants what is exported of that to be the same.
func roundTrip(t *testing.T, dir, layout string) {
	t.Helper()
	data, again := t.TempDir(), filepath.Join(t.TempDir(), "again")
	run(t, nil, packhouse(), "adopt", dir, "--as", "again", "-d", data)
	run(t, nil, packhouse(), "repo", "export", "again", again, "--as", layout, "-d", data)
	want, got := fileDigests(t, dir), fileDigests(t, again)
	for path := range want {
		if got[path] != want[path] {
			t.Errorf("exported, adopted and exported: %s: got %s, want %s", path, got[path], want[path])
		}
	}
	if len(got) != len(want) {
		t.Errorf("exported, adopted and exported: %d files, want %d", len(got), len(want))
	}
}

// blobKey is the key of an item that is a file of its own, by a directory that was exported: the first file of more than 64 KiB.
func blobKey(t *testing.T, s *server, name, layout, below string) string {
	t.Helper()
	probe := filepath.Join(t.TempDir(), "probe")
	run(t, nil, packhouse(), "repo", "export", name, probe, "--as", layout, "-d", s.data, "--copy")
	key := ""
	err := filepath.WalkDir(filepath.Join(probe, below), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || key != "" {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Size() > 64<<10 {
			key = strings.TrimPrefix(path, probe+"/")
		}
		return err
	})
	if err != nil || key == "" {
		t.Fatalf("no large file in the export: %v", err)
	}
	return key
}

// TestExportBorg: what borg has stored on the server, it finds in a directory by itself and through borgstore-server-rest after an export, and works on;
// the repository on the server stays as it was.
func TestExportBorg(t *testing.T) {
	t.Parallel()
	reference := need(t, "borgstore-server-rest")
	s := startServer(t)
	tr := newTree(t, 63, 150, 12<<20)
	b := newBorg(t, s.url("laptop"))
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
	b.run("delete", "aid:"+ids[0])

	dir := filepath.Join(s.dir, "out")
	exported(t, s, "laptop", "borgstore", dir, blobKey(t, s, "laptop", "borgstore", "packs"))
	before := unchanged(t, filepath.Join(s.data, "laptop", "blobs"))
	roundTrip(t, dir, "borgstore")
	local := b.with("BORG_REPO=file://" + dir)
	local.run("check", "--verify-data")
	if got := local.archives(); len(got) != 2 || got[0] != ids[1] {
		t.Fatalf("archives: got %v, want the last two of %v", got, ids)
	}
	look(t, filepath.Join(local.extract(ids[1]), "tree")).same(t, pictures[1])
	tr.change(3, 4)
	now := look(t, tr.dir)
	local.in(filepath.Dir(tr.dir), `"$BORG" create story tree`)

	theirs := newServer(t)
	theirs.program = reference
	host, port, _ := strings.Cut(theirs.addr, ":")
	theirs.args = []string{"--host", host, "--port", port, "--backend", "file://" + dir, "--username", "u", "--password", "p"}
	theirs.start()
	remote := b.with("BORG_REPO=http://u:p@" + theirs.addr + "/")
	remote.run("delete", "aid:"+ids[1])
	remote.run("compact")
	remote.run("check", "--verify-data")
	left := remote.archives()
	if len(left) != 2 {
		t.Fatalf("archives: got %v, want two", left)
	}
	look(t, filepath.Join(remote.extract(left[1]), "tree")).same(t, now)
	theirs.kill()

	wantUnchanged(t, filepath.Join(s.data, "laptop", "blobs"), before)
	again := newBorg(t, s.url("laptop")) // the other one knows that the repository has gone on
	again.run("check", "--verify-data")
	look(t, filepath.Join(again.extract(ids[2]), "tree")).same(t, pictures[2])
	s.onlyStatuses(200, 202, 206, 404)
}

// TestExportVykar is TestExportBorg with vykar and its own server.
func TestExportVykar(t *testing.T) {
	t.Parallel()
	program := vykarProgram(t)
	theirs := vykarServer(t, program)
	s := startServer(t)
	tr := newTree(t, 64, 200, 20<<20)
	v := newVykar(t, program, fmt.Sprintf("%s://%s/vault", s.scheme, s.addr), tr.dir)
	v.run("init")
	v.run("backup")
	tr.change(1, 4)
	v.run("backup")
	now := look(t, tr.dir)

	dir := filepath.Join(s.dir, "out")
	exported(t, s, "vault", "vykar", dir, blobKey(t, s, "vault", "vykar", "packs"))
	before := unchanged(t, filepath.Join(s.data, "vault", "blobs"))
	roundTrip(t, dir, "vykar")
	theirs.args = []string{"--listen", theirs.addr, "--data-dir", dir}
	theirs.start()
	other := newVykar(t, program, "http://"+theirs.addr, tr.dir)
	for _, args := range [][]string{{"check", "--verify-data"}, {"check", "--verify-data", "--distrust-server"}} {
		if out := other.run(args...); !strings.Contains(out, " 0 errors") {
			t.Errorf("vykar %v: %s", args, lastLines(out, 5))
		}
	}
	restored := filepath.Join(t.TempDir(), "restored")
	other.run("restore", "latest", restored)
	look(t, restored).same(t, now)
	tr.change(2, 60)
	other.run("backup")
	other.run("compact", "--threshold", "1")
	if out := other.run("check", "--verify-data"); !strings.Contains(out, " 0 errors") {
		t.Errorf("vykar check after a backup: %s", lastLines(out, 5))
	}
	restored = filepath.Join(t.TempDir(), "restored")
	other.run("restore", "latest", restored)
	look(t, restored).same(t, look(t, tr.dir))
	theirs.kill()

	wantUnchanged(t, filepath.Join(s.data, "vault", "blobs"), before)
	if out := newVykar(t, program, fmt.Sprintf("%s://%s/vault", s.scheme, s.addr), tr.dir).run("check", "--verify-data"); !strings.Contains(out, " 0 errors") {
		t.Errorf("vykar check on the server: %s", lastLines(out, 5))
	}
}
