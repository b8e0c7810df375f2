package vfs_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"

	"packhouse/blobstore/vfs"
)

// openTree opens a directory with the file a/b/file, a symbolic link beside each of its parts, and a file elsewhere that none of these may lead to.
func openTree(t *testing.T) (tree vfs.Tree, top string) {
	t.Helper()
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	tree, err = makeTree(top)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tree.Close() })
	return tree, top
}

func makeTree(top string) (vfs.Tree, error) {
	in := filepath.Join(top, "tree")
	err := errors.Join(
		os.MkdirAll(filepath.Join(in, "a", "b"), 0o700), os.WriteFile(filepath.Join(in, "a", "b", "file"), []byte("file"), 0o640),
		os.MkdirAll(filepath.Join(top, "else", "b"), 0o700), os.WriteFile(filepath.Join(top, "else", "b", "file"), []byte("else"), 0o600),
		os.Symlink("../else", filepath.Join(in, "up")), os.Symlink("a", filepath.Join(in, "within")), os.Symlink("../else", filepath.Join(in, "a", "up")),
		os.Symlink(filepath.Join(top, "else", "b", "file"), filepath.Join(in, "link")),
	)
	if err != nil {
		return nil, err
	}
	return vfs.OpenTree(vfs.OS(), in)
}

func TestTree(t *testing.T) {
	tree, top := openTree(t)
	b, err := tree.Dir("a/b")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	info, err := b.Stat("file")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.Lstat(filepath.Join(top, "tree", "a", "b", "file"))
	if err != nil {
		t.Fatal(err)
	}
	st, wantSt := info.Sys().(*syscall.Stat_t), want.Sys().(*syscall.Stat_t)
	if info.Name() != "file" || info.Mode() != want.Mode() || info.Size() != want.Size() || !info.ModTime().Equal(want.ModTime()) || info.IsDir() ||
		st.Dev != wantSt.Dev || st.Ino != wantSt.Ino || st.Uid != wantSt.Uid || st.Gid != wantSt.Gid || st.Nlink != wantSt.Nlink || st.Mode != wantSt.Mode || st.Ctim != wantSt.Ctim {
		t.Errorf("got %+v, want %+v", st, wantSt)
	}
	if p, ok := info.(vfs.Placed); !ok || p.Fixed() {
		t.Errorf("placed: %v, %v", ok, p)
	}
	file, err := b.Open("file")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(file)
	if err = errors.Join(err, file.Close()); err != nil || string(body) != "file" {
		t.Errorf("got %q, %v", body, err)
	}
	entries, err := tree.ReadDir()
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name()+" "+entry.Type().String())
	}
	if want := []string{"a d---------", "link L---------", "up L---------", "within L---------"}; err != nil || !reflect.DeepEqual(names, want) {
		t.Errorf("got %q, %v", names, err)
	}
	second := filepath.Join(top, "second")
	if err := b.Link("file", second); err != nil {
		t.Fatal(err)
	}
	if err := b.Link("file", second); !errors.Is(err, fs.ErrExist) {
		t.Errorf("link to a name that is taken: %v", err)
	}
	if now, err := os.Lstat(second); err != nil || !os.SameFile(now, want) {
		t.Errorf("the second name: %v, %v", now, err)
	}
	if err := errors.Join(b.Remove("file"), tree.Remove("link")); err != nil {
		t.Error(err)
	}
	if _, err := b.Stat("file"); !errors.Is(err, fs.ErrNotExist) || !vfs.Replaced(err) {
		t.Errorf("removed: %v", err)
	}
}

// TestTreeHasNoWayOut: neither a link nor a name with directories in it leads out of a tree, and a link within it is not followed either.
func TestTreeHasNoWayOut(t *testing.T) {
	tree, top := openTree(t)
	for _, name := range []string{"up", "up/b", "within", "within/b", "a/up", "a/up/b", "link", "none", "a/b/file"} {
		if below, err := tree.Dir(name); err == nil || !vfs.Replaced(err) {
			t.Errorf("%s: got %v, %v", name, below, err)
		}
		// As where there is no openat2.
		if err := vfs.Stepwise(filepath.Join(top, "tree", name)); !vfs.Replaced(err) {
			t.Errorf("%s, part by part: got %v", name, err)
		}
	}
	if err := vfs.Stepwise(filepath.Join(top, "tree", "a", "b")); err != nil {
		t.Errorf("part by part: %v", err)
	}
	for _, name := range []string{"..", "../else", "a/../../else", "/", top, ""} {
		if below, err := tree.Dir(name); err == nil {
			t.Errorf("%s: got %v", name, below)
		}
	}
	for _, name := range []string{"", ".", "..", "a/b", "../else", "/etc"} {
		_, statErr := tree.Stat(name)
		_, openErr := tree.Open(name)
		for _, err := range []error{statErr, openErr, tree.Link(name, filepath.Join(top, "new")), tree.Remove(name)} {
			if !errors.Is(err, syscall.EINVAL) {
				t.Errorf("%q: got %v", name, err)
			}
		}
	}
	if file, err := tree.Open("link"); err == nil {
		t.Errorf("open: got %v", file)
	}
	if file, err := tree.Open("a"); err == nil {
		t.Errorf("open of a directory: got %v", file)
	}
	if info, err := tree.Stat("link"); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("stat: %v, %v", info, err)
	}
	second := filepath.Join(top, "second")
	if err := tree.Link("link", second); err != nil {
		t.Error(err)
	}
	if info, err := os.Lstat(second); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("a link to a link: %v, %v", info, err)
	}
	if err := os.Rename(filepath.Join(top, "tree"), filepath.Join(top, "moved")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("else", filepath.Join(top, "tree")); err != nil {
		t.Fatal(err)
	}
	b, err := tree.Dir("a/b")
	if err != nil {
		t.Fatalf("of a tree that was moved: %v", err)
	}
	defer b.Close()
	if again, err := vfs.OpenTree(vfs.OS(), filepath.Join(top, "tree", "b")); err == nil {
		t.Errorf("a tree behind a link: %v", again)
	}
	if again, err := vfs.OpenTree(vfs.OS(), "tree"); err == nil {
		t.Errorf("a tree by a relative path: %v", again)
	}
}

// TestTreeDoesNotWaitForPipes: what has become a pipe is not opened.
func TestTreeDoesNotWaitForPipes(t *testing.T) {
	tree, top := openTree(t)
	if err := syscall.Mkfifo(filepath.Join(top, "tree", "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if file, err := tree.Open("pipe"); err == nil {
		t.Errorf("got %v", file)
	}
	if info, err := tree.Stat("pipe"); err != nil || info.Mode().Type() != fs.ModeNamedPipe {
		t.Errorf("got %v, %v", info, err)
	}
}
