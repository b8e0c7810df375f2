package index

import (
	"fmt"
	"os"
)

// place is where an index was opened: the path, and the file that lay there. The zero value is that of an index in
// memory, which is always in its place.
type place struct {
	path string
	file os.FileInfo
}

// check tells whether the file still lies under the path, as ErrMoved: device and inode are compared, which costs one
// look at the directory.
func (p place) check() error {
	if p.path == "" {
		return nil
	}
	now, err := os.Stat(p.path)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrMoved, err)
	case !os.SameFile(now, p.file):
		return fmt.Errorf("%w: another file has its name", ErrMoved)
	}
	return nil
}

// InPlace checks that the open file is still the one at its path. ErrMoved if it was moved, removed or replaced, or its file system is
// no longer mounted there. For every group that Apply acknowledges this was checked after the group was on stable storage.
func (x *Index) InPlace() error { return withoutPath(x.place.check(), x.dir) }

// Is reports whether info describes the open file. An index in memory has none.
func (x *Index) Is(info os.FileInfo) bool {
	return x.place.file != nil && os.SameFile(x.place.file, info)
}

// moved returns ErrMoved once a commit has found it so.
func (x *Index) moved() error {
	if err := x.gone.Load(); err != nil {
		return *err
	}
	return nil
}
