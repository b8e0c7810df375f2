package adopt_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/repo/adopt"
	"packhouse/repo/repotest"
)

// strict is a file system that refuses links of some files, and has little space, as far as it says.
type strict struct {
	vfs.FS
	refuse func(path string) error // nil: it may be linked
	free   int64                   // 0: as it is
	inodes int64                   // 0: as it is
}

func (s strict) OpenTree(name string) (vfs.Tree, error) {
	return vfstest.OpenTree(s.FS, name, vfstest.TreeHooks{Link: func(from, to string, do func() error) error {
		if s.refuse != nil {
			if err := s.refuse(from); err != nil {
				return &os.LinkError{Op: "link", Old: from, New: to, Err: err}
			}
		}
		return do()
	}})
}

func (s strict) Space(name string) (free, total int64, err error) {
	if s.free > 0 {
		return s.free, 1 << 40, nil
	}
	return s.FS.Space(name)
}

func (s strict) Inodes(name string) (free, total int64, err error) {
	if s.inodes > 0 {
		return s.inodes, 1 << 20, nil
	}
	return s.FS.Inodes(name)
}

// all refuses every link.
func all(err error) func(string) error { return func(string) error { return err } }

// TestTrial: what the kernel refuses, and what the disk is short of, is told in one line that says what to do, by a look and by an adoption, and nothing is
// left on either side.
func TestTrial(t *testing.T) {
	for _, c := range []struct {
		name string
		fs   strict
		want string
	}{
		{"owner", strict{refuse: all(syscall.EPERM)}, "as the user whom the directory belongs to (sudo -u)"},
		{"data directory", strict{refuse: all(syscall.EACCES)}, "no name can be made"},
		{"read-only", strict{refuse: all(syscall.EROFS)}, "no name can be made"},
		{"full", strict{refuse: all(syscall.ENOSPC)}, "free some space"},
		{"no space for the index", strict{free: 64 << 20}, "the names and the index of 10 files need"},
		{"no space for copies", strict{refuse: all(syscall.EXDEV), free: 64<<20 + 10<<10}, "copies of 10 that are on another file system"},
		{"no inodes for directories", strict{inodes: 200}, "has inodes for 200"},
		{"no inodes for copies", strict{refuse: all(syscall.EXDEV), inodes: 310}, "has inodes for 310"},
	} {
		t.Run(c.name, func(t *testing.T) {
			source, data := sides(t)
			smallTree().write(t, source)
			before := inodes(t, source)
			o := options(source, data)
			c.fs.FS = vfs.OS()
			o.FS = c.fs
			s, lookErr := adopt.Look(ctx, o)
			if lookErr != nil {
				t.Fatal(lookErr)
			}
			_, runErr := adopt.Run(ctx, o)
			for _, err := range []error{s.Err(true), runErr} {
				if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("got %v, want %q", err, c.want)
				}
			}
			if left, err := os.ReadDir(data); err != nil || len(left) != 0 {
				t.Errorf("left: %v, %v", left, err)
			}
			wantSame(t, "the source", inodes(t, source), before)
		})
	}
}

// TestAsManyNamesAsAFileCanHave: such a file is copied.
func TestAsManyNamesAsAFileCanHave(t *testing.T) {
	source, data := sides(t)
	items := smallTree()
	items.write(t, source)
	o := options(source, data)
	o.FS = strict{FS: vfs.OS(), refuse: func(path string) error {
		if strings.HasSuffix(path, "config/id") {
			return syscall.EMLINK
		}
		return nil
	}}
	mustAdopt(t, o)
	_, a := open(t, data)
	wantItems(t, a, source, items)
	if u := a.Repository().Usage(); u.UnverifiedItems != int64(len(items)-1) {
		t.Errorf("usage: %+v", u)
	}
}

// setAttributes sets attributes of a file as chattr does, until the test ends.
func setAttributes(t *testing.T, path string, attributes int) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(unix.IoctlSetPointerInt(int(file.Fd()), unix.FS_IOC_SETFLAGS, 0), file.Close()); err != nil {
			t.Error(err)
		}
	})
	if err := unix.IoctlSetPointerInt(int(file.Fd()), unix.FS_IOC_SETFLAGS, attributes); err != nil {
		t.Skipf("attributes of files cannot be set here, that takes root: %v", err)
	}
}

// TestImmutable: each file that the kernel will not link is named before anything is done, not only the first of an owner.
func TestImmutable(t *testing.T) {
	const immutable, appendOnly = 0x10, 0x20 // FS_IMMUTABLE_FL, FS_APPEND_FL
	source, data := sides(t)
	smallTree().write(t, source)
	setAttributes(t, filepath.Join(source, "config", "id"), immutable)
	setAttributes(t, filepath.Join(source, "config", "manifest"), appendOnly)
	s, err := adopt.Run(ctx, options(source, data))
	if err == nil || !strings.Contains(err.Error(), "2 files cannot be adopted; the first is config/id: it has the attribute immutable or append-only") {
		t.Errorf("got %v, %+v", err, s)
	}
	if left, err := os.ReadDir(data); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestBindMountInSource: a look tells which files lie on another mount of the same file system, where only the kernel knows that they cannot be linked.
func TestBindMountInSource(t *testing.T) {
	source, data := sides(t)
	items := smallTree()
	items.write(t, source)
	packs := filepath.Join(source, "packs")
	if err := unix.Mount(packs, packs, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("nothing can be mounted here, that takes root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(packs, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s := mustAdopt(t, options(source, data))
	if s.Method != "link" || s.Copies.Files != 6 || s.Copies.Bytes == 0 || s.Clones {
		t.Errorf("survey: %+v", s)
	}
	_, a := open(t, data)
	wantItems(t, a, source, items)
	if u := a.Repository().Usage(); u.UnverifiedItems != int64(len(items)-6) {
		t.Errorf("usage: %+v", u)
	}
}

// TestRealClones: between parts of a file system that can clone, nothing is copied: the clones share their blocks with the source.
func TestRealClones(t *testing.T) {
	one, data := repotest.CloningDir(t)
	source := filepath.Join(one, "source")
	items := smallTree()
	body := strings.Repeat("a large pack", 1<<18)
	items["packs/"+sha(body)[:2]+"/"+sha(body)] = body
	items.write(t, source)
	before := inodes(t, source)
	s := mustAdopt(t, options(source, data))
	if s.Method != "copy" || !s.Clones || s.Copies.Files != int64(len(items)) {
		t.Errorf("survey: %+v", s)
	}
	wantSame(t, "the source", inodes(t, source), before)
	_, a := open(t, data)
	wantItems(t, a, source, items)
	if u := a.Repository().Usage(); u.UnverifiedItems != int64(len(items)) {
		t.Errorf("usage: %+v", u)
	}
	shared := false
	for _, path := range repotest.BlobPaths(t, filepath.Join(data, "r")) {
		shared = shared || repotest.Shared(t, path)
	}
	if !shared {
		t.Error("no blob shares blocks with the source")
	}
}
