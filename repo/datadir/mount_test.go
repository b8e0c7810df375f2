package datadir_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"packhouse/repo"
	"packhouse/repo/datadir"
)

// mountMemory mounts a file system of its own, in memory, on dir. Who may not do that does not run the test.
func mountMemory(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64m"); err != nil {
		t.Skipf("NOT TESTED: mounting takes root: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// bind mounts a directory at another place too.
func bind(t *testing.T, from, to string) {
	t.Helper()
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(to, unix.MNT_DETACH) })
}

func unmount(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
}

// mkdir makes a directory below another.
func mkdir(t *testing.T, parts ...string) string {
	t.Helper()
	dir := filepath.Join(parts...)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// The volume of a data directory is unmounted lazily, as below a running server, and mounted again.
func TestUnmountedDataDirectory(t *testing.T) {
	top := t.TempDir()
	volume, dir := mkdir(t, top, "volume"), mkdir(t, top, "data")
	mountMemory(t, volume)
	bind(t, volume, dir)
	id := identified(t, dir)
	s := newSet(t, func(o *datadir.Options) { o.Dir, o.Identity = dir, id })
	r := create(t, s, "r")
	mustPut(t, r.As(repo.Principal{}), "a", "a")
	unmount(t, dir)
	if _, err := put(r.As(repo.Principal{}), "b", "b"); !errors.Is(err, repo.ErrDetached) {
		t.Errorf("put: got %v, want ErrDetached", err)
	}
	if _, err := s.Create(ctx, "new", "test"); !errors.Is(err, repo.ErrDetached) {
		t.Errorf("create: got %v, want ErrDetached", err)
	}
	if left := tree(t, dir); len(left) > 0 {
		t.Errorf("something was made below the mount point: %v", left)
	}
	// Nothing of it stays open: it can be unmounted without force, to be checked or taken away.
	waitFor(t, "the volume to be let go of", func() bool { return s.TotalUsage().Used == 0 && unix.Unmount(volume, 0) == nil })
}

// A repository can have a volume of its own. Its mount point, empty without it, is no place for a new one.
func TestUnmountedRepository(t *testing.T) {
	dir, volume := t.TempDir(), t.TempDir()
	mountMemory(t, volume)
	here := mkdir(t, dir, "r")
	bind(t, volume, here)
	s := newSet(t, func(o *datadir.Options) { o.Dir = dir })
	mustPut(t, create(t, s, "r").As(repo.Principal{}), "a", "a")
	create(t, s, "other")
	unmount(t, here)
	for range 2 {
		if _, err := s.Get(ctx, "r"); !errors.Is(err, repo.ErrDetached) {
			t.Errorf("get: got %v, want ErrDetached", err)
		}
		if _, err := s.Create(ctx, "r", "test"); !errors.Is(err, repo.ErrDetached) {
			t.Errorf("create: got %v, want ErrDetached", err)
		}
	}
	if left := tree(t, here); len(left) > 0 {
		t.Errorf("something was made below the mount point: %v", left)
	}
	if _, err := s.Get(ctx, "other"); err != nil {
		t.Errorf("another repository: %v", err)
	}
	bind(t, volume, here)
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	wantContent(t, r.As(repo.Principal{}), "a", "a")
	// A mount point that is removed says that the volume will not come back.
	unmount(t, here)
	if _, err := s.Get(ctx, "r"); !errors.Is(err, repo.ErrDetached) {
		t.Errorf("get: got %v, want ErrDetached", err)
	}
	if err := os.Remove(here); err != nil {
		t.Fatal(err)
	}
	create(t, s, "r")
}
