package vfs

import "io"

// DirOpener is an FS that can hold on to a directory.
type DirOpener interface {
	// OpenDir opens an existing directory, following symbolic links. name must be absolute.
	OpenDir(name string) (Dir, error)
}

// Dir is a file system in which the names of a directory, and those below it, are looked up from that directory as it
// was opened, wherever it lies by now and whatever lies under its name: a repository whose directory is moved
// away below a running server neither reads nor changes what takes its place. Other names are looked up as ever. What is open
// stays open after Close; every other call about the directory is fs.ErrClosed then.
type Dir interface {
	FS
	io.Closer
}

// ReadOnlyTeller is an FS that knows whether a file system takes writes.
type ReadOnlyTeller interface {
	// ReadOnly tells whether the file system that name lies on is mounted read-only.
	ReadOnly(name string) (bool, error)
}
