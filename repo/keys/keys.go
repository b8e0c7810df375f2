// Package keys defines which names items can have in a repository. A valid key has exactly one spelling, so that permissions, the index
// and the labels of blobs mean the same item by it. It does not know what is stored under a key, nor the names that clients use, which
// dialects map to keys. Start reading at Check.
package keys

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// ErrInvalid is what a malformed key is refused with; the text of such an error is for clients.
var ErrInvalid = errors.New("invalid request")

// malformedError is an ErrInvalid whose text is the message alone.
type malformedError struct{ message string }

func (e *malformedError) Error() string        { return e.message }
func (e *malformedError) Is(target error) bool { return target == ErrInvalid }

func malformed(format string, args ...any) error {
	return &malformedError{fmt.Sprintf(format, args...)}
}

// Max is the longest key in bytes. Dialects may allow less.
const Max = 1024

// Check tells whether key is one a repository can hold: 1 to Max bytes of
// slash-separated components in UTF-8, none empty, "." or "..", without control
// characters and backslashes. There is one spelling of each key: a
// dialect that lets clients write "./a" or "a//b" cleans first (Clean),
// so that no spelling slips past the permissions.
func Check(key string) error {
	if key == "" {
		return malformed("a name is required")
	}
	if len(key) > Max {
		return malformed("name is too long (max: %d)", Max)
	}
	for i := 0; i < len(key); i++ {
		if c := key[i]; c < 0x20 || c == 0x7f || c == '\\' {
			return malformed("name must not contain control characters or backslashes: %q", key)
		}
	}
	if !utf8.ValidString(key) { // JSON could not carry it: listings, labels of blobs
		return malformed("name must be UTF-8: %q", key)
	}
	for rest := key; ; {
		component, more, found := strings.Cut(rest, "/")
		switch component {
		case "", ".", "..":
			return malformed("name must not have empty, '.' or '..' components: %q", key)
		}
		if !found {
			return nil
		}
		rest = more
	}
}

// Clean drops empty and "." components: the spelling under which policy and index
// know the name. It does not resolve ".."; Check refuses that.
func Clean(name string) string {
	if !strings.Contains(name, "/") && name != "." {
		return name
	}
	parts := strings.Split(name, "/")
	kept := parts[:0]
	for _, p := range parts {
		if p != "" && p != "." {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, "/")
}
