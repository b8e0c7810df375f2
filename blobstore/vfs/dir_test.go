package vfs_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"packhouse/blobstore/vfs"
)

// openDir opens a new directory that the test may move away.
func openDir(t *testing.T) (d vfs.Dir, name string) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(name, 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := vfs.OS().(vfs.DirOpener).OpenDir(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, name
}

func writeVia(t *testing.T, fsys vfs.FS, name, content string) {
	t.Helper()
	f, err := fsys.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// Every call goes to the directory that was opened: not to one that took its name.
func TestDirIsFoundWhereItLies(t *testing.T) {
	d, name := openDir(t)
	away := name + ".away"
	if err := os.Rename(name, away); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(name, 0o700); err != nil {
		t.Fatal(err)
	}
	in := func(parts ...string) string { return filepath.Join(append([]string{name}, parts...)...) }

	if err := d.Mkdir(in("sub")); err != nil {
		t.Fatal(err)
	}
	writeVia(t, d, in("sub", "a"), "bytes")
	if err := d.Link(in("sub", "a"), in("b")); err != nil {
		t.Fatal(err)
	}
	if err := d.Rename(in("b"), in("c")); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{in(), in("sub")} {
		if err := d.SyncDir(dir); err != nil {
			t.Errorf("sync %s: %v", dir, err)
		}
	}
	f, err := d.Open(in("c"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if text, err := io.ReadAll(f); err != nil || string(text) != "bytes" {
		t.Errorf("read: got %q, %v", text, err)
	}
	w, err := d.OpenWrite(in("c"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteAt([]byte("B"), 0); err != nil {
		t.Error(err)
	}
	w.Close()
	if text, err := os.ReadFile(filepath.Join(away, "c")); err != nil || string(text) != "Bytes" {
		t.Errorf("written in place: got %q, %v", text, err)
	}
	here, err := d.Stat(in("sub", "a"))
	if err != nil {
		t.Fatal(err)
	}
	if there, err := os.Lstat(filepath.Join(away, "c")); err != nil || !os.SameFile(here, there) {
		t.Errorf("stat: not the file in the directory that was moved (%v)", err)
	}
	entries, err := d.ReadDir(in())
	if err != nil || len(entries) != 2 || entries[0].Name() != "c" || entries[1].Name() != "sub" {
		t.Fatalf("list: got %v, %v", entries, err)
	}
	if info, err := entries[0].Info(); err != nil || info.Size() != 5 {
		t.Errorf("info of a listed file: got %v, %v; want 5 bytes", info, err)
	}
	if free, total, err := d.Space(in()); err != nil || free <= 0 || total < free {
		t.Errorf("space: got %d, %d, %v", free, total, err)
	}
	if left, err := os.ReadDir(name); err != nil || len(left) > 0 {
		t.Errorf("the directory that took the name holds %v (%v)", left, err)
	}

	if err := d.Remove(in("c")); err != nil {
		t.Error(err)
	}
	if err := d.Mkdir(in("sub", "deep")); err != nil {
		t.Fatal(err)
	}
	writeVia(t, d, in("sub", "deep", "x"), "")
	if err := os.Symlink(t.TempDir(), filepath.Join(away, "sub", "link")); err != nil {
		t.Fatal(err)
	}
	if err := d.RemoveAll(in("sub")); err != nil {
		t.Error(err)
	}
	if err := d.RemoveAll(in("sub")); err != nil {
		t.Errorf("remove what is gone: %v", err)
	}
	if left, err := os.ReadDir(away); err != nil || len(left) > 0 {
		t.Errorf("after removing all: %v (%v)", left, err)
	}
}

// Errors are those of package os: callers look at them with errors.Is, and at the operation.
func TestDirErrors(t *testing.T) {
	d, name := openDir(t)
	writeVia(t, d, filepath.Join(name, "a"), "")
	if _, err := d.Create(filepath.Join(name, "a")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create twice: %v", err)
	}
	if _, err := d.Stat(filepath.Join(name, "x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat of nothing: %v", err)
	}
	if err := d.Link(filepath.Join(name, "a"), filepath.Join(name, "a")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("link twice: %v", err)
	}
	if err := d.Remove(filepath.Join(name, "x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("remove nothing: %v", err)
	}
	if err := os.Symlink("a", filepath.Join(name, "l")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Open(filepath.Join(name, "l")); err == nil {
		t.Error("a symbolic link was opened")
	}
	// A name beside the directory is none in it.
	beside := name + "x"
	writeVia(t, d, beside, "beside")
	if text, err := os.ReadFile(beside); err != nil || string(text) != "beside" {
		t.Errorf("a name beside the directory: got %q, %v", text, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Open(filepath.Join(name, "a")); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("open after close: got %v, want fs.ErrClosed", err)
	}
	if err := d.Mkdir(filepath.Join(name, "later")); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("mkdir after close: got %v, want fs.ErrClosed", err)
	}
}

func TestReadOnlyIsTold(t *testing.T) {
	d, name := openDir(t)
	for what, fsys := range map[string]vfs.FS{"os": vfs.OS(), "dir": d} {
		if readOnly, err := fsys.(vfs.ReadOnlyTeller).ReadOnly(name); err != nil || readOnly {
			t.Errorf("%s: got %v, %v; want a file system that takes writes", what, readOnly, err)
		}
	}
}
