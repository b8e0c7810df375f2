package vfs_test

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"packhouse/blobstore/vfs"
)

// TestMemoryIsAFileSystem does the same at random to the one in memory and to the system's, and wants the same of both.
func TestMemoryIsAFileSystem(t *testing.T) {
	root := t.TempDir()
	memory, real := vfs.NewMemory(1<<20), vfs.OS()
	random := rand.New(rand.NewPCG(1, 2))
	names := []string{"a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "x/y"}
	name := func() string { return names[random.IntN(len(names))] }
	kinds := []error{fs.ErrExist, fs.ErrNotExist, syscall.ENOTEMPTY, nil}
	kind := func(err error) (found error) {
		for _, k := range kinds {
			if k != nil && errors.Is(err, k) {
				return k
			}
		}
		if err != nil {
			return errors.New("other")
		}
		return nil
	}
	read := func(fsys vfs.FS, path string) (string, error) {
		f, err := fsys.Open(path)
		if err != nil {
			return "", err
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.IsDir() {
			return "", syscall.EISDIR // the system opens a directory, and reads nothing
		}
		if _, err := f.Seek(1, io.SeekStart); err != nil {
			return "", err
		}
		rest, err := io.ReadAll(f)
		head := make([]byte, 1)
		if n, headErr := f.ReadAt(head, 0); n == 0 && headErr != io.EOF {
			err = errors.Join(err, headErr)
		}
		return string(head) + string(rest), err
	}
	writeTo := func(fsys vfs.FS, path, text string) error {
		f, err := fsys.Create(path)
		if err != nil {
			return err
		}
		_, err = io.WriteString(f, text)
		return errors.Join(err, f.Sync(), f.Close())
	}
	list := func(fsys vfs.FS, path string) (text string, err error) {
		entries, err := fsys.ReadDir(path)
		for _, entry := range entries {
			info, infoErr := entry.Info()
			if infoErr != nil {
				return "", infoErr
			}
			text += entry.Name() + map[bool]string{true: "/", false: "="}[entry.IsDir()]
			if !entry.IsDir() {
				text += string(rune('0' + info.Size()))
			}
			text += " "
		}
		return text, err
	}
	for range 5000 {
		a, b, n := name(), name(), random.IntN(9)
		text := "01234567"[:n%9]
		var got, want string
		var gotErr, wantErr error
		both := func(do func(fsys vfs.FS, prefix string) (string, error)) {
			got, gotErr = do(memory, "/")
			want, wantErr = do(real, root+"/")
		}
		what := ""
		switch random.IntN(9) {
		case 8:
			off, size, shortens := int64(random.IntN(9)), int64(random.IntN(9)), random.IntN(2) == 0
			what = "write into " + a
			both(func(fsys vfs.FS, p string) (string, error) {
				f, err := fsys.OpenWrite(p + a)
				if err != nil {
					return "", err
				}
				defer f.Close()
				if shortens {
					return "", f.Truncate(size)
				}
				n, err := f.WriteAt([]byte(text), off)
				return string(rune('0' + n)), err
			})
		case 0, 1:
			what = "create " + a
			both(func(fsys vfs.FS, p string) (string, error) { return "", writeTo(fsys, p+a, text) })
		case 2:
			what = "mkdir " + a
			both(func(fsys vfs.FS, p string) (string, error) { return "", fsys.Mkdir(p + a) })
		case 3:
			what = "remove " + a
			both(func(fsys vfs.FS, p string) (string, error) { return "", fsys.Remove(p + a) })
		case 4:
			what = "link " + a + " " + b
			if info, err := real.Stat(filepath.Join(root, a)); a == b || err == nil && info.IsDir() {
				continue // what nobody does
			}
			both(func(fsys vfs.FS, p string) (string, error) { return "", fsys.Link(p+a, p+b) })
			if errors.Is(gotErr, fs.ErrNotExist) && errors.Is(wantErr, fs.ErrExist) || errors.Is(gotErr, fs.ErrExist) && errors.Is(wantErr, fs.ErrNotExist) {
				continue // wrong in two ways
			}
		case 5:
			what = "read " + a
			both(func(fsys vfs.FS, p string) (string, error) { return read(fsys, p+a) })
		case 6:
			what = "list " + a
			both(func(fsys vfs.FS, p string) (string, error) { return list(fsys, p+a) })
		case 7:
			if random.IntN(10) > 0 {
				continue
			}
			what = "remove all " + a
			both(func(fsys vfs.FS, p string) (string, error) { return "", fsys.RemoveAll(p + a) })
		}
		if errors.Is(wantErr, syscall.ENOTDIR) && gotErr == nil {
			continue // nothing is gone that was not there
		}
		if got != want || kind(gotErr) != kind(wantErr) && (kind(gotErr) == nil || kind(wantErr) == nil) {
			t.Fatalf("%s: got %q, %v; the system's %q, %v", what, got, gotErr, want, wantErr)
		}
	}
}

// What is removed gives its bytes back, once nobody reads it any more.
func TestMemoryIsBounded(t *testing.T) {
	m := vfs.NewMemory(10)
	f, err := m.Create("/a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("0123456789")); err != nil {
		t.Fatal(err)
	}
	_, writeErr := f.Write([]byte("x"))
	_, atErr := f.WriteAt([]byte("xx"), 9)
	for _, err := range []error{writeErr, atErr, f.Truncate(11)} {
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("a byte too many: got %v, want ENOSPC", err)
		}
	}
	if _, err := f.WriteAt([]byte("9"), 9); err != nil {
		t.Errorf("a byte over another: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.Link("/a", "/b"); err != nil {
		t.Fatal(err)
	}
	r, err := m.Open("/a")
	if err != nil {
		t.Fatal(err)
	}
	free := func(want int64) {
		t.Helper()
		if got, _, err := m.Space("/"); err != nil || got != want {
			t.Errorf("free: got %d, %v; want %d", got, err, want)
		}
	}
	free(0)
	for _, name := range []string{"/a", "/b"} {
		if err := m.Remove(name); err != nil {
			t.Fatal(err)
		}
		free(0)
	}
	if text, err := io.ReadAll(r); err != nil || string(text) != "0123456789" {
		t.Errorf("a file that was removed while it is read: got %q, %v", text, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	free(10)
	f, err = m.Create("/c")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("new")); err != nil {
		t.Fatal(err)
	}
	if err := m.Rename("/c", "/d"); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Open("/c"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old name: %v", err)
	}
}
