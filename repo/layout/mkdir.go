package layout

import (
	"errors"
	"io/fs"
	"path/filepath"

	"packhouse/blobstore/vfs"
)

// MkdirAll makes dir and its parents, each durable in its parent. One that is there may have been made by a
// process that was killed before its sync: so the last two levels are synced whoever made them.
func MkdirAll(fsys vfs.FS, dir string) error {
	if err := makeDirs(fsys, dir); err != nil {
		return err
	}
	for _, parent := range []string{filepath.Dir(filepath.Dir(dir)), filepath.Dir(dir)} {
		// Who may not open a directory to sync it has not made an entry in it.
		if err := fsys.SyncDir(parent); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return nil
}

func makeDirs(fsys vfs.FS, dir string) error {
	switch err := fsys.Mkdir(dir); {
	case err == nil:
		return fsys.SyncDir(filepath.Dir(dir))
	case errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir:
		if err := makeDirs(fsys, filepath.Dir(dir)); err != nil {
			return err
		}
		return makeDirs(fsys, dir)
	default:
		return err
	}
}

// IgnoreExisting is err, unless it says that a file is there already.
func IgnoreExisting(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// IgnoreMissing is err, unless it says that a file is not there.
func IgnoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
