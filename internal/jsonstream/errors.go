package jsonstream

import (
	"fmt"
	"io"
)

// Problem is a kind of what can be wrong with a text.
type Problem int

const (
	Malformed Problem = iota // no JSON, beyond a limit, or another value than expected
	Ended                    // the text is over too early
	Duplicate                // a member occurs twice, and it is not clear which of the two is meant
	Missing                  // a required member is not there
)

// Error says what is wrong with a text, and where.
type Error struct {
	Problem Problem
	Offset  int64  // bytes of the text up to there
	Text    string // without the position
	Member  string // Duplicate and Missing: its name
}

// Error returns the text with the position.
func (e *Error) Error() string { return fmt.Sprintf("%s at byte %d", e.Text, e.Offset) }

// Unwrap returns io.ErrUnexpectedEOF for a text that is over too early, else nil.
func (e *Error) Unwrap() error {
	if e.Problem == Ended {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// Fail returns an error of kind Malformed at the position that was reached: for what is wrong with a value that was read.
func (r *Reader) Fail(format string, args ...any) error {
	return &Error{Offset: r.offset, Text: fmt.Sprintf(format, args...)}
}
