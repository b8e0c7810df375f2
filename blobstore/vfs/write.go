package vfs

import (
	"crypto/rand"
	"errors"
	"path/filepath"
)

// Replace makes the file of that name hold data: the old or the new contents whole, whatever happens, and the new ones durably
// when it returns nil. The mode is 0600. A crash may leave a file .new-* beside it.
func Replace(fsys FS, name string, data []byte) error {
	return write(fsys, name, data, fsys.Rename)
}

// WriteNew is Replace of a file that must not exist: else nothing is changed, and the error is fs.ErrExist.
func WriteNew(fsys FS, name string, data []byte) error {
	return write(fsys, name, data, func(partial, name string) error {
		return errors.Join(fsys.Link(partial, name), fsys.Remove(partial))
	})
}

// write writes another file, and has publish give it the name.
func write(fsys FS, name string, data []byte, publish func(partial, name string) error) error {
	partial := filepath.Join(filepath.Dir(name), ".new-"+rand.Text())
	f, err := fsys.Create(partial)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, fsys.Remove(partial))
	}
	if err := publish(partial, name); err != nil {
		_ = fsys.Remove(partial) // or it is gone
		return err
	}
	return fsys.SyncDir(filepath.Dir(name))
}
