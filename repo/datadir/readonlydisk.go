package datadir

import (
	"path/filepath"

	"packhouse/repo"
)

// onReadOnlyDisk tells whether a directory of the set, which need not be there, lies on a file system that takes no writes.
func (s *Set) onReadOnlyDisk(dir string) bool {
	if _, err := s.o.FS.Stat(dir); err != nil {
		dir = filepath.Dir(dir)
	}
	return repo.OnReadOnlyDisk(s.o.FS, dir)
}
