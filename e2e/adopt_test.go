//go:build e2e

package e2e

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// unchanged is what an adoption and all that follows must leave of the files of a source: everything but the number of their names.
func unchanged(t testing.TB, dir string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		st := info.Sys().(*syscall.Stat_t)
		found[path] = fmt.Sprintf("%d %o %d:%d %d %v %x", st.Ino, st.Mode, st.Uid, st.Gid, st.Size, info.ModTime(), sha256.Sum256(body))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Fatal("there are no files")
	}
	return found
}

func wantUnchanged(t testing.TB, dir string, want map[string]string) {
	t.Helper()
	got := unchanged(t, dir)
	for path := range want {
		if got[path] != want[path] {
			t.Errorf("%s: got %s, want %s", path, got[path], want[path])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d files, want %d", len(got), len(want))
	}
}

// adopted runs `packhouse adopt`, after it was killed at calls of several kinds; first and last are two of the source's files. What the server says of the repository then is
// that it is busy, and to nobody that it is empty or that there is none.
func adopted(t *testing.T, s *server, source, name, first, last string) {
	t.Helper()
	args := []string{"adopt", source, "--as", name, "-d", s.data}
	if out := run(t, nil, packhouse(), append(args, "--dry-run")...); !strings.Contains(out, "would become items by hard links") {
		t.Errorf("dry run: %s", out)
	}
	strace, err := exec.LookPath("strace")
	if err != nil || traceless(strace) {
		note(t, "strace cannot run: adoptions are not killed")
	} else {
		dir := filepath.Join(s.data, name)
		for _, at := range []struct{ call, path string }{
			{"renameat", filepath.Join(dir, "index.db.adopting")}, {"renameat", filepath.Join(dir, "adopted", "list")}, {"linkat", filepath.Dir(first)}, {"linkat", filepath.Dir(last)}, // from the open directory
			{"fsync", filepath.Join(dir, "blobs", "00")}, {"fdatasync", filepath.Join(dir, "index.db.rebuilt")}, {"renameat", filepath.Join(dir, "index.db")},
		} {
			out, err := exec.Command(strace, append([]string{"-f", "-o", "/dev/null", "-P", at.path, "-e", "trace=" + at.call,
				"-e", "inject=" + at.call + ":signal=KILL", packhouse()}, args...)...).CombinedOutput()
			if err == nil {
				t.Errorf("adopt was not killed at %s of %s: %s", at.call, at.path, out)
				return
			}
			wantBusy(t, s, name)
		}
	}
	s.start() // which keeps the name meanwhile
	if out := run(t, nil, packhouse(), args...); !strings.Contains(out, "adopted as "+name) {
		t.Errorf("adopt: %s", out)
	}
}

// killAt starts a server that is killed at its first call of a kind about a path, or a directory that the call names. killed: strace can do that here.
func killAt(t *testing.T, s *server, call, path string) (killed bool) {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil || traceless(strace) {
		note(t, "strace cannot run: starts are not killed")
		return false
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, strace, append([]string{"-f", "-o", "/dev/null", "-P", path, "-e", "trace=" + call, "-e", "inject=" + call + ":signal=KILL", s.program}, s.args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // which strace passes on
	cmd.Env = append(os.Environ(), s.env...)
	if out, err := cmd.CombinedOutput(); err == nil || ctx.Err() != nil {
		t.Errorf("the server was not killed at %s of %s: %s", call, path, out)
	}
	return true
}

// traceless tells whether strace cannot trace here.
func traceless(strace string) bool {
	return exec.Command(strace, "-o", "/dev/null", "true").Run() != nil
}

// wantBusy starts the server while a repository is being adopted.
func wantBusy(t *testing.T, s *server, name string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(s.data, name, "index.db.adopting")); errors.Is(err, os.ErrNotExist) {
		return // nothing was begun
	}
	s.start()
	defer s.stop()
	for path, accept := range map[string]string{
		"/config/manifest": "application/vnd.x.borgstore.rest.v1", "/archives/": "application/vnd.x.borgstore.rest.v1", "/config": "", "/packs/?list": "",
	} {
		request, err := http.NewRequest(http.MethodGet, s.url(name)+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Accept", accept)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s while it is being adopted: got %s, want 503", path, response.Status)
		}
	}
	if out := run(t, nil, packhouse(), "repo", "list", "-d", s.data); !strings.Contains(out, name) || !strings.Contains(out, "being adopted") {
		t.Errorf("repo list while it is being adopted: %s", out)
	}
}

// scrubbed has the server read all of a repository.
func scrubbed(t *testing.T, s *server, name string) {
	t.Helper()
	info := func() string { return run(t, nil, packhouse(), "repo", "info", name, "-d", s.data) }
	if out := info(); !strings.Contains(out, "unverified ") {
		t.Errorf("after the adoption:\n%s", out)
	}
	run(t, nil, packhouse(), "scrub", "--repo", name, "-d", s.data, "--wait")
	if out := info(); strings.Contains(out, "unverified  ") || !strings.Contains(out, "state        ok") {
		t.Errorf("after a scrub:\n%s", out)
	}
}

// TestAdoptBorg: what borg has stored in a directory by itself, it finds on the server after an adoption, works on, and the directory is as it
// was, a repository of its own.
func TestAdoptBorg(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.stop()
	source := filepath.Join(s.dir, "source")
	tr := newTree(t, 61, 150, 12<<20)
	local := newBorg(t, "file://"+source)
	local.run("repo-create", "--encryption", "aes256-ocb")
	var pictures []picture
	for i := range 3 {
		if i > 0 {
			tr.change(i, 4)
		}
		pictures = append(pictures, look(t, tr.dir))
		local.in(filepath.Dir(tr.dir), `"$BORG" create story tree`)
	}
	ids := local.archives()
	local.run("delete", "aid:"+ids[0])
	before := unchanged(t, source)

	adopted(t, s, source, "laptop", filepath.Join(source, "config", "id"), filepath.Join(source, "config", "version"))
	b := local.with("BORG_REPO=" + s.url("laptop"))
	b.run("check", "--verify-data")
	if got := b.archives(); len(got) != 2 || got[0] != ids[1] {
		t.Fatalf("archives: got %v, want the last two of %v", got, ids)
	}
	look(t, filepath.Join(b.extract(ids[1]), "tree")).same(t, pictures[1])
	scrubbed(t, s, "laptop")
	tr.change(3, 4)
	now := look(t, tr.dir)
	b.in(filepath.Dir(tr.dir), `"$BORG" create story tree`)
	b.run("delete", "aid:"+ids[2])
	b.run("prune", "--keep", "1")
	b.run("compact")
	b.run("check", "--verify-data")
	left := b.archives()
	if len(left) != 1 {
		t.Fatalf("archives: got %v, want one", left)
	}
	look(t, filepath.Join(b.extract(left[0]), "tree")).same(t, now)
	s.onlyStatuses(200, 202, 206, 404, 503) // 503: while it was being adopted
	wantUnchanged(t, source, before)
	again := newBorg(t, "file://"+source) // the other one knows that the repository has gone on
	if got := again.archives(); len(got) != 2 {
		t.Errorf("archives of the directory: got %v, want the last two of %v", got, ids)
	}
	look(t, filepath.Join(again.extract(ids[2]), "tree")).same(t, pictures[2])
}

// vykarServer is the server of vykar, with its directory.
func vykarServer(t testing.TB, vykar string) *server {
	t.Helper()
	program := filepath.Join(filepath.Dir(vykar), "vykar-server")
	if !exists(program) {
		leave(t, "vykar-server is not installed beside vykar")
	}
	s := newServer(t)
	s.program, s.env = program, []string{"VYKAR_TOKEN=" + token}
	s.args = []string{"--listen", s.addr, "--data-dir", s.data}
	return s
}

// TestAdoptVykar is TestAdoptBorg with vykar and the directory of its own server.
func TestAdoptVykar(t *testing.T) {
	t.Parallel()
	program := vykarProgram(t)
	theirs := vykarServer(t, program)
	theirs.start()
	tr := newTree(t, 62, 200, 20<<20)
	v := newVykar(t, program, "http://"+theirs.addr, tr.dir)
	v.run("init")
	v.run("backup")
	tr.change(1, 4)
	v.run("backup")
	now := look(t, tr.dir)
	source := theirs.data
	if out, code := try(t, nil, packhouse(), "adopt", source, "--as", "vault", "-d", t.TempDir()); code != 1 || !strings.Contains(out, "vykar-server serves the directory") {
		t.Errorf("adopt while its server runs: exit code %d, %s", code, out)
	}
	theirs.kill()
	writeFile(t, filepath.Join(source, "packs", "00", ".tmp.0123456789abcdef"), "unfinished", 0o600)
	before := unchanged(t, source)

	s := startServer(t)
	s.stop()
	adopted(t, s, source, "vault", filepath.Join(source, "config"), filepath.Join(source, "index"))
	// The same client, with its caches and what it knows of the repository, asks another address.
	config := strings.TrimPrefix(v.env[0], "VYKAR_CONFIG=")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Replace(string(text), "http://"+theirs.addr, fmt.Sprintf("%s://%s/vault", s.scheme, s.addr), 1)
	writeFile(t, config, at+"retention: {keep_last: 1}\n", 0o600)
	for _, args := range [][]string{{"check"}, {"check", "--verify-data"}, {"check", "--verify-data", "--distrust-server"}} {
		if out := v.run(args...); !strings.Contains(out, " 0 errors") {
			t.Errorf("vykar %v: %s", args, lastLines(out, 5))
		}
	}
	restored := filepath.Join(t.TempDir(), "restored")
	v.run("restore", "latest", restored)
	look(t, restored).same(t, now)
	scrubbed(t, s, "vault")
	tr.change(2, 60)
	v.run("backup")
	v.run("list")
	v.run("prune")
	v.run("compact", "--threshold", "1")
	if out := v.run("check", "--verify-data"); !strings.Contains(out, " 0 errors") {
		t.Errorf("vykar check after compact: %s", lastLines(out, 5))
	}
	restored = filepath.Join(t.TempDir(), "restored")
	v.run("restore", "latest", restored)
	look(t, restored).same(t, look(t, tr.dir))
	wantUnchanged(t, source, before)

	if out := run(t, nil, packhouse(), "repo", "info", "vault", "-d", s.data); !strings.Contains(out, "shared with  "+source) {
		t.Errorf("repo info: %s", out)
	}

	// The directory is a repository of the other server as before.
	theirs.start()
	again := newVykar(t, program, "http://"+theirs.addr, tr.dir)
	if out := again.run("check", "--verify-data"); !strings.Contains(out, " 0 errors") {
		t.Errorf("vykar check on the other server: %s", lastLines(out, 5))
	}
	theirs.kill()
}
