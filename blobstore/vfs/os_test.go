package vfs_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"packhouse/blobstore/vfs"
)

func create(t *testing.T, name, content string) vfs.File {
	t.Helper()
	file, err := vfs.OS().Create(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	if _, err := file.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestOSFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a")
	file := create(t, name, "0123456789")
	if err := file.Sync(); err != nil {
		t.Fatal(err)
	}
	if info, err := vfs.OS().Stat(name); err != nil || info.Mode() != 0o600 || info.Size() != 10 {
		t.Errorf("stat: got %v, %v; want mode 0600, 10 bytes", info, err)
	}
	read, err := vfs.OS().Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	flags, err := unix.FcntlInt(read.(vfs.OSFiler).OSFile().Fd(), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("descriptor flags: got %#x, %v; want close-on-exec", flags, err)
	}
	if _, err := read.Seek(4, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(read); err != nil || string(rest) != "456789" {
		t.Errorf("read: got %q, %v", rest, err)
	}
	if _, err := read.Write([]byte("x")); err == nil {
		t.Error("a file opened for reading was written")
	}
}

func TestOSWriteback(t *testing.T) {
	file := create(t, filepath.Join(t.TempDir(), "a"), strings.Repeat("x", 1<<20))
	starter, ok := file.(vfs.WritebackStarter)
	if !ok {
		t.Skip("this system has no sync_file_range")
	}
	if err := starter.StartWriteback(0, 1<<20); err != nil {
		t.Errorf("start writeback: %v", err)
	}
	file.Close()
	if err := starter.StartWriteback(0, 1); err == nil {
		t.Error("writeback of a closed file: no error")
	}
	if err := file.Sync(); err == nil {
		t.Error("sync of a closed file: no error")
	}
}

func TestOSAdvice(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a")
	file := create(t, name, strings.Repeat("x", 1<<20))
	adviser, ok := file.(vfs.Adviser)
	if !ok {
		return // hints are for Linux
	}
	if cached, err := adviser.Cached(); err == nil && !cached {
		t.Error("what was just written is not in memory")
	} else if err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM) {
		t.Errorf("cached: %v", err) // Linux before 6.5 cannot say, and a sandbox may forbid to ask
	}
	if err := file.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := adviser.DontNeed(0, 0); err != nil {
		t.Errorf("do not need: %v", err)
	}
	if err := adviser.WillNeed(100, 1<<20); err != nil {
		t.Errorf("will need: %v", err)
	}
	if body, err := os.ReadFile(name); err != nil || strings.Count(string(body), "x") != 1<<20 {
		t.Errorf("read: got %d bytes, %v", len(body), err)
	}
	file.Close()
	if err := adviser.WillNeed(0, 1); err == nil {
		t.Error("hint for a closed file: no error")
	}
}

func TestOSWriteInPlace(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a")
	create(t, name, "0123456789")
	file, err := vfs.OS().OpenWrite(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte("ab"), 4); err != nil {
		t.Fatal(err)
	}
	switch err := file.(vfs.Allocator).Allocate(2, 100); {
	case errors.Is(err, errors.ErrUnsupported):
		t.Log("this file system sets nothing aside")
	case err != nil:
		t.Errorf("allocate: %v", err)
	default:
		if body, err := os.ReadFile(name); err != nil || string(body) != "0123ab6789"+strings.Repeat("\x00", 92) {
			t.Errorf("after allocating: got %q, %v", body, err)
		}
	}
	if err := file.Truncate(5); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 10)
	if n, err := file.ReadAt(b, 0); err != io.EOF || string(b[:n]) != "0123a" {
		t.Errorf("read what is left: got %q, %v", b[:n], err)
	}
	file.Close()
	if err := file.(vfs.Allocator).Allocate(0, 1); err == nil || errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("allocate in a closed file: got %v", err)
	}
}

func TestOSErrors(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	create(t, path("a"), "")
	create(t, path("b"), "")
	if err := os.Symlink(path("a"), path("link")); err != nil {
		t.Fatal(err)
	}
	fsys := vfs.OS()
	_, createErr := fsys.Create(path("a"))
	_, throughErr := fsys.Create(path("link"))
	_, openErr := fsys.Open(path("none"))
	_, linkErr := fsys.Open(path("link"))
	_, openWriteErr := fsys.OpenWrite(path("none"))
	_, linkWriteErr := fsys.OpenWrite(path("link"))
	_, statErr := fsys.Stat(path("none"))
	_, _, spaceErr := fsys.Space(path("none"))
	tests := []struct {
		name string
		err  error
		want error
	}{
		{"create over a file", createErr, fs.ErrExist},
		{"create through a symbolic link", throughErr, fs.ErrExist},
		{"open a missing file", openErr, fs.ErrNotExist},
		{"open a symbolic link", linkErr, syscall.ELOOP},
		{"open a missing file for writing", openWriteErr, fs.ErrNotExist},
		{"open a symbolic link for writing", linkWriteErr, syscall.ELOOP},
		{"stat a missing file", statErr, fs.ErrNotExist},
		{"link over a file", fsys.Link(path("a"), path("b")), fs.ErrExist},
		{"rename a missing file", fsys.Rename(path("none"), path("b")), fs.ErrNotExist},
		{"remove a missing file", fsys.Remove(path("none")), fs.ErrNotExist},
		{"make a directory over a file", fsys.Mkdir(path("a")), fs.ErrExist},
		{"sync a missing directory", fsys.SyncDir(path("none")), fs.ErrNotExist},
		{"space of nothing", spaceErr, fs.ErrNotExist},
		{"remove all of nothing", fsys.RemoveAll(path("none")), nil},
	}
	for _, test := range tests {
		if !errors.Is(test.err, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, test.err, test.want)
		}
		if test.err == nil {
			continue
		}
		if text := vfs.WithoutPath(test.err).Error(); strings.Contains(text, dir) {
			t.Errorf("%s: %q names a path", test.name, text)
		}
	}
	if info, err := fsys.Stat(path("link")); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("stat of a symbolic link: got %v, %v; want the link itself", info, err)
	}
}

func TestOSSpace(t *testing.T) {
	free, total, err := vfs.OS().Space(t.TempDir())
	if err != nil || free <= 0 || free > total {
		t.Errorf("got %d free of %d, %v", free, total, err)
	}
}

func TestOSDirectories(t *testing.T) {
	dir := t.TempDir()
	fsys := vfs.OS()
	d := filepath.Join(dir, "d")
	if err := fsys.Mkdir(d); err != nil {
		t.Fatal(err)
	}
	if info, err := fsys.Stat(d); err != nil || info.Mode() != fs.ModeDir|0o700 {
		t.Errorf("stat: got %v, %v; want mode 0700", info, err)
	}
	create(t, filepath.Join(d, "a"), "x")
	if err := fsys.SyncDir(d); err != nil {
		t.Error(err)
	}
	if err := fsys.Rename(filepath.Join(d, "a"), filepath.Join(d, "b")); err != nil {
		t.Error(err)
	}
	entries, err := fsys.ReadDir(d)
	if err != nil || len(entries) != 1 || entries[0].Name() != "b" {
		t.Errorf("entries: got %v, %v; want b", entries, err)
	}
	if err := fsys.RemoveAll(d); err != nil {
		t.Error(err)
	}
	if _, err := fsys.Stat(d); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after removing: %v", err)
	}
}
