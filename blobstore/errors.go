package blobstore

import (
	"errors"
	"fmt"

	"packhouse/blobstore/vfs"
)

// The errors a caller may test for, with errors.Is. No text names a path.
var (
	ErrNotFound = errors.New("no such blob")
	ErrCorrupt  = errors.New("stored bytes are damaged")
	ErrNewer    = errors.New("written by a newer version") // of this program: nothing is known of the bytes
	ErrRange    = errors.New("range beyond the end")
	ErrNoSpace  = errors.New("no space for the blob") // disk, quota of the file system or its largest file; that blob alone failed
	ErrFailed   = errors.New("blob store is read-only after a write error")
	ErrClosed   = errors.New("blob store is closed")
)

// DirError is an error of one of the store's directories: it is missing (fs.ErrNotExist), or cannot be used.
type DirError struct {
	Dir string // as seen from the store's own directory, such as "blobs/7f"
	Err error  // without a path
}

func (e *DirError) Error() string {
	return "directory " + e.Dir + " of the blob store: " + e.Err.Error()
}
func (e *DirError) Unwrap() error { return e.Err }

var errEnded = errors.New("blob was committed or given up before")

// wrap says what was attempted, without the path.
func wrap(op string, err error) error {
	return fmt.Errorf("%s: %w", op, vfs.WithoutPath(err))
}
