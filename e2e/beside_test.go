//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestServeAdoptsBorg: in the place of borg's own server, with its command line and --adopt, the repository is there under the same URL; the first
// start is killed on the way.
func TestServeAdoptsBorg(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	host, port, _ := strings.Cut(s.addr, ":")
	s.args = []string{"--host", host, "--port", port, "--backend", "file://" + s.data, "--username", "u", "--password", "p"}
	s.program = need(t, "borgstore-server-rest")
	s.start()
	tr := newTree(t, 64, 100, 6<<20)
	b := newBorg(t, "http://u:p@"+s.addr+"/")
	b.run("repo-create", "--encryption", "aes256-ocb")
	b.in(filepath.Dir(tr.dir), `"$BORG" create story tree`)
	now := look(t, tr.dir)
	s.kill()
	before := unchanged(t, s.data)

	s.program, s.args = filepath.Join(programs, "borgstore-server-rest"), append(s.args, "--adopt")
	beside := s.data + ".packhouse"
	if killed := killAt(t, s, "linkat", filepath.Join(s.data, "config")); killed {
		if _, err := os.Stat(filepath.Join(beside, "index.db.adopting")); err != nil {
			t.Errorf("after the first start: %v", err)
		}
	}
	for i := range 2 {
		s.start()
		b.run("check", "--verify-data")
		look(t, filepath.Join(b.extract(b.archives()[0]), "tree")).same(t, now)
		b.in(filepath.Dir(tr.dir), `"$BORG" create story tree`)
		if got := len(b.archives()); got != i+2 {
			t.Errorf("start %d: %d archives, want %d", i, got, i+2)
		}
		s.stop()
		wantUnchanged(t, s.data, before)
	}
}

// TestServeAdoptsVykar is TestServeAdoptsBorg with vykar and its server, whose client has a URL without a path.
func TestServeAdoptsVykar(t *testing.T) {
	t.Parallel()
	program := vykarProgram(t)
	s := vykarServer(t, program)
	s.start()
	tr := newTree(t, 65, 100, 6<<20)
	v := newVykar(t, program, "http://"+s.addr, tr.dir)
	v.run("init")
	v.run("backup")
	now := look(t, tr.dir)
	s.kill()
	before := unchanged(t, s.data)

	s.program, s.args = packhouse(), append([]string{"serve"}, append(s.args, "--log-format", "json")...)
	if err := try1(t, s.env, append([]string{packhouse()}, s.args...)...); !strings.Contains(err, "is a directory of vger-server or vykar-server") || !strings.Contains(err, "packhouse adopt "+s.data) {
		t.Errorf("without --adopt: %s", err)
	}
	s.args = append(s.args, "--adopt")
	if killed := killAt(t, s, "linkat", filepath.Join(s.data, "keys")); killed {
		if _, err := os.Stat(filepath.Join(s.data+".packhouse", "data", "index.db.adopting")); err != nil {
			t.Errorf("after the first start: %v", err)
		}
	}
	for range 2 {
		s.start()
		if out := v.run("check", "--verify-data"); !strings.Contains(out, " 0 errors") {
			t.Errorf("vykar check: %s", lastLines(out, 5))
		}
		restored := filepath.Join(t.TempDir(), "restored")
		v.run("restore", "latest", restored)
		look(t, restored).same(t, now)
		v.run("backup")
		s.stop()
		wantUnchanged(t, s.data, before)
	}
}

// try1 returns what a command that has to fail printed.
func try1(t *testing.T, env []string, command ...string) string {
	t.Helper()
	out, code := try(t, env, command[0], command[1:]...)
	if code == 0 {
		t.Errorf("%v: exit code 0", command)
	}
	return out
}

// TestGoldenWithClients: the directories in testdata of which there is a client here, adopted: it finds its archives, checks and restores them, and adds another one.
func TestGoldenWithClients(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	source := t.TempDir()
	adopt := func(t *testing.T, archive string) {
		t.Helper()
		dir := filepath.Join(source, archive)
		packed, err := filepath.Abs(filepath.Join("..", "repo", "adopt", "testdata", archive+".tar.gz"))
		if err != nil {
			t.Fatal(err)
		}
		run(t, nil, "mkdir", dir)
		run(t, nil, "tar", "-xzf", packed, "-C", dir)
		run(t, nil, packhouse(), "adopt", dir, "--as", archive, "-d", s.data)
		run(t, nil, packhouse(), "scrub", "--repo", archive, "-d", s.data, "--wait")
		if out := run(t, nil, packhouse(), "repo", "info", archive, "-d", s.data); !strings.Contains(out, "state        ok") {
			t.Errorf("after a scrub:\n%s", out)
		}
	}
	tr := newTree(t, 66, 10, 1<<20)
	borg := func(program func(testing.TB) string, archive string) func(t *testing.T) {
		return func(t *testing.T) {
			b := newBorgOf(t, program(t), s.url(archive), "BORG_PASSPHRASE=golden")
			adopt(t, archive)
			b.run("check", "--verify-data")
			ids := b.archives()
			if len(ids) != 2 {
				t.Fatalf("archives: %v, want two", ids)
			}
			if text, err := os.ReadFile(filepath.Join(b.extract(ids[1]), "tree", "counter")); err != nil || string(text) != "3\n" {
				t.Errorf("counter: %q, %v", text, err)
			}
			b.in(filepath.Dir(tr.dir), `"$BORG" create story tree`)
			b.run("delete", "aid:"+ids[0])
			b.run("compact")
			b.run("check", "--verify-data")
		}
	}
	t.Run("borg", borg(func(t testing.TB) string { return need(t, "borg") }, "borg-2.0.0b23"))
	t.Run("newest borg", borg(newestBorg, "borg-2.0.0b25"))
	t.Run("vykar", func(t *testing.T) {
		v := newVykar(t, vykarProgram(t), "http://"+s.addr+"/vykar-0.19.1", tr.dir)
		v.env = append(v.env, "VYKAR_PASSPHRASE=golden")
		adopt(t, "vykar-0.19.1")
		restored := filepath.Join(t.TempDir(), "restored")
		v.run("restore", "latest", restored)
		if text, err := os.ReadFile(filepath.Join(restored, "counter")); err != nil || string(text) != "v3\n" {
			t.Errorf("counter: %q, %v", text, err)
		}
		v.run("backup")
		if out := v.run("check", "--verify-data"); !strings.Contains(out, " 0 errors") {
			t.Errorf("vykar check: %s", lastLines(out, 5))
		}
	})
}
