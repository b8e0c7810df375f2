package adopt_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/repo/adopt"
)

// swapping is a file system on which somebody else gives the name of a directory to a symbolic link at a chosen moment.
type swapping struct {
	vfs.FS
	dir, to string
	opens   atomic.Int32 // times that the directory is opened until it is swapped, just before; 0: it never is
	links   atomic.Int32 // links of files in it, likewise
}

func (s *swapping) OpenTree(name string) (vfs.Tree, error) {
	return vfstest.OpenTree(s.FS, name, vfstest.TreeHooks{
		Dir: func(path string, do func() (vfs.Tree, error)) (vfs.Tree, error) {
			if path == s.dir && s.opens.Add(-1) == 0 {
				if err := swap(s.dir, s.to); err != nil {
					return nil, err
				}
			}
			return do()
		},
		Link: func(from, _ string, do func() error) error {
			if filepath.Dir(from) == s.dir && s.links.Add(-1) == 0 {
				if err := swap(s.dir, s.to); err != nil {
					return err
				}
			}
			return do()
		},
	})
}

// swap puts a symbolic link in the place of a directory.
func swap(dir, to string) error {
	return errors.Join(os.Rename(dir, dir+".away"), os.Symlink(to, dir))
}

// TestDirectoryBecomesLink: a directory of the source that becomes a symbolic link, at any moment of an adoption, does not bring files from elsewhere into the
// repository, although they have the names, sizes and times of those that were looked at. Either the adoption ends, or it has the files of the directory.
func TestDirectoryBecomesLink(t *testing.T) {
	source, data := sides(t)
	smallTree().write(t, source)
	elsewhere := filepath.Join(filepath.Dir(source), "elsewhere")
	smallTree().write(t, elsewhere)
	before := inodes(t, elsewhere)
	config := filepath.Join(source, "config")
	refused := 0
	for n := range int32(12) {
		o := options(source, data)
		swapper := &swapping{FS: vfs.OS(), dir: config, to: filepath.Join(elsewhere, "config")}
		if swapper.opens.Store(n/2 + 1); n%2 == 1 {
			swapper.opens.Store(0)
			swapper.links.Store(n/2 + 1)
		}
		o.FS = swapper
		_, err := adopt.Run(ctx, o)
		swapped := isLink(t, config)
		switch {
		case err != nil && !swapped:
			t.Errorf("%d: %v", n, err)
		case err != nil:
			refused++
			if !strings.Contains(err.Error(), "has changed meanwhile") && !strings.Contains(err.Error(), "cannot be read") {
				t.Errorf("%d: %v", n, err)
			}
		}
		if swapped {
			if err := errors.Join(os.Remove(config), os.Rename(config+".away", config)); err != nil {
				t.Fatal(err)
			}
		}
		for path := range before {
			if info := stat(t, path); info.Mode&syscall.S_IFMT == syscall.S_IFREG && info.Nlink != 1 {
				t.Errorf("%d: %s has %d names", n, path, info.Nlink)
			}
		}
		if err := os.RemoveAll(filepath.Join(data, "r")); err != nil {
			t.Fatal(err)
		}
	}
	if refused < 2 {
		t.Errorf("%d adoptions ended: the directory is opened to look at it, to list it, and to link its files", refused)
	}
}

func isLink(t *testing.T, path string) bool {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode()&os.ModeSymlink != 0
}

// TestFinishFollowsNoLink: what lies where a symbolic link leads is not removed.
func TestFinishFollowsNoLink(t *testing.T) {
	source, data := sides(t)
	smallTree().write(t, source)
	elsewhere := filepath.Join(filepath.Dir(source), "elsewhere")
	smallTree().write(t, elsewhere)
	before := inodes(t, elsewhere)
	mustAdopt(t, options(source, data))
	if err := swap(filepath.Join(source, "config"), filepath.Join(elsewhere, "config")); err != nil {
		t.Fatal(err)
	}
	done, err := adopt.Finish(ctx, options(source, data))
	if err != nil || done.Kept != 2 || done.First != "config/id" || !done.Left {
		t.Errorf("got %+v, %v", done, err)
	}
	wantSame(t, "elsewhere", inodes(t, elsewhere), before)
}

// TestFinishTellsWhatIsLeft: also beside directories whose names are as short as that of the source's root.
func TestFinishTellsWhatIsLeft(t *testing.T) {
	for range 20 { // the order is that of a map
		source, data := sides(t)
		tree{"a/1": "1", "b/2": "2", "c/3": "3", "quota.hid": "3"}.write(t, source)
		mustAdopt(t, options(source, data))
		if done, err := adopt.Finish(ctx, options(source, data)); err != nil || done.Files != 3 || !done.Left {
			t.Fatalf("got %+v, %v", done, err)
		}
		if err := os.Remove(filepath.Join(source, "quota.hid")); err != nil {
			t.Fatal(err)
		}
		if done, err := adopt.Finish(ctx, options(source, data)); err != nil || done.Left {
			t.Fatalf("again: got %+v, %v", done, err)
		}
		if _, err := os.Stat(source); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("the source: %v", err)
		}
	}
}

// TestOwnDirectoryIsNoItem: what a server of ours made when it was pointed at the source stays there.
func TestOwnDirectoryIsNoItem(t *testing.T) {
	source, data := sides(t)
	items := smallTree()
	items.write(t, source)
	tree{".packhouse/token": "secret"}.write(t, source)
	mustAdopt(t, options(source, data))
	_, a := open(t, data)
	wantItems(t, a, source, items)
}
