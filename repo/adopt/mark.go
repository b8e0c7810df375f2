package adopt

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"packhouse/blobstore/vfs"
	"packhouse/internal/shell"
	"packhouse/repo/layout"
)

// marked is what the file that marks an adoption, or the restoring of a backup, says while it is under way.
type marked struct {
	Source string `json:"source"`
}

// Mark makes the directory of a repository, if need be, and says durably that it is being filled from source. The caller sees to it that nothing
// else is there but what an earlier adoption has made, and that nobody creates a repository there meanwhile. That another source is
// being adopted there is an error.
func Mark(fsys vfs.FS, dir, source string) error {
	if err := layout.MkdirAll(fsys, dir); err != nil {
		return vfs.WithoutPath(err)
	}
	path := filepath.Join(dir, layout.AdoptingFile)
	marked, err := readMark(fsys, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return vfs.WithoutPath(writeMark(fsys, path, source))
	case err != nil:
		return err
	case marked != source:
		return fmt.Errorf("the adoption or restoring of another directory, %s, was not completed under this name: complete it, or give it up (packhouse adopt --abandon %s)", marked, shell.Word(layout.NameIn(dir)))
	}
	return vfs.WithoutPath(fsys.SyncDir(dir)) // who was killed may not have done it
}

// readMark returns the source that a mark names; fs.ErrNotExist: there is none.
func readMark(fsys vfs.FS, path string) (source string, err error) {
	file, err := fsys.Open(path)
	if err != nil {
		return "", vfs.WithoutPath(err)
	}
	text, err := io.ReadAll(io.LimitReader(file, 1<<20))
	if err = errors.Join(err, file.Close()); err != nil {
		return "", vfs.WithoutPath(err)
	}
	var m marked
	if err := json.Unmarshal(text, &m); err != nil {
		return "", fmt.Errorf("the mark of an adoption that was not completed: %w", err)
	}
	return m.Source, nil
}

// writeMark writes under a name first that is in nobody's way.
func writeMark(fsys vfs.FS, path, source string) error {
	text, err := json.Marshal(marked{source})
	if err != nil {
		return err
	}
	partial := path + ".new"
	if err := layout.IgnoreMissing(fsys.Remove(partial)); err != nil {
		return err
	}
	file, err := fsys.Create(partial)
	if err != nil {
		return err
	}
	if _, err = file.Write(text); err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = fsys.Rename(partial, path)
	}
	if err != nil {
		return errors.Join(err, layout.IgnoreMissing(fsys.Remove(partial)))
	}
	return fsys.SyncDir(filepath.Dir(path))
}

// LockMark keeps other processes from filling the same directory until unlock is called, or this process ends.
func LockMark(fsys vfs.FS, dir string) (unlock func(), err error) {
	file, err := fsys.Open(filepath.Join(dir, layout.AdoptingFile))
	if err != nil {
		return nil, vfs.WithoutPath(err)
	}
	unlock = func() { _ = file.Close() } // it was only read
	locked, ok := file.(vfs.OSFiler)
	if !ok {
		return unlock, nil
	}
	err = unix.Flock(int(locked.OSFile().Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errors.New("another process is adopting it, or restoring it")
	}
	if err == nil && !stillMarked(fsys, dir, locked.OSFile()) {
		err = errors.New("another process has just adopted or restored it")
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// stillMarked tells whether the mark is the one that was locked, and the adoption not complete.
func stillMarked(fsys vfs.FS, dir string, file *os.File) bool {
	locked, err := file.Stat()
	if err != nil {
		return false
	}
	now, err := fsys.Stat(filepath.Join(dir, layout.AdoptingFile))
	return err == nil && os.SameFile(locked, now) && layout.IsAdopting(fsys, dir)
}
