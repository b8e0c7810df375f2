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

// TestRepoExport: what was adopted is exported again, with and without links; what is wrong is told in one line.
func TestRepoExport(t *testing.T) {
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
	dir := filepath.Join(t.TempDir(), "out")
	call(2, `--as is borgstore, restic or vykar`, "repo", "export", "r", dir)
	call(2, `needs a NAME and a DIR`, "repo", "export", "r", "--as", "borgstore")
	call(2, `in the data directory`, "repo", "export", "r", filepath.Join(data, "out"), "--as", "borgstore")
	call(1, `there is no directory`, "repo", "export", "r", filepath.Join(dir, "a", "b"), "--as", "borgstore")
	call(1, `no such repository`, "repo", "export", "none", dir, "--as", "borgstore")
	call(1, `not empty`, "repo", "export", "r", source, "--as", "borgstore")
	call(1, `one of borgstore`, "repo", "export", "r", dir, "--as", "vykar")
	call(0, `would be exported as borgstore to `+dir+`: 6 items, .* by hard links, and 0`, "repo", "export", "r", dir, "--as", "borgstore", "--dry-run")
	if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) != 0 {
		t.Errorf("a dry run left %v, %v", left, err)
	}
	call(0, `exported as borgstore to `+dir+`: 6 items, .* by hard links, and 0`, "repo", "export", "r", dir, "--as", "borgstore")
	was, err := os.Stat(filepath.Join(source, "config", "id"))
	is, isErr := os.Stat(filepath.Join(dir, "config", "id"))
	if errors.Join(err, isErr) != nil || !os.SameFile(was, is) {
		t.Errorf("the same file: %v, %v", err, isErr)
	}
	call(0, `0 items, .* by hard links, and 6, .* by copies; 6, .*, read again and as they were written`, "repo", "export", "r", dir+"-verified", "--as", "borgstore", "--copy", "--verify")
	paths := repotest.BlobPaths(t, filepath.Join(data, "r"))
	for _, path := range paths {
		if body, err := os.ReadFile(path); err == nil && string(body) == "pack 1" {
			if err := os.WriteFile(path, []byte("pack X"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	out := call(3, `1 items are not in it`, "repo", "export", "r", dir+"2", "--as", "borgstore", "--copy", "--json")
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
}
