package vfstest_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
)

// story makes every counted call once.
func story(fsys vfs.FS, dir string) error {
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := fsys.Mkdir(path("d")); err != nil {
		return err
	}
	file, err := fsys.Create(path("a"))
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Write([]byte("0123456789")); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	again, err := fsys.OpenWrite(path("a"))
	if err != nil {
		return err
	}
	defer again.Close()
	if _, err := again.WriteAt([]byte("x"), 3); err != nil {
		return err
	}
	if err := again.(vfs.Allocator).Allocate(0, 20); err != nil {
		return err
	}
	if err := again.Truncate(5); err != nil {
		return err
	}
	if err := fsys.Link(path("a"), path("b")); err != nil {
		return err
	}
	if err := fsys.Rename(path("b"), path("c")); err != nil {
		return err
	}
	if err := fsys.Remove(path("a")); err != nil {
		return err
	}
	if err := fsys.RemoveAll(path("d")); err != nil {
		return err
	}
	return fsys.SyncDir(dir)
}

var storyCalls = []vfstest.Call{
	{Op: vfstest.Mkdir, Name: "d"}, {Op: vfstest.Create, Name: "a"}, {Op: vfstest.Write, Name: "a"},
	{Op: vfstest.Sync, Name: "a"}, {Op: vfstest.OpenWrite, Name: "a"}, {Op: vfstest.Write, Name: "a"},
	{Op: vfstest.Allocate, Name: "a"}, {Op: vfstest.Truncate, Name: "a"}, {Op: vfstest.Link, Name: "b"}, {Op: vfstest.Rename, Name: "c"},
	{Op: vfstest.Remove, Name: "a"}, {Op: vfstest.RemoveAll, Name: "d"}, {Op: vfstest.SyncDir, Name: "."},
}

// calls returns f's with names relative to dir.
func calls(t *testing.T, f *vfstest.Failing, dir string) []vfstest.Call {
	t.Helper()
	all := f.Calls()
	for i := range all {
		name, err := filepath.Rel(dir, all[i].Name)
		if err != nil {
			t.Fatal(err)
		}
		all[i].Name = name
	}
	return all
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	list := []string{}
	for _, entry := range entries {
		list = append(list, entry.Name())
	}
	return list
}

func TestFailingLists(t *testing.T) {
	dir := t.TempDir()
	f := vfstest.NewFailing(vfs.OS())
	if err := story(f, dir); err != nil {
		t.Fatal(err)
	}
	if got := calls(t, f, dir); !slices.Equal(got, storyCalls) {
		t.Errorf("got %v, want %v", got, storyCalls)
	}
	if f.Hit() {
		t.Error("a call failed that nobody asked for")
	}
	f.Reset()
	if got := f.Calls(); len(got) != 0 {
		t.Errorf("after Reset: got %v, want none", got)
	}
}

func TestFailingNth(t *testing.T) {
	for n := 1; n <= len(storyCalls); n++ {
		for _, when := range []vfstest.When{vfstest.Before, vfstest.After} {
			dir := t.TempDir()
			f := vfstest.NewFailing(vfs.OS())
			f.FailAt(n, when, syscall.EIO)
			err := story(f, dir)
			if !errors.Is(err, syscall.EIO) || !f.Hit() {
				t.Fatalf("%d %v: got %v, hit %v; want EIO", n, when, err, f.Hit())
			}
			if bare := vfs.WithoutPath(err); bare != syscall.EIO {
				t.Errorf("%d %v: error without path: got %v", n, when, bare)
			}
			if got := calls(t, f, dir); !slices.Equal(got, storyCalls[:n]) {
				t.Errorf("%d %v: got %v, want %v", n, when, got, storyCalls[:n])
			}
		}
	}
}

