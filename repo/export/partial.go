package export

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"packhouse/blobstore/vfs"
	"packhouse/repo"
	"packhouse/repo/transfer"
)

// What is not complete lies beside the directory, in one that has its name and ".partial": the tree, the mark that says whose it is, and
// copies that the next run takes if this one is interrupted.

const markText = "An export of a repository that is not complete. The same command completes it; it can be removed.\n"

func partial(dir string) string { return dir + ".partial" }
func mark(dir string) string    { return filepath.Join(partial(dir), "export") }
func tree(dir string) string    { return filepath.Join(partial(dir), "tree") }
func copies(dir string) string  { return filepath.Join(partial(dir), "copies") }

// vacant wants nothing to be at dir, or an empty directory.
func vacant(fsys vfs.FS, dir string) error {
	entries, err := fsys.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return transfer.Failed(err)
	case len(entries) > 0:
		return repo.Errorf(repo.ErrExists, "the directory is not empty: choose another, or remove what is in it")
	}
	return nil
}

// begin makes the directory beside dir, with the mark, which is locked until unlock is called or the process ends, and removes what an earlier run
// has left of a tree. A directory of that name without the mark is somebody else's.
func begin(fsys vfs.FS, dir string) (unlock func(), err error) {
	if err := fsys.Mkdir(partial(dir)); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, transfer.Failed(err)
	}
	if info, err := fsys.Stat(partial(dir)); err != nil || !info.IsDir() { // nor a symbolic link
		return nil, errors.Join(transfer.Failed(err), inTheWay(dir))
	}
	file, err := fsys.Open(mark(dir))
	if errors.Is(err, fs.ErrNotExist) {
		if file, err = writeMark(fsys, dir); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, transfer.Failed(err)
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
		err = transfer.Failed(fsys.RemoveAll(tree(dir)))
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
		return nil, transfer.Failed(err)
	}
	if len(entries) > 0 {
		return nil, inTheWay(dir)
	}
	file, err := fsys.Create(mark(dir))
	if err != nil {
		return nil, transfer.Failed(err)
	}
	if _, err := file.Write([]byte(markText)); err != nil {
		return nil, errors.Join(transfer.Failed(err), file.Close())
	}
	return file, nil
}

// publish gives the tree, which is durable, its name. An empty directory there gives way.
func (x *run) publish() error {
	if err := x.FS.Remove(x.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return transfer.Failed(err)
	}
	if err := x.FS.Rename(tree(x.Dir), x.Dir); err != nil {
		return transfer.Failed(err)
	}
	return transfer.Failed(x.FS.SyncDir(filepath.Dir(x.Dir)))
}

// abandon removes what an export has made that did not come to its end because of cause, but for copies: the next run takes these. They go, too, when they take the
// space that is missing.
func (x *run) abandon(cause error) error {
	if err := x.FS.RemoveAll(tree(x.Dir)); err != nil {
		return errors.Join(cause, transfer.Failed(err))
	}
	short := errors.Is(cause, repo.ErrNoSpace) || x.near && errors.Is(cause, repo.ErrBusy)
	left, err := x.FS.ReadDir(copies(x.Dir))
	if err == nil && len(left) > 0 && !short {
		return fmt.Errorf("%w; what was copied is in %s, and the same command goes on with it", cause, filepath.Base(partial(x.Dir)))
	}
	return errors.Join(cause, finish(x.FS, x.Dir))
}

// finish removes the copies, which have another name in the tree that was published, the mark, and the directory of both.
func finish(fsys vfs.FS, dir string) error {
	return transfer.Failed(errors.Join(fsys.RemoveAll(copies(dir)), fsys.Remove(mark(dir)), fsys.Remove(partial(dir))))
}
