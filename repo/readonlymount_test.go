package repo_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// A mount that takes no writes, with the system's own refusals.
func TestReadOnlyMount(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64m"); err != nil {
		t.Skipf("NOT TESTED: mounting takes root: %v", err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	from := preserved(t, index.MaxPayload)
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	s := datadir.Open(datadir.Options{Dir: dir})
	defer s.Close()
	readOnlyStory(t, s)
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	if err := s.Refresh(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the repository", func() bool { _, err := s.Get(ctx, "r"); return err == nil })
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, r.As(repo.Principal{}), "packs/b", "b")
	// What clients did to locks was done in memory alone.
	wantContent(t, r.As(repo.Principal{}), "locks/old.json", "locks/old.json")
}
