package vfs

import "io"

// DirOpener is an FS that can open a directory.
type DirOpener interface {
	// OpenDir opens an existing directory, following symbolic links. name must be absolute.
	OpenDir(name string) (Dir, error)
}

// Dir is a file system that looks up the names of a directory, and those below it, relative to that directory as it was opened,
// wherever it has been moved and whatever has its name now. So a repository whose directory is moved away while the server runs
// neither reads nor changes the directory that replaces it. Other names are looked up as usual. Open files stay open after
// Close; every other call in the directory then returns fs.ErrClosed.
type Dir interface {
	FS
	io.Closer
}

// ReadOnlyTeller is an FS that can report whether a file system is read-only.
type ReadOnlyTeller interface {
	// ReadOnly tells whether the file system that name lies on is mounted read-only.
	ReadOnly(name string) (bool, error)
}
