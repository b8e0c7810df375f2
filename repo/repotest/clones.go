package repotest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// CloningDir mounts a new file system that can clone files, and returns two directories in it between which files can be cloned but not linked: subvolumes of
// btrfs. It skips the test where that is not possible: it takes root, loop devices, and mkfs.btrfs.
func CloningDir(t testing.TB) (one, other string) {
	t.Helper()
	for _, program := range []string{"mkfs.btrfs", "btrfs", "mount"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("no file system that can clone: %v", err)
		}
	}
	dir := MemoryDir(t)
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "btrfs")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 256<<20); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	one, other = filepath.Join(at, "one"), filepath.Join(at, "other")
	if out, err := exec.CommandContext(t.Context(), "mkfs.btrfs", "-q", image).CombinedOutput(); err != nil {
		t.Skipf("mkfs.btrfs: %v: %s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), "mount", "-o", "loop", image, at).CombinedOutput(); err != nil {
		t.Skipf("nothing can be mounted here, that takes root and loop devices: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, 0); err != nil {
			t.Error(err)
		}
	})
	for _, volume := range []string{one, other} {
		if out, err := exec.CommandContext(t.Context(), "btrfs", "subvolume", "create", volume).CombinedOutput(); err != nil {
			t.Fatalf("btrfs: %v: %s", err, out)
		}
	}
	return one, other
}

// Shared tells whether a file has blocks that another file has as well.
func Shared(t testing.TB, path string) bool {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "filefrag", "-v", path).Output()
	if err != nil {
		t.Fatalf("filefrag: %v", err)
	}
	return bytes.Contains(out, []byte("shared"))
}
