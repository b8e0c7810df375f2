package vfs

import (
	"errors"
	"io"
	"io/fs"
	"syscall"
)

// NoSpace tells whether the disk or its quota is full: nothing is wrong with what is stored already.
func NoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) ||
		errors.Is(err, syscall.EFBIG) || errors.Is(err, io.ErrShortWrite)
}

// DiskGone tells whether err means that the file system takes no changes at all any more.
func DiskGone(err error) bool {
	return errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EROFS)
}

// NotBegun tells whether err is of a sync that did not begin, because the process or the system had too many files open to open
// the file or directory for it: the disk is not to blame, and a later sync may succeed.
func NotBegun(err error) bool {
	path, ok := errors.AsType[*fs.PathError](err)
	return ok && path.Op == "open" && (path.Err == syscall.EMFILE || path.Err == syscall.ENFILE)
}

// OtherFileSystem tells whether err means that two names lie on different file systems, or on mounts between which files cannot be linked.
func OtherFileSystem(err error) bool { return errors.Is(err, syscall.EXDEV) }
