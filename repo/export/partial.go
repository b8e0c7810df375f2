package export

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"packhouse/blobstore/vfs"
	"packhouse/repo"
)

// What is not complete lies beside the directory, in one that has its name and ".partial": the tree, and the mark that says whose it is.

const markText = "An export of a repository that is not complete. It can be removed; the same command begins it anew.\n"

func partial(dir string) string { return dir + ".partial" }
func mark(dir string) string    { return filepath.Join(partial(dir), "export") }
func tree(dir string) string    { return filepath.Join(partial(dir), "tree") }

// vacant wants nothing to be at dir, or an empty directory.
func vacant(fsys vfs.FS, dir string) error {
	entries, err := fsys.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return failed(err)
	case len(entries) > 0:
		return repo.Errorf(repo.ErrExists, "the directory is not empty: choose another, or remove what is in it")
	}
	return nil
}

// begin makes the directory beside dir, with the mark, which is locked until unlock is called or the process ends, and removes what an earlier run
// has left of a tree. A directory of that name without the mark is somebody else's.
func begin(fsys vfs.FS, dir string) (unlock func(), err error) {
	if err := fsys.Mkdir(partial(dir)); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, failed(err)
	}
	if info, err := fsys.Stat(partial(dir)); err != nil || !info.IsDir() { // nor a symbolic link
		return nil, errors.Join(failed(err), inTheWay(dir))
	}
	file, err := fsys.Open(mark(dir))
	if errors.Is(err, fs.ErrNotExist) {
		if file, err = writeMark(fsys, dir); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, failed(err)
	}
	unlock = func() { _ = file.Close() } // nothing of it needs to be durable
	if locked, ok := file.(vfs.OSFiler); ok {
		err = unix.Flock(int(locked.OSFile().Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = repo.Errorf(repo.ErrBusy, "another export into this directory is running")
		}
		if err == nil && !isMark(fsys, dir, locked.OSFile()) {
			err = repo.Errorf(repo.ErrBusy, "another export into this directory has just ended")
		}
	}
	if err == nil {
		err = failed(fsys.RemoveAll(tree(dir)))
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

func inTheWay(dir string) error {
	return repo.Errorf(repo.ErrExists, "%s is in the way, and not of an earlier export: move it away", filepath.Base(partial(dir)))
}

// isMark tells whether the mark is the file that was locked.
func isMark(fsys vfs.FS, dir string, file *os.File) bool {
	locked, err := file.Stat()
	if err != nil {
		return false
	}
	now, err := fsys.Stat(mark(dir))
	return err == nil && os.SameFile(locked, now)
}

// writeMark takes an empty directory.
func writeMark(fsys vfs.FS, dir string) (vfs.File, error) {
	entries, err := fsys.ReadDir(partial(dir))
	if err != nil {
		return nil, failed(err)
	}
	if len(entries) > 0 {
		return nil, inTheWay(dir)
	}
	file, err := fsys.Create(mark(dir))
	if err != nil {
		return nil, failed(err)
	}
	if _, err := file.Write([]byte(markText)); err != nil {
		return nil, errors.Join(failed(err), file.Close())
	}
	return file, nil
}

// publish gives the tree, which is durable, its name. An empty directory there gives way.
func (x *run) publish() error {
	if err := x.FS.Remove(x.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed(err)
	}
	if err := x.FS.Rename(tree(x.Dir), x.Dir); err != nil {
		return failed(err)
	}
	return failed(x.FS.SyncDir(filepath.Dir(x.Dir)))
}

// abandon removes what an export has made that did not come to its end.
func abandon(fsys vfs.FS, dir string) error {
	if err := fsys.RemoveAll(tree(dir)); err != nil {
		return failed(err)
	}
	return finish(fsys, dir)
}

// finish removes the mark and its directory.
func finish(fsys vfs.FS, dir string) error {
	return failed(errors.Join(fsys.Remove(mark(dir)), fsys.Remove(partial(dir))))
}
