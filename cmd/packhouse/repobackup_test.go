package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"packhouse/repo/repotest"
)

// TestRepoBackup: a repository is backed up, brought up to date, verified, and restored under another name and in another data directory; what is
// wrong is told in one line.
func TestRepoBackup(t *testing.T) {
	data, source := t.TempDir(), borgDir(t, 3)
	call := func(wantCode int, want string, args ...string) (out string) {
		t.Helper()
		code, out, errs := runHere(t, append(args, "-d", data)...)
		if code != wantCode || !match(want, out+errs) {
			t.Errorf("%v: got exit code %d, %q, %q; want %d and %s", args, code, out, errs, wantCode, want)
		}
		return out
	}
	call(0, `adopted as r`, "adopt", source, "--as", "r")
	dest := filepath.Join(t.TempDir(), "dest")
	call(2, `needs a NAME and a DEST`, "repo", "backup", "r")
	call(2, `in the data directory`, "repo", "backup", "r", filepath.Join(data, "dest"))
	call(1, `there is no directory`, "repo", "backup", "r", filepath.Join(dest, "a", "b"))
	call(1, `no such repository`, "repo", "backup", "none", dest)
	call(1, `is no backup, and not empty`, "repo", "backup", "r", source)
	call(0, `would be backed up to `+dest+`: 0 items, 0 bytes, by hard links, 6 items`, "repo", "backup", "r", dest, "--copy", "--dry-run")
	if left, err := os.ReadDir(filepath.Dir(dest)); err != nil || len(left) != 0 {
		t.Errorf("a dry run left %v, %v", left, err)
	}
	call(1, `is no backup of a repository`, "repo", "restore", dest, "--as", "again")
	call(0, `backed up to `+dest+`: 6 items, .* by hard links, 0 items`, "repo", "backup", "r", dest)
	call(0, `0 items, 0 bytes, by hard links, 0 items, 0 bytes, by copies, and 6 items, .*, that were there`, "repo", "backup", "r", dest, "--verify")

	call(0, `read: the state of r of .*: 6 items`, "repo", "restore", dest, "--verify")
	call(2, `--as: `, "repo", "restore", dest)
	call(2, `leave --as out`, "repo", "restore", dest, "--verify", "--as", "again")
	call(2, `are for backups; write the directory of one as ./dest`, "repo", "restore", "dest", "--dry-run")
	call(1, `there is a repository r already`, "repo", "restore", dest, "--as", "r")
	call(0, `would be restored as again: the state of r of .*: 6 items`, "repo", "restore", dest, "--as", "again", "--dry-run")
	call(0, `restored as again: the state of r of .*: 6 items`, "repo", "restore", dest, "--as", "again")
	call(0, `again.*6.*\n.*r.*6`, "repo", "list")
	call(0, ``, "check", "again", "--verify")
	call(1, `--take-over`, "repo", "backup", "again", dest)

	paths := repotest.BlobPaths(t, filepath.Join(data, "r"))
	for _, path := range paths {
		body, err := os.ReadFile(path)
		if err == nil && string(body) == "pack 1" {
			err = errors.Join(os.Remove(path), os.WriteFile(path, []byte("pack X"), 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	out := call(3, `1 items are not in it`, "repo", "backup", "r", dest+"2", "--copy", "--json")
	var problem struct{ Problem struct{ Key, Why string } }
	var done struct {
		Done struct{ Copied struct{ Items int } }
	}
	for line := range strings.Lines(out) {
		if err := errors.Join(json.Unmarshal([]byte(line), &problem), json.Unmarshal([]byte(line), &done)); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	if !strings.HasPrefix(problem.Problem.Key, "packs/ab/") || !match(`damaged`, problem.Problem.Why) || done.Done.Copied.Items != 5 {
		t.Errorf("got %s", out)
	}
	data = t.TempDir()
	out = call(3, `the bytes of 1 items are missing or damaged`, "repo", "restore", dest+"2", "--as", "r", "--json")
	if !match(`"problem":\{"key":"packs/ab/.*damaged in the repository`, out) || !match(`"done":\{.*"name":"r".*"items":\{"items":5`, out) {
		t.Errorf("got %s", out)
	}
	call(3, `its file is missing`, "check", "r")
	t.Chdir(filepath.Dir(dest))
	call(1, `no .*; for the backup in the directory of that name, write ./dest`, "repo", "restore", "dest")
	call(0, `restored as alice/laptop: `, "repo", "restore", "./dest", "--as", "alice/laptop")
	call(0, ``, "check", "alice/laptop", "--verify")
	call(0, `were there`, "repo", "backup", "alice/laptop", "dest", "--take-over")
	call(0, `the state of alice/laptop of`, "repo", "restore", "./dest", "--verify")
}
