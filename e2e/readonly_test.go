//go:build e2e && linux

package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// readOnlyVykar is the program of a vykar, "" when none is installed.
func readOnlyVykar() string {
	for _, program := range []string{os.Getenv("PACKHOUSE_VYKAR"), filepath.Join(venv(), "bin", "vykar")} {
		if program != "" && exists(program) {
			return program
		}
	}
	return ""
}

// timesOf is what lies below a directory, with times.
func timesOf(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			fmt.Fprintln(&b, path, info.Size(), info.ModTime().Format(time.RFC3339Nano))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestReadOnlyClients: from a file system that is mounted read-only, as one that is to be rescued, or a snapshot, real
// clients restore, list and check, over HTTP and over ssh. They lock for that, in the server's memory.
func TestReadOnlyClients(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if err := os.Mkdir(s.data, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", s.data).CombinedOutput(); err != nil {
		leave(t, fmt.Sprintf("a file system is mounted read-only, which takes root: %s", strings.Join(strings.Fields(string(out)), " ")))
	}
	t.Cleanup(func() {
		if s.cmd != nil { // else it finds its directory missing
			s.stop()
		}
		_ = exec.Command("umount", "-l", s.data).Run()
	})
	tokenFile := filepath.Join(s.dir, "token")
	writeFile(t, tokenFile, token+"\n", 0o600)
	s.args = []string{"serve", "--listen", s.addr, "--data-dir", s.data, "--token-file", tokenFile, "--log-format", "json"}
	s.start()
	tr := newTree(t, 31, 60, 8<<20)
	b := newBorg(t, s.url("laptop"), "BORG_PACK_MAX_SIZE=1000000")
	b.run("repo-create", "--encryption", "aes256-ocb")
	b.run("create", "first", tr.dir)
	vykar := readOnlyVykar()
	home := t.TempDir()
	config := filepath.Join(home, "vykar.yaml")
	writeFile(t, config, fmt.Sprintf("sources:\n  - %s\nrepositories:\n  - label: main\n    url: %s://%s/vault\n    access_token: %s\n    allow_insecure_http: true\n", tr.dir, s.scheme, s.addr, token), 0o600)
	vykarEnv := []string{"VYKAR_CONFIG=" + config, "VYKAR_PASSPHRASE=correct horse battery staple", "HOME=" + home, "XDG_CACHE_HOME=" + filepath.Join(home, "cache")}
	if vykar == "" {
		note(t, "vykar is not installed: PACKHOUSE_VYKAR is the path of its program. Only borg reads from a read-only file system")
	} else {
		run(t, vykarEnv, vykar, "init")
		run(t, vykarEnv, vykar, "backup")
	}
	s.stop()
	run(t, nil, "mount", "-o", "ro,remount", s.data)
	before := timesOf(t, s.data)
	s.start()

	read := func(b *borg) {
		t.Helper()
		b.run("repo-list")
		b.run("list", "first")
		b.run("repo-info")
		b.run("check")
		b.run("check", "--verify-data")
		look(t, filepath.Join(b.extract(b.archives()[0]), tr.dir)).same(t, look(t, tr.dir))
		if out, code := b.try("create", "second", tr.dir); code == 0 || !strings.Contains(out, "PermissionDenied") {
			t.Errorf("a backup to a read-only file system: exit code %d\n%s", code, lastLines(out, 5))
		}
	}
	read(b)
	// A client that has no cache of its own begins with the server's.
	fresh := newBorg(t, s.url("laptop"))
	look(t, filepath.Join(fresh.extract(fresh.archives()[0]), tr.dir)).same(t, look(t, tr.dir))
	if vykar != "" {
		run(t, vykarEnv, vykar, "list")
		for _, args := range [][]string{{"check"}, {"check", "--verify-data"}} {
			if out := run(t, vykarEnv, vykar, args...); !strings.Contains(out, " 0 errors") {
				t.Errorf("vykar %v: %s", args, lastLines(out, 5))
			}
		}
		restored := filepath.Join(t.TempDir(), "restored")
		run(t, vykarEnv, vykar, "restore", "latest", restored)
		look(t, restored).same(t, look(t, tr.dir))
		began := time.Now()
		if out, code := try(t, vykarEnv, vykar, "backup"); code == 0 || time.Since(began) > 20*time.Second {
			t.Errorf("a backup to a read-only file system: exit code %d after %v, want failure at once\n%s", code, time.Since(began), lastLines(out, 5))
		}
	}
	health, err := s.health(http.DefaultClient)
	if err != nil || health["status"] != "degraded" || !strings.Contains(fmt.Sprint(health["reason"]), "read-only") {
		t.Errorf("health: %v, %v", health, err)
	}
	var status *statusError
	if err := newStoreClient(s, "new", 1).create(); !errors.As(err, &status) || status.status != http.StatusForbidden {
		t.Errorf("create: %v, want 403", err)
	}
	run(t, nil, packhouse(), "check", "--verify", "--data-dir", s.data)

	over := overShell(t, s.data, "")
	over.env = append(over.env, "BORG_REPO="+over.remote("laptop"))
	read(over)
	s.stop()
	run(t, nil, packhouse(), "check", "--verify", "--data-dir", s.data)
	read(over)
	if after := timesOf(t, s.data); after != before {
		t.Error("something was written to the read-only file system")
	}
	// Writable again, nothing is missing.
	run(t, nil, "mount", "-o", "rw,remount", s.data)
	s.start()
	b.run("create", "second", tr.dir)
	b.run("check", "--verify-data")
}
