package index

import (
	"fmt"
	"os"
)

// openedFile is the file of an index, under the path by which it was opened. The zero value is that of an index in memory, which
// nobody can move.
type openedFile struct {
	path string
	info os.FileInfo
}

// check tells whether the file still lies under the path, as ErrMoved: device and inode are compared, which costs one
// look at the directory.
func (f openedFile) check() error {
	if f.path == "" {
		return nil
	}
	now, err := os.Stat(f.path)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrMoved, err)
	case !os.SameFile(now, f.info):
		return fmt.Errorf("%w: another file has its name", ErrMoved)
	}
	return nil
}

// Attached tells whether the file that was opened still lies under its path: ErrMoved when it was moved, removed or
// replaced, or its file system is not mounted there any more. For every group that Apply acknowledges this was so
// after the group was on stable storage.
func (x *Index) Attached() error { return withoutPath(x.opened.check(), x.dir) }

// Is tells whether info is of the file that was opened. An index in memory has none.
func (x *Index) Is(info os.FileInfo) bool {
	return x.opened.info != nil && os.SameFile(x.opened.info, info)
}

// moved returns ErrMoved once a commit has found it so.
func (x *Index) moved() error {
	if err := x.gone.Load(); err != nil {
		return *err
	}
	return nil
}
