package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"
)

// TreeOpener is an FS that can open a directory in which others may change names meanwhile.
type TreeOpener interface {
	// OpenTree opens a directory. name is absolute, and has no symbolic link in it: one is an error.
	OpenTree(name string) (Tree, error)
}

// Tree is a directory that another program, or somebody who is not trusted, may change while it is open. Names are looked up in the directory as it
// was opened, wherever it has been moved, and no symbolic link is followed: so nothing that lies outside of it is reached, whatever is
// given its names meanwhile. What a name leads to may be another file each time; who cares looks at what he got. Errors for which Replaced
// is true say that there is something else now. All methods are safe for concurrent use.
type Tree interface {
	// Dir opens a directory below: a path with slashes, without "..".
	Dir(name string) (Tree, error)
	// ReadDir returns the entries in the order of their names. Their Info is Stat.
	ReadDir() ([]fs.DirEntry, error)
	// Stat does not follow symbolic links. name, here and in what follows, is that of an entry, without a slash.
	Stat(name string) (fs.FileInfo, error)
	// Open opens for reading.
	Open(name string) (File, error)
	// Link gives a file the name newname as well, which is a path outside, and free: else fs.ErrExist. Of a symbolic link, that is what gets it.
	Link(name, newname string) error
	// Remove removes a file, or an empty directory.
	Remove(name string) error
	io.Closer
}

// Placed is a FileInfo of a Tree that knows more of a file.
type Placed interface {
	// Mount numbers the mounts of the system; 0: the kernel does not tell.
	Mount() uint64
	// Fixed tells that the file has the attribute immutable or append-only, so that the kernel refuses to link or remove it.
	Fixed() bool
}

// OpenTree opens a directory of a file system that is a TreeOpener.
func OpenTree(fsys FS, name string) (Tree, error) {
	opener, ok := fsys.(TreeOpener)
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("%T has no trees: %w", fsys, errors.ErrUnsupported)}
	}
	return opener.OpenTree(name)
}

// Replaced tells whether an error of Dir, Stat or Open of a Tree means that a name is not, or is no more, what was to be found under it: it is missing, or a symbolic link, or
// something else than a directory.
func Replaced(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENOTDIR) || OtherFileSystem(err)
}
