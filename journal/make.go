package journal

import (
	"errors"
	"io"
	"io/fs"

	"packhouse/blobstore/vfs"
)

// temporary ends the name of a segment's file while it is being made.
const temporary = ".new"

// syncError is of a sync after which it is not known what is durable.
type syncError struct{ err error }

func (e *syncError) Error() string { return e.err.Error() }

func (e *syncError) Unwrap() error { return e.err }

// makeSegment makes a segment's file, durably: it has its name only when its header is durable, so that no crash leaves half
// a header under that name. It returns the file, open for writing. On error there is no such file, unless err is a
// *syncError.
func makeSegment(o Options, h segmentHeader) (vfs.File, error) {
	name := o.Dir + "/" + fileName(h.first)
	file, err := o.FS.Create(name + temporary)
	if errors.Is(err, fs.ErrExist) { // left by a crash
		if err = o.FS.Remove(name + temporary); err == nil {
			file, err = o.FS.Create(name + temporary)
		}
	}
	if err != nil {
		return nil, err
	}
	n, err := file.Write(h.encode())
	if err == nil && n < segmentHeaderSize {
		err = io.ErrShortWrite
	}
	if err == nil {
		// For lack of space the file is made again from the start: nothing is in doubt.
		if err = file.Sync(); err != nil && !vfs.NoSpace(err) {
			err = &syncError{err}
		}
	}
	if err == nil {
		err = o.FS.Rename(name+temporary, name)
	}
	if err == nil {
		if err = o.FS.SyncDir(o.Dir); err == nil {
			return file, nil
		}
		if !vfs.NotBegun(err) {
			err = &syncError{err}
		}
	}
	_ = file.Close()
	_ = o.FS.Remove(name + temporary) // what stays is removed when it is in the way, or replaced
	_ = o.FS.Remove(name)
	return nil, err
}
