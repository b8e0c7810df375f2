package keys

import (
	"strings"
	"unicode/utf8"
)

// MaxBorgStore is the longest BorgStore name in characters, slashes included.
const MaxBorgStore = 100

// BorgStoreRule applies the rules of the BorgStore protocol for names, in their order, and returns the text of the first that
// the name breaks; "": none. The empty name is valid: it is the root. Source: borgstore-rest 3.1.
func BorgStoreRule(name string) string {
	switch {
	case utf8.RuneCountInString(name) > MaxBorgStore:
		return "name is too long (max: 100)"
	case strings.ContainsFunc(name, func(c rune) bool { return c >= utf8.RuneSelf }):
		return "name must encode to plain ascii, but failed with"
	case strings.HasPrefix(name, "/"), strings.HasSuffix(name, "/"), strings.Contains(name, ".."):
		return "name must be relative and not contain '..'"
	case strings.ContainsAny(name, "\\ "):
		return "name must not contain backslashes or blanks"
	case strings.ContainsFunc(name, func(c rune) bool { return c >= 'A' && c <= 'Z' }):
		return "name must be lowercase, but got"
	case strings.HasSuffix(name, ".tmp"):
		return "name must not end with .tmp, but got"
	case strings.HasSuffix(name, ".hid"):
		return "name must not end with .hid, but got"
	}
	return ""
}
