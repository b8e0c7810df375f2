package repo

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"

	"packhouse/blobstore/vfs"
)

// syncedFS is the file system for a repository's files beside index and blobs: a sync that fails is the
// repository's failure, and is not tried again: it might then succeed without having made anything durable.
type syncedFS struct {
	vfs.FS
	r *Repository
}

// fs is where a repository's files beside index and blobs are written.
func (r *Repository) fs() vfs.FS { return syncedFS{r.env.FS, r} }

func (s syncedFS) Create(name string) (vfs.File, error) {
	if err := s.r.failed.Load(); err != nil {
		return nil, *err
	}
	f, err := s.FS.Create(name)
	if err != nil {
		return nil, err
	}
	return syncedFile{f, name, s.r}, nil
}

// SyncDir does not blame the disk for a directory that could not be opened: nothing was lost.
func (s syncedFS) SyncDir(name string) error {
	if err := s.r.failed.Load(); err != nil {
		return *err
	}
	err := s.FS.SyncDir(name)
	for _, harmless := range []error{fs.ErrPermission, fs.ErrNotExist, syscall.EMFILE, syscall.ENFILE} {
		if errors.Is(err, harmless) {
			return err
		}
	}
	return s.r.fail("sync directory "+filepath.Base(name), err)
}

type syncedFile struct {
	vfs.File
	name string
	r    *Repository
}

func (f syncedFile) Sync() error { return f.r.fail("sync "+filepath.Base(f.name), f.File.Sync()) }

// fail makes the repository read-only because of err, until it is opened again, and returns what to tell the caller.
func (r *Repository) fail(what string, err error) error {
	if err == nil {
		return nil
	}
	if r.displaced.Load() {
		return errDisplaced
	}
	r.env.Logger.Error(what, "repository", r.Name(), "error", err)
	cause := fmt.Errorf("%w: %s: %w", ErrReadOnly, what, vfs.WithoutPath(err))
	r.failed.CompareAndSwap(nil, &cause)
	return cause
}
