package journal

import (
	"errors"
	"fmt"

	"packhouse/blobstore/vfs"
)

// The errors a caller may test for, with errors.Is. No text names a path.
var (
	ErrNotFound  = errors.New("no log there")
	ErrExists    = errors.New("a log is there already")
	ErrVersion   = errors.New("log of a newer format") // nothing is wrong with it: a newer version of this program reads it
	ErrCorrupt   = errors.New("log is damaged")        // always a *DamageError
	ErrRemoved   = errors.New("position before the oldest segment")
	ErrMissing   = errors.New("segment is missing")
	ErrBeyondEnd = errors.New("position beyond the end of the log")
	ErrPosition  = errors.New("no group begins at the position")
	ErrNoSpace   = errors.New("no space for the log") // nothing was appended; it may be tried again
	ErrTooLarge  = errors.New("larger than a record may be")
	ErrStale     = errors.New("group was begun before another that failed") // to be begun again
	ErrReadOnly  = errors.New("log is open for reading only")
	ErrFailed    = errors.New("log is read-only after a write error") // sticky: until it is opened again
	ErrClosed    = errors.New("log is closed")
)

// The errors of a caller that does not keep to the order of calls.
var (
	errNotReplayed = errors.New("log was not replayed yet")
	errReplayed    = errors.New("log was replayed before")
	errSealed      = errors.New("group is complete")
	errOpenRecord  = errors.New("group ends with payloads that no record follows")
	errEmpty       = errors.New("group without records")
	errKind        = errors.New("kind 0 is no record of a caller")
	errFull        = errors.New("positions are used up")
)

// DamageError says where a log is damaged. It is ErrCorrupt, and what Err is.
type DamageError struct {
	File   string // base name of the segment's file
	Offset int64  // in the file, in bytes
	What   string // what is wrong there
	Err    error  // of the read that failed, without a path; nil: bytes were read, and are wrong
}

func (e *DamageError) Error() string {
	text := fmt.Sprintf("%v: %s at %d: %s", ErrCorrupt, e.File, e.Offset, e.What)
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *DamageError) Unwrap() []error { return []error{ErrCorrupt, e.Err} }

// wrap says what was attempted, without the path.
func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", op, vfs.WithoutPath(err))
}
