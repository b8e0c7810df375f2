package vfs_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
)

// TestWriteWhole: whatever call fails, and whatever a crash takes away, there is the whole of the old file or of the new one; and the
// new one, if it was said so.
func TestWriteWhole(t *testing.T) {
	failure := errors.New("it failed")
	for _, kind := range []struct {
		name  string
		write func(vfs.FS, string, []byte) error
		old   string // "": there is no file
	}{
		{"replace", vfs.Replace, "old contents"},
		{"replace nothing", vfs.Replace, ""},
		{"new", vfs.WriteNew, ""},
	} {
		for n, hit := 0, true; hit; n++ {
			for _, when := range []vfstest.When{vfstest.Before, vfstest.After} {
				t.Run(fmt.Sprintf("%s/%d %v", kind.name, n, when), func(t *testing.T) {
					dir := t.TempDir()
					lossy := vfstest.NewLossy(t, dir)
					failing := vfstest.NewFailing(lossy)
					name := filepath.Join(dir, "file")
					if kind.old != "" {
						if err := vfs.WriteNew(lossy, name, []byte(kind.old)); err != nil {
							t.Fatal(err)
						}
					}
					failing.FailAt(n, when, failure)
					err := kind.write(failing, name, []byte("new"))
					hit = failing.Hit()
					if errors.Is(err, failure) != hit || err != nil && !hit {
						t.Fatalf("got %v; a call failed: %v", err, hit)
					}
					if err := lossy.Crash(rand.New(rand.NewPCG(uint64(n), 1))); err != nil {
						t.Fatal(err)
					}
					text, readErr := os.ReadFile(name)
					if readErr != nil && !errors.Is(readErr, fs.ErrNotExist) {
						t.Fatal(readErr)
					}
					if got := string(text); got != "new" && (err == nil || got != kind.old) {
						t.Errorf("got %q after %v, before it was %q", got, err, kind.old)
					}
				})
			}
		}
	}
}

// TestWriteNewKeepsWhatIsThere: what another process has written meanwhile counts.
func TestWriteNewKeepsWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	if err := vfs.WriteNew(vfs.OS(), name, []byte("first")); err != nil {
		t.Fatal(err)
	}
	if err := vfs.WriteNew(vfs.OS(), name, []byte("second")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want %v", err, fs.ErrExist)
	}
	text, err := os.ReadFile(name)
	entries, _ := os.ReadDir(dir)
	if string(text) != "first" || err != nil || len(entries) != 1 {
		t.Errorf("got %q, %v and %d files", text, err, len(entries))
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want mode 0600", info, err)
	}
}
