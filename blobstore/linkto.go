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
	info, err := s.stat(id, "link")
	switch {
	case err != nil:
		return false, err
	case info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0, info.Mode().Perm()&0o400 == 0, !info.Mode().IsRegular(), info.Size() != size:
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

// stat looks at the file of a blob. Errors: ErrNotFound, else I/O.
func (s *Store) stat(id blobID, op string) (fs.FileInfo, error) {
	info, err := s.fs.Stat(s.blobPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, wrap(op, err)
	}
	return info, nil
}

// CloneTo gives a new file, which is outside of the store and empty, the bytes of a blob, which they share until one of the two is written. It does so
// only if the file of the blob is the payload and nothing else, and has size bytes: else, and where the file system has no clones, cloned is false and
// nothing was done. The bytes are not read, and not durable yet. Errors: ErrNotFound, else I/O.
func (s *Store) CloneTo(ref Ref, size int64, file vfs.File) (cloned bool, err error) {
	cloner, ok := file.(vfs.Cloner)
	if !ok || !ref.Whole() {
		return false, nil
	}
	id, err := ref.id()
	if err != nil {
		return false, err
	}
	source, err := s.fs.Open(s.blobPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return false, ErrNotFound
	}
	if err != nil {
		return false, wrap("clone", err)
	}
	defer source.Close() // it is only read
	info, err := source.Stat()
	if err != nil {
		return false, wrap("clone", err)
	}
	return info.Mode().IsRegular() && info.Size() == size && cloner.CloneOf(source) == nil, nil
}
