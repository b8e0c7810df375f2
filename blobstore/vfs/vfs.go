// Package vfs is the file system interface through which blobstore, journal, index and repo do all their file operations, so
// that tests can make any call fail, and drop everything that was not synced. The database of index reads and writes its file
// by itself, but in tests that use vfstest.Bolt. OS is the real file system; package vfstest has those for tests.
//
// Start reading at FS.
package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"time"
)

// FS is the part of a file system that Packhouse needs. Names are ordinary paths.
// Errors are those of package os (errors.Is with fs.ErrNotExist, fs.ErrExist works), and
// name the path: what leaves the server goes through WithoutPath first.
// All methods are safe for concurrent use.
type FS interface {
	// Create makes a new file for writing, mode 0600; an existing one is fs.ErrExist.
	Create(name string) (File, error)
	// Open opens for reading. A symbolic link is an error.
	Open(name string) (File, error)
	// OpenWrite opens an existing file for reading, and for writing at offsets. A symbolic link is an error.
	OpenWrite(name string) (File, error)
	// Link gives an existing file a second name; an existing new name is fs.ErrExist.
	Link(oldname, newname string) error
	Rename(oldname, newname string) error
	Remove(name string) error
	RemoveAll(name string) error
	Mkdir(name string) error // mode 0700; existing is fs.ErrExist
	ReadDir(name string) ([]fs.DirEntry, error)
	Stat(name string) (fs.FileInfo, error) // does not follow symbolic links
	// SyncDir makes the directory's entries durable.
	SyncDir(name string) error
	// Space returns the bytes an unprivileged user may still write, and the size of the file system.
	Space(name string) (free, total int64, err error)
	// Inodes returns how many files and directories may still be made, and how many there can be. total is 0 where the file
	// system has no such number, as btrfs.
	Inodes(name string) (free, total int64, err error)
}

// File is an open file.
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.WriterAt
	io.Seeker
	io.Closer
	// Truncate makes the file size bytes long: what is behind is gone, what is missing is zeros.
	Truncate(size int64) error
	// Sync makes the bytes written so far durable, with the metadata needed to read them back (fdatasync).
	Sync() error
	Stat() (fs.FileInfo, error)
}

// OSFiler is a File that stands for one of the operating system: net/http can
// send that one without copying. The file stays owned by the File.
type OSFiler interface {
	OSFile() *os.File
}

// WritebackStarter is a File that can start writing its bytes to the disk before Sync. It makes nothing durable: only Sync tells
// whether the bytes have been written.
type WritebackStarter interface {
	// StartWriteback covers n bytes from off.
	StartWriteback(off, n int64) error
}

// Allocator is a File for which space can be set aside before it is written.
type Allocator interface {
	// Allocate sets aside the n bytes from off, so that writing there does not fail for lack of space on file systems that
	// write in place. The file becomes that long if it is shorter, what was not written reads as zeros, and what was stays.
	// errors.ErrUnsupported: this file system does not know how.
	Allocate(off, n int64) error
}

// Adviser is a File that can be told which parts will be read, and which will not be read again. These are hints for the page cache
// and make nothing durable.
type Adviser interface {
	// WillNeed begins to read n bytes from off, and does not wait for them.
	WillNeed(off, n int64) error
	// Cached tells whether anything of the file is in memory. An error: the system does not say.
	Cached() (bool, error)
	// DontNeed lets go of n bytes from off, whole pages only; n 0: of all that follow.
	DontNeed(off, n int64) error
}

// Cloner is a File that can share the blocks of another one, which then are copied when one of the two is written.
type Cloner interface {
	// CloneOf gives a new file the contents of source. An error: it is empty as before, because the file system has no clones, the other file
	// is on another one, or for another reason.
	CloneOf(source File) error
}

// FileSystemSyncer is an FS that can make all of a file system durable at once.
type FileSystemSyncer interface {
	// SyncFileSystem writes what the file system that name lies on has not written yet, of all programs. name is a directory or a file
	// that can be read.
	SyncFileSystem(name string) error
}

// AttributeSetter is an FS that can give what this process has made the attributes that another program gives its files.
type AttributeSetter interface {
	// SetAttributes sets the permissions of a file or directory, which is no symbolic link, whatever the umask is; and, unless modified
	// is zero, the time at which its bytes were written.
	SetAttributes(name string, mode fs.FileMode, modified time.Time) error
}

// WithoutPath returns the cause of a file system's error, without the path and
// the operation that the error of package os carries. Other errors stay as they are.
func WithoutPath(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err
	}
	if link, ok := errors.AsType[*os.LinkError](err); ok {
		return link.Err
	}
	return err
}
