package index

import (
	"fmt"
	"os"
)

// openedFile is the file of an index and the path by which it was opened. nil stands for an index in memory, which
// cannot be moved.
type openedFile struct {
	path string
	info os.FileInfo
	next os.FileInfo // that takes its place this moment, see exchange; nil: none does
}

// check returns ErrMoved unless the file is still the one at the path. It compares device and inode, which costs one stat.
func (f *openedFile) check() error {
	if f == nil || f.path == "" {
		return nil
	}
	now, err := os.Stat(f.path)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrMoved, err)
	case !os.SameFile(now, f.info) && (f.next == nil || !os.SameFile(now, f.next)):
		return fmt.Errorf("%w: another file has its name", ErrMoved)
	}
	return nil
}

// Attached checks that the open file is still the one at its path. ErrMoved if it was moved, removed or replaced, or its file
// system is no longer mounted there. For every group that Apply acknowledges this was checked after the group was on stable
// storage.
func (x *Index) Attached() error {
	for f := x.opened.Load(); ; {
		err := f.check()
		now := x.opened.Load()
		if err == nil || now == f {
			return withoutPath(err, x.dir)
		}
		f = now // a new file took its place since f was loaded
	}
}

// Is reports whether info describes the open file. An index in memory has none.
func (x *Index) Is(info os.FileInfo) bool {
	f := x.opened.Load()
	return f != nil && os.SameFile(f.info, info)
}

// moved returns ErrMoved once a commit has found it so.
func (x *Index) moved() error {
	if err := x.gone.Load(); err != nil {
		return *err
	}
	return nil
}