// TestFailingEffect looks at what each kind of failure leaves.
func TestFailingEffect(t *testing.T) {
	tests := []struct {
		n      int
		before []string
		after  []string
	}{
		{1, []string{}, []string{"d"}},
		{2, []string{"d"}, []string{"a", "d"}},
		{9, []string{"a", "d"}, []string{"a", "b", "d"}},
		{10, []string{"a", "b", "d"}, []string{"a", "c", "d"}},
		{11, []string{"a", "c", "d"}, []string{"c", "d"}},
		{12, []string{"c", "d"}, []string{"c"}},
	}
	for _, test := range tests {
		for when, want := range map[vfstest.When][]string{vfstest.Before: test.before, vfstest.After: test.after} {
			dir := t.TempDir()
			f := vfstest.NewFailing(vfs.OS())
			f.FailAt(test.n, when, syscall.EIO)
			if err := story(f, dir); err == nil {
				t.Errorf("%d %v: no error", test.n, when)
			}
			if got := names(t, dir); !slices.Equal(got, want) {
				t.Errorf("%d %v: got %v, want %v", test.n, when, got, want)
			}
		}
	}
}

func TestFailingWrite(t *testing.T) {
	for when, want := range map[vfstest.When]int{vfstest.Before: 0, vfstest.After: 5} {
		dir := t.TempDir()
		f := vfstest.NewFailing(vfs.OS())
		file, err := f.Create(filepath.Join(dir, "a"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		f.FailAt(1, when, syscall.ENOSPC)
		n, err := file.Write([]byte("0123456789"))
		if n != want || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%v: got %d, %v; want %d, ENOSPC", when, n, err, want)
		}
		if info, err := file.Stat(); err != nil || info.Size() != int64(want) {
			t.Errorf("%v: size: got %d, %v; want %d", when, info.Size(), err, want)
		}
		if _, err := file.Write([]byte("more")); err != nil {
			t.Errorf("%v: the call after: %v", when, err)
		}
	}
}

func TestStopAt(t *testing.T) {
	dir := t.TempDir()
	f := vfstest.NewFailing(vfs.OS())
	f.StopAt(2, vfstest.After, syscall.EIO)
	for i, want := range []error{nil, syscall.EIO, syscall.EIO} {
		if err := f.Mkdir(filepath.Join(dir, string(rune('a'+i)))); !errors.Is(err, want) {
			t.Errorf("call %d: got %v, want %v", i+1, err, want)
		}
	}
	if got, want := names(t, dir), []string{"a", "b"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	f.Reset()
	if err := f.Remove(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error of the file system: got %v, want not exist", err)
	}
}

func TestFailOp(t *testing.T) {
	dir := t.TempDir()
	f := vfstest.NewFailing(vfs.OS())
	mkdir := func(name string) error { return f.Mkdir(filepath.Join(dir, name)) }
	if err := mkdir("before"); err != nil {
		t.Fatal(err)
	}
	f.FailOp(vfstest.Mkdir, 2, vfstest.Before, syscall.EIO)
	if err := errors.Join(mkdir("a"), f.SyncDir(dir), f.SyncDir(dir)); err != nil || f.Hit() {
		t.Errorf("before it: got %v, hit %v", err, f.Hit())
	}
	if err := mkdir("b"); !errors.Is(err, syscall.EIO) || !f.Hit() {
		t.Errorf("got %v, hit %v; want EIO", err, f.Hit())
	}
	if err := errors.Join(mkdir("c"), mkdir("d")); err != nil {
		t.Errorf("after it: got %v", err)
	}
}

func TestFailRead(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "a")
	if err := os.WriteFile(name, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := vfstest.NewFailing(vfs.OS())
	f.FailRead(name, 4, 2, syscall.EIO)
	file, err := f.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, test := range []struct {
		off  int64
		n    int
		want error
	}{{0, 4, nil}, {6, 4, nil}, {3, 2, syscall.EIO}, {5, 1, syscall.EIO}, {0, 10, syscall.EIO}} {
		if _, err := file.ReadAt(make([]byte, test.n), test.off); !errors.Is(err, test.want) {
			t.Errorf("%d from %d: got %v, want %v", test.n, test.off, err, test.want)
		}
	}
	if n, err := file.Read(make([]byte, 4)); n != 4 || err != nil {
		t.Errorf("read before it: %d, %v", n, err)
	}
	if _, err := file.Read(make([]byte, 4)); !errors.Is(err, syscall.EIO) {
		t.Errorf("read of it: got %v, want EIO", err)
	}
	f.Reset()
	if _, err := file.ReadAt(make([]byte, 10), 0); err != nil {
		t.Errorf("after Reset: %v", err)
	}
}
