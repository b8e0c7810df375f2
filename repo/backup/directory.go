package backup

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"packhouse/blobstore"
	"packhouse/blobstore/vfs"
	"packhouse/repo"
	"packhouse/repo/layout"
	"packhouse/repo/transfer"
)

// The names in the directory of a backup.
const (
	ownerFile  = "backup.json"
	lockFile   = "lock"
	filesDir   = "files"
	newDir     = "new"
	damagedDir = "damaged"
)

// owner is what ownerFile says.
type owner struct {
	Format     int       `json:"format"`
	Repository string    `json:"repository"` // ID of the one whose states are written here
	Since      time.Time `json:"since"`
}

// IsBackup tells whether a directory is one of backups, complete or not.
func IsBackup(fsys vfs.FS, dir string) bool {
	info, err := fsys.Stat(filepath.Join(dir, ownerFile))
	return err == nil && info.Mode().IsRegular()
}

// readOwner reads ownerFile; fs.ErrNotExist: there is none.
func readOwner(fsys vfs.FS, dir string) (o owner, err error) {
	file, err := fsys.Open(filepath.Join(dir, ownerFile))
	if err != nil {
		return o, vfs.WithoutPath(err)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxLine))
	if err = errors.Join(err, file.Close()); err != nil {
		return o, transfer.Failed(err)
	}
	if err := json.Unmarshal(text, &o); err != nil || o.Format < 1 || o.Repository == "" {
		return o, repo.Errorf(repo.ErrForeign, "%s in the directory is not that of a backup, or is damaged", ownerFile)
	}
	if o.Format > format {
		return o, fmt.Errorf("%w: a backup of format %d, known is %d", blobstore.ErrNewer, o.Format, format)
	}
	return o, nil
}

// writeOwner writes ownerFile durably, under another name first.
func writeOwner(fsys vfs.FS, dir string, o owner) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	partial := filepath.Join(dir, ownerFile+".new")
	if err := layout.IgnoreMissing(fsys.Remove(partial)); err != nil {
		return transfer.Failed(err)
	}
	file, err := fsys.Create(partial)
	if err != nil {
		return transfer.Failed(err)
	}
	if _, err = file.Write(append(text, '\n')); err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = fsys.Rename(partial, filepath.Join(dir, ownerFile))
	}
	if err == nil {
		err = fsys.SyncDir(dir)
	}
	return transfer.Failed(err)
}

// mayWrite looks whether states of the repository may be written to a directory: it is not there, empty, or of this repository. It returns what
// ownerFile says; a zero one: it must be written.
func mayWrite(o Options) (owner, error) {
	entries, err := o.FS.ReadDir(o.Dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return owner{}, nil
	case err != nil:
		return owner{}, transfer.Failed(err)
	}
	has, err := readOwner(o.FS, o.Dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		for _, entry := range entries {
			switch entry.Name() {
			case lockFile, ownerFile + ".new", "lost+found":
			default:
				return owner{}, repo.Errorf(repo.ErrExists, "the directory is no backup, and not empty (%s): choose another one", entry.Name())
			}
		}
		return owner{}, nil
	case err != nil:
		return owner{}, err
	case has.Repository == o.Repository.ID():
		return has, nil
	}
	origin, err := restoredFrom(o.Repository)
	switch {
	case err != nil:
		return owner{}, err
	case origin != has.Repository:
		return owner{}, repo.Errorf(repo.ErrExists, "the directory is the backup of another repository (ID %s): choose another one", has.Repository)
	case !o.TakeOver:
		return owner{}, repo.Errorf(repo.ErrExists, "the directory is the backup of the repository from which this one was restored (ID %s): choose another one, or "+
			"--take-over if that one is gone", has.Repository)
	}
	return owner{}, nil
}

// restoredFrom is the ID of the repository of whose backup r was made; "": of none.
func restoredFrom(r *repo.Repository) (string, error) {
	text, err := r.Meta(layout.MetaRestored)
	if err != nil || text == nil {
		return "", err
	}
	var from layout.Restored
	err = json.Unmarshal(text, &from)
	return from.Repository, err
}

// lock locks the directory of a backup until unlock is called or the process ends; how is LOCK_EX or LOCK_SH. ErrBusy: another process is at work there.
func lock(fsys vfs.FS, dir string, how int) (unlock func(), err error) {
	path := filepath.Join(dir, lockFile)
	file, err := fsys.Open(path)
	if errors.Is(err, fs.ErrNotExist) && how == unix.LOCK_EX {
		if made, makeErr := fsys.Create(path); makeErr == nil {
			err = made.Close()
		} else if err = layout.IgnoreExisting(makeErr); err != nil {
			return nil, transfer.Failed(err)
		}
		if err == nil {
			file, err = fsys.Open(path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("lock the directory: %w", transfer.Failed(err))
	}
	unlock = func() { _ = file.Close() } // nothing was written
	if locked, ok := file.(vfs.OSFiler); ok {
		err = unix.Flock(int(locked.OSFile().Fd()), how|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = repo.Errorf(repo.ErrBusy, "another command works on this backup: try again when it has ended")
		}
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// begin makes the directory of a backup, if need be, locks it, and removes what an earlier Run has left unfinished.
func begin(o Options) (unlock func(), err error) {
	if _, err := mayWrite(o); err != nil {
		return nil, err
	}
	switch err := o.FS.Mkdir(o.Dir); {
	case err == nil:
		if err := o.FS.SyncDir(filepath.Dir(o.Dir)); err != nil {
			return nil, transfer.Failed(err)
		}
	case !errors.Is(err, fs.ErrExist):
		return nil, transfer.Failed(err)
	}
	if unlock, err = lock(o.FS, o.Dir, unix.LOCK_EX); err != nil {
		return nil, err
	}
	has, err := mayWrite(o) // now that nobody changes it
	if err == nil && has.Repository == "" {
		err = writeOwner(o.FS, o.Dir, owner{Format: format, Repository: o.Repository.ID(), Since: o.Repository.Now().UTC()})
	}
	if err == nil {
		err = transfer.Failed(o.FS.RemoveAll(filepath.Join(o.Dir, newDir)))
	}
	for _, name := range []string{newDir, filesDir} {
		if err == nil {
			err = transfer.Failed(layout.IgnoreExisting(o.FS.Mkdir(filepath.Join(o.Dir, name))))
		}
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// filePath is where the file of a hash lies.
func filePath(dir, hash string) string { return filepath.Join(dir, filesDir, hash[:2], hash) }

// shardOf is the first byte of a hash.
func shardOf(hash string) byte {
	b, err := hex.DecodeString(hash[:2])
	if err != nil {
		return 0 // callers have hashes
	}
	return b[0]
}

// has tells whether a backup has the file of a hash, with that size.
func has(fsys vfs.FS, dir, hash string, size int64) (bool, error) {
	info, err := fsys.Stat(filePath(dir, hash))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Mode().IsRegular() && info.Size() == size, transfer.Failed(err)
}

// isHash tells whether a name is one of a file of a backup.
func isHash(name string) bool {
	b, err := hex.DecodeString(name)
	return err == nil && len(b) == 32 && hex.EncodeToString(b) == name
}
