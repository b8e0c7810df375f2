package repo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"packhouse/blobstore"
	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo/layout"
)

// The files of an open repository can be moved while the server runs: its volume is unmounted, or its directory is renamed, removed
// or replaced by a copy. The server gets no notice of that. A repository therefore checks that its directory is the one that was
// opened: before it reports stored bytes as missing or marks them as damaged, and after each commit, before the commit is
// acknowledged (index.Attached). Its files are read and written through its open directory, so that nothing is written into a
// directory that has replaced it. The owner of a repository whose directory has been replaced calls Displace; see repo/datadir.

// DetachedError is an ErrDetached. It is for administrators: its text contains the path.
type DetachedError struct {
	Path     string // of the directory
	Found    string // what is there instead
	Expected string // may be empty
	Do       string // what mends it
}

func (e *DetachedError) Error() string {
	text := e.Path + ": " + e.Found
	if e.Expected != "" {
		text += "; expected " + e.Expected
	}
	return text + "; " + e.Do
}
func (e *DetachedError) Is(target error) bool { return target == ErrDetached }

// holdOn makes a file system that finds what is below dir also when dir has been moved; close lets go of it. One that
// cannot, such as those of tests, is used by path.
func holdOn(fsys vfs.FS, dir string) (held vfs.FS, close func() error, err error) {
	opener, ok := fsys.(vfs.DirOpener)
	if !ok {
		return fsys, func() error { return nil }, nil
	}
	d, err := opener.OpenDir(dir)
	if err != nil {
		return nil, nil, err
	}
	return d, d.Close, nil
}

// Attached checks that the repository's directory, and the index in it, are still those at its path; otherwise the error is an
// ErrDetached. It is called before stored bytes are reported as missing or damaged, because they may have been moved away, or
// their volume unmounted.
func (r *Repository) Attached() error {
	if r.displaced.Load() {
		return errDisplaced
	}
	if err := r.index.Attached(); err != nil {
		return fmt.Errorf("%w: %w", ErrDetached, err)
	}
	if r.info == nil {
		return nil
	}
	// An index can have a name in two directories: a copy that was made of links.
	now, err := os.Stat(r.dir)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDetached, vfs.WithoutPath(err))
	}
	if !os.SameFile(now, r.info) {
		return fmt.Errorf("%w: another directory has its name", ErrDetached)
	}
	return nil
}

var errDisplaced = fmt.Errorf("%w: it was given up", ErrDetached)

// inItsPlace returns an error unless the directory that fsys holds on to is the one under the name, with this index.
func inItsPlace(fsys vfs.FS, dir string, x *index.Index) (fs.FileInfo, error) {
	if _, held := fsys.(vfs.Dir); !held {
		return nil, nil
	}
	own, err := fsys.Stat(dir)
	if err != nil {
		return nil, err
	}
	if moved(own, dir) {
		return nil, errMovedMeanwhile
	}
	if info, err := fsys.Stat(filepath.Join(dir, layout.IndexFile)); err != nil || !x.Is(info) {
		return nil, errMovedMeanwhile
	}
	return own, nil
}

// moved tells whether the directory that own is of does not lie under the name any more.
func moved(own fs.FileInfo, dir string) bool {
	now, err := os.Stat(dir)
	return err != nil || !os.SameFile(own, now)
}

// errMovedMeanwhile is index.ErrNotFound: whoever opens a repository tries once more.
var errMovedMeanwhile = fmt.Errorf("%w: the directory was moved while it was opened", index.ErrNotFound)

// dirError says of a directory of the blob store that cannot be used where it is and what mends it: a part of the
// repository may lie on a volume of its own, or have been taken away. What is in it is not known to be missing.
func dirError(dir string, err error) error {
	var e *blobstore.DirError
	if !errors.As(err, &e) {
		return err
	}
	path := filepath.Join(dir, filepath.FromSlash(e.Dir))
	if errors.Is(err, fs.ErrPermission) {
		return Unreadable(path, err)
	}
	found := e.Err.Error()
	if errors.Is(err, fs.ErrNotExist) {
		found = "the directory is missing"
	}
	return &DetachedError{Path: path, Found: found, Expected: "the directory that the repository was made with", Do: "put it back, or mount what belongs there"}
}

// Unreadable is the DetachedError for files that this process has no permission to read.
func Unreadable(path string, err error) error {
	return &DetachedError{
		Path: path, Found: fmt.Sprintf("it cannot be used: %v", vfs.WithoutPath(err)), Expected: "a file or directory of this server's user",
		Do: "give that user the right to read and write it",
	}
}
