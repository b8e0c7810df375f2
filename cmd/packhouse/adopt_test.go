package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/repo/adopt"
	"packhouse/repo/layout"
)

// borgDir makes a directory as borg leaves it, an hour ago, with n packs.
func borgDir(t *testing.T, n int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "borg")
	files := map[string]string{"config/manifest": "m", "config/id": "i", "archives/" + strings.Repeat("0", 64): ""}
	for i := range n {
		body := fmt.Sprint("pack ", i)
		files[fmt.Sprintf("packs/ab/%x", sha256.Sum256([]byte(body)))] = body
	}
	old := time.Now().Add(-time.Hour)
	for name, body := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(body), 0o600), os.Chtimes(path, old, old)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestAdopt: adopting, what is told of it, and the removal of what was adopted when all of it has been read.
func TestAdopt(t *testing.T) {
	data, source := t.TempDir(), borgDir(t, 3)
	call := func(wantCode int, want string, args ...string) {
		t.Helper()
		code, out, errs := runHere(t, args...)
		if code != wantCode || !match(want, out+errs) {
			t.Errorf("%v: got exit code %d, %q, %q; want %d and %s", args, code, out, errs, wantCode, want)
		}
	}
	call(2, `needs a DIR`, "adopt", "--as", "r", "-d", data)
	call(2, `--as NAME is missing`, "adopt", source, "-d", data)
	call(1, `there is no directory`, "adopt", source+"x", "--as", "r", "-d", data)
	call(2, `in the directory to adopt`, "adopt", filepath.Dir(data), "--as", "r", "-d", data)
	call(1, `is empty`, "adopt", t.TempDir(), "--as", "r", "-d", data)
	call(0, `6 files, .* would become items by hard links`, "adopt", source, "--as", "r", "-d", data, "--dry-run")
	call(1, `no such repository`, "repo", "info", "r", "-d", data)
	call(0, `adopted as r in`, "adopt", source, "--as", "r", "-d", data)
	call(1, `its files are those of the repository of Packhouse in `+filepath.Join(data, "r"), "adopt", filepath.Join(data, "r", "blobs"), "--as", "q", "--layout", "borgstore", "-d", data)
	call(1, `its files are those of the repository of Packhouse in `+filepath.Join(data, "r"), "adopt", data, "--as", "q", "--layout", "borgstore", "-d", t.TempDir())
	call(1, `there is a repository r already`, "adopt", source, "--as", "r", "-d", data)
	call(0, `(?s)adopted +20.*borgstore.*shared with +`+source+`.*unverified +6 items`, "repo", "info", "r", "-d", data)
	call(1, `6 items that were not found sound yet`, "adopt", "--finish", "r", "--yes", "-d", data)
	call(2, `is not a terminal`, "repo", "destroy", "r", "-d", data)
	call(0, `done`, "scrub", "--repo", "r", "--wait", "-d", data)
	if err := os.WriteFile(filepath.Join(source, "config", "new"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	id := filepath.Join(source, "config", "id")
	if err := errors.Join(os.Remove(id), os.WriteFile(id, []byte("another"), 0o600)); err != nil {
		t.Fatal(err)
	}
	call(2, `is not a terminal`, "adopt", "--finish", "r", "-d", data)
	call(0, `(?s)removed 5 files.*kept 1 files.*config/id.*the directory stays`, "adopt", "--finish", "r", "--yes", "-d", data)
	if left, err := os.ReadDir(source); err != nil || len(left) != 1 || left[0].Name() != "config" {
		t.Errorf("left: %v, %v", left, err)
	}
	call(1, `what was adopted as r was removed from `+source, "adopt", "--finish", "r", "--yes", "-d", data)
	call(0, `6 items in the index, .* read, 0 problems`, "check", "r", "--verify", "-d", data)
	code, out, _ := runHere(t, "repo", "info", "r", "-d", data)
	if code != 0 || strings.Contains(out, "shared") || !strings.Contains(out, "adopted") {
		t.Errorf("info: %d, %s", code, out)
	}
	call(1, `was not adopted`, "adopt", "--finish", "none", "--yes", "-d", createdRepository(t, "none"))
}

// createdRepository is a data directory with an empty repository.
func createdRepository(t *testing.T, name string) string {
	t.Helper()
	data := t.TempDir()
	if code, out, errs := runHere(t, "repo", "create", name, "--dialect", "vger", "-d", data); code != 0 {
		t.Fatalf("create: %d, %s, %s", code, out, errs)
	}
	return data
}

// TestAdoptMoves: with --move nothing is left where it came from.
func TestAdoptMoves(t *testing.T) {
	data, source := t.TempDir(), borgDir(t, 3)
	code, out, errs := runHere(t, "adopt", source, "--as", "r", "-d", data, "--move")
	if code != 0 || !match(`removed 6 files`, out) {
		t.Errorf("got %d, %s, %s", code, out, errs)
	}
	if _, err := os.Stat(source); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory: %v", err)
	}
	if code, out, errs := runHere(t, "check", "r", "--verify", "-d", data); code != 0 {
		t.Errorf("check: %d, %s, %s", code, out, errs)
	}
}

// TestAdoptMovesJSON: what scripts read is one value.
func TestAdoptMovesJSON(t *testing.T) {
	code, out, errs := runHere(t, "adopt", borgDir(t, 3), "--as", "r", "-d", t.TempDir(), "--move", "--json")
	var shown struct {
		Files   int
		Removed struct {
			Files int
			Left  bool
		}
	}
	if err := json.Unmarshal([]byte(out), &shown); code != 0 || err != nil || shown.Files != 6 || shown.Removed.Files != 6 || shown.Removed.Left {
		t.Errorf("got %d, %s, %s, %v", code, out, errs, err)
	}
}

// TestAdoptAbandons: an adoption that was interrupted is given up, offline and while a server runs, and its name is free.
func TestAdoptAbandons(t *testing.T) {
	data, source := t.TempDir(), borgDir(t, 3)
	call := func(wantCode int, want string, args ...string) {
		t.Helper()
		code, out, errs := runHere(t, append(args, "-d", data)...)
		if code != wantCode || !match(want, out+errs) {
			t.Errorf("%v: got exit code %d, %q, %q; want %d and %s", args, code, out, errs, wantCode, want)
		}
	}
	interrupt := func() {
		t.Helper()
		o := adopt.Options{Source: source, Into: data, Name: "r", FS: vfstest.NewFailing(vfs.OS())}
		o.FS.(*vfstest.Failing).FailOp(vfstest.Rename, 3, vfstest.Before, syscall.EIO) // the mark, the list, the index
		if _, err := adopt.Run(t.Context(), o); err == nil {
			t.Fatal("adopt: no error")
		}
	}
	call(2, `neither DIR nor --as`, "adopt", source, "--abandon", "r")
	call(2, `give one of them`, "adopt", "--finish", "r", "--abandon", "r")
	call(1, `r: no adoption of that name waits`, "adopt", "--abandon", "r")
	interrupt()
	call(1, `gives it up with --abandon`, "repo", "info", "r")
	call(0, `the adoption as r was given up: 6 files were taken back; `+source+` is as it was`, "adopt", "--abandon", "r")
	call(1, `r: no adoption of that name waits`, "adopt", "--abandon", "r")
	interrupt()
	server := startServer(t, t.TempDir(), "-d", data)
	if err := os.Remove(filepath.Join(source, "config", "id")); err != nil {
		t.Fatal(err)
	}
	call(1, `1 files that were taken in are not in `+source+` any more, such as config/id: nothing was removed`, "adopt", "--abandon", "r")
	call(2, `not a terminal`, "adopt", "--abandon", "r", "--force")
	call(0, `"files": 6`, "adopt", "--abandon", "r", "--force", "--yes", "--json")
	call(0, `created`, "repo", "create", "r", "--dialect", "borgstore")
	call(1, `r is complete: packhouse repo destroy`, "adopt", "--abandon", "r")
	server.stop(t, syscall.SIGTERM)
	if _, err := os.Stat(filepath.Join(source, "config", "manifest")); err != nil {
		t.Error(err)
	}
}

// TestServeOfAnotherServersDirectory: a server that is pointed at the directory of another names it and says what to do; beside repositories of
// its own it only warns.
func TestServeOfAnotherServersDirectory(t *testing.T) {
	source := borgDir(t, 1)
	code, _, errs := runHere(t, "serve", "--listen", "127.0.0.1:0", "-d", source)
	if code != 1 || !match(`BorgStore's file backend.*packhouse adopt `+source+` --as NAME`, errs) {
		t.Errorf("got %d, %s", code, errs)
	}
	if left, err := os.ReadDir(source); err != nil || len(left) != 3 {
		t.Errorf("left: %v, %v", left, err)
	}
	var log bytes.Buffer
	check := func() error {
		log.Reset()
		return checkDataDir(filepath.Dir(source), slog.New(slog.NewTextHandler(&log, nil)), (*resticServer)(nil).ignores)
	}
	if err := check(); err == nil || !match(`has repositories of BorgStore's file backend: `+filepath.Base(source)+`\. .*packhouse adopt `+source+` --as \S+ -d NEW\. Or .*--adopt`, err.Error()) {
		t.Errorf("a directory of stores: %v", err)
	}
	ours := filepath.Join(filepath.Dir(source), "ours")
	if err := errors.Join(os.Mkdir(ours, 0o700), os.WriteFile(filepath.Join(ours, layout.IndexFile), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := check(); err != nil || !match(`packhouse adopt `+source+` --as NAME`, log.String()) {
		t.Errorf("beside a repository of ours: %v, %s", err, log.String())
	}
}

// TestServeOfRestServersDirectory: a server that is pointed at the directory of rest-server names the repositories in it, and what to do; nothing is made there.
// Where the repositories were adopted, it says where.
func TestServeOfRestServersDirectory(t *testing.T) {
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(top, "restic")
	for _, name := range []string{"alice", "bob/laptop", "c1", "c2", "c3", "c4"} {
		resticDir(t, filepath.Join(dir, name))
	}
	if err := os.WriteFile(filepath.Join(dir, ".htpasswd"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, errs := runHere(t, "serve", "--listen", "127.0.0.1:0", "-d", dir)
	if code != 1 || !match(`has repositories of rest-server or restic itself: alice, c1, c2, c3, c4, and 1 more\. .*packhouse adopt `+dir+`/alice --as alice -d NEW\. Or .* in `+dir+`\.packhouse`, errs) || strings.Count(errs, "packhouse: ") != 1 {
		t.Errorf("got %d, %s", code, errs)
	}

	nested := filepath.Join(top, "nested")
	resticDir(t, filepath.Join(nested, "bob", "laptop"))
	if code, _, errs = runHere(t, "serve", "--listen", "127.0.0.1:0", "-d", nested); code != 1 || !match(`itself: bob/laptop\. .*packhouse adopt `+nested+`/bob/laptop --as bob/laptop -d NEW`, errs) {
		t.Errorf("names of two parts: got %d, %s", code, errs)
	}
	if err := os.Mkdir(nested+".packhouse", 0o700); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := runHere(t, "adopt", nested+"/bob/laptop", "--as", "bob/laptop", "-d", nested+".packhouse"); code != 0 {
		t.Fatal(errs)
	}
	if code, _, errs = runHere(t, "serve", "--listen", "127.0.0.1:0", "-d", nested); code != 1 || !match(`was adopted as `+nested+`\.packhouse/bob%2Flaptop: serve that`, errs) {
		t.Errorf("adopted: got %d, %s", code, errs)
	}
	for dir, want := range map[string]int{dir: 7, nested: 1} {
		if left, err := os.ReadDir(dir); err != nil || len(left) != want {
			t.Errorf("left in %s: %v, %v", dir, left, err)
		}
	}
}

// TestUnreachableNames: whoever gives a repository a name that its clients cannot have in a URL is told so, in one line.
func TestUnreachableNames(t *testing.T) {
	for _, tt := range []struct{ name, dialect, want string }{
		{"alice/laptop", "borgstore", "one part"}, {"alice/laptop", "vger", "one part"}, {"alice/laptop", "restic", ""},
		{"mein büro", "borgstore", "escape"}, {"büro", "vger", "escape"}, {"mein büro", "restic", ""},
		{"a@b+c=d,e~f.g_h-i", "borgstore", ""}, {"a@b+c=d,e~f.g_h-i", "vger", ""},
		{"data", "restic", "a word"}, {"alice/locks", "restic", "a word"}, {"data", "borgstore", ""},
	} {
		if got := unreachable(tt.name, tt.dialect); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s for %s: %q, want %q", tt.name, tt.dialect, got, tt.want)
		}
	}
	data, source := t.TempDir(), borgDir(t, 1)
	for _, args := range [][]string{
		{"repo", "create", "alice/laptop", "--dialect", "borgstore"}, {"adopt", source, "--as", "alice/tower", "--dry-run"}, {"adopt", source, "--as", "alice/tower"},
		{"adopt", source, "--as", "alice/tower2", "--layout", "borgstore"},
	} {
		if code, _, errs := runHere(t, append(args, "-d", data)...); code != 0 || !match(`^warning: no client can reach alice/\S+ over the network: .*one part[^\n]*\n`, errs) || strings.Count(errs, "warning") != 1 {
			t.Errorf("%v: %d, %q", args, code, errs)
		}
	}
	if code, _, errs := runHere(t, "repo", "create", "plain", "--dialect", "borgstore", "-d", data); code != 0 || errs != "" {
		t.Errorf("%d, %q", code, errs)
	}
}
