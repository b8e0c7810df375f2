package repotest

import (
	"os"
	"testing"

	"packhouse/repo/datadir"
)

// MemoryDir is a directory on a file system in memory where there is one: these tests are about
// order, not about a disk, and make hundreds of repositories.
func MemoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "packhouse-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// NewRepository makes a data directory with an empty repository "r", which is closed.
func NewRepository(t testing.TB) (dir string) {
	t.Helper()
	dir = MemoryDir(t)
	s := datadir.Open(datadir.Options{Dir: dir})
	Create(t, s, "r")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}
