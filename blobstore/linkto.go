package blobstore

import (
	"errors"
	"io/fs"
	"syscall"

	"packhouse/blobstore/vfs"
)

// LinkTo gives the file of a blob a second name outside of the store, which must be free. It does so only if the file is the payload and nothing
// else, has size bytes, and can be read by its owner as any file: else, and where the kernel or the file system refuses, linked is false and
// nothing was done. The bytes are not read. The name is not durable yet, and the inode is that of the blob: whoever changes it changes the
// blob. Errors: ErrNotFound, fs.ErrExist, ErrNoSpace, else I/O.
func (s *Store) LinkTo(ref Ref, size int64, name string) (linked bool, err error) {
	if !ref.Whole() {
		return false, nil
	}
	id, err := ref.id()
	if err != nil {
		return false, err
	}
	info, err := s.fs.Stat(s.blobPath(id))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, ErrNotFound
	case err != nil:
		return false, wrap("link", err)
	case !info.Mode().IsRegular(), info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0, info.Mode().Perm()&0o400 == 0, info.Size() != size:
		return false, nil
	}
	err = s.fs.Link(s.blobPath(id), name)
	switch {
	case err == nil:
		return true, nil
	case vfs.OtherFileSystem(err), errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EMLINK), errors.Is(err, errors.ErrUnsupported):
		return false, nil
	case vfs.NoSpace(err):
		return false, errors.Join(ErrNoSpace, wrap("link", err))
	}
	return false, wrap("link", err)
}
