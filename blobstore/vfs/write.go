package vfs

import (
	"crypto/rand"
	"errors"
	"path/filepath"
)

// Replace writes data to the file of that name. At any time, also after a crash, it has either the old or the new contents,
// complete; when Replace returns nil, the new ones are durable. The mode is 0600. A crash may leave a file .new-* in the directory.
func Replace(fsys FS, name string, data []byte) error {
	return write(fsys, name, data, fsys.Rename)
}

// WriteNew is Replace for a file that must not exist: otherwise nothing is changed, and the error is fs.ErrExist.
func WriteNew(fsys FS, name string, data []byte) error {
	return write(fsys, name, data, func(partial, name string) error {
		return errors.Join(fsys.Link(partial, name), fsys.Remove(partial))
	})
}

// write writes a temporary file, and calls publish to give it the name.
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
