package repo

import (
	"strings"
	"unicode/utf8"
)

// MaxKey is the longest key in bytes. Dialects may allow less.
const MaxKey = 1024

// CheckKey tells whether key is one a repository can hold: 1 to MaxKey bytes of
// slash-separated components in UTF-8, none empty, "." or "..", without control
// characters and backslashes. There is one spelling of each key: a
// dialect that lets clients write "./a" or "a//b" cleans first (CleanKey),
// so that no spelling slips past the permissions.
func CheckKey(key string) error {
	if key == "" {
		return invalid("a name is required")
	}
	if len(key) > MaxKey {
		return invalid("name is too long (max: %d)", MaxKey)
	}
	for i := 0; i < len(key); i++ {
		if c := key[i]; c < 0x20 || c == 0x7f || c == '\\' {
			return invalid("name must not contain control characters or backslashes: %q", key)
		}
	}
	if !utf8.ValidString(key) { // JSON could not carry it: listings, labels of blobs
		return invalid("name must be UTF-8: %q", key)
	}
	for rest := key; ; {
		component, more, found := strings.Cut(rest, "/")
		switch component {
		case "", ".", "..":
			return invalid("name must not have empty, '.' or '..' components: %q", key)
		}
		if !found {
			return nil
		}
		rest = more
	}
}

// CleanKey drops empty and "." components: the spelling under which policy and index
// know the name. It does not resolve ".."; CheckKey refuses that.
func CleanKey(name string) string {
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

// CheckName tells whether name can name a repository on a server of many: 1 to
// 128 bytes of letters, digits, '.', '_' and '-', not beginning with '.' (those
// are the server's own) and not "-" (our own API). Source: vger-rest, 3.2.
func CheckName(name string) error {
	if name == "" || len(name) > 128 {
		return invalid("a repository name has 1 to 128 characters")
	}
	if name[0] == '.' || name == "-" {
		return invalid("a repository name does not begin with '.' and is not '-': %q", name)
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return invalid("a repository name has only letters, digits, '.', '_' and '-': %q", name)
		}
	}
	return nil
}
