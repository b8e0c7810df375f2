package policy

import (
	"fmt"

	"packhouse/repo/keys"
)

// invalid makes a keys.ErrInvalid, what is malformed, whose text is the message alone.
func invalid(format string, args ...any) error {
	return &invalidError{fmt.Sprintf(format, args...)}
}

type invalidError struct{ message string }

func (e *invalidError) Error() string        { return e.message }
func (e *invalidError) Is(target error) bool { return target == keys.ErrInvalid }
