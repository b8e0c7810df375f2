package layout

import (
	"net/url"
	"path/filepath"
	"strings"
)

// DirName is the name of the directory that a repository has in its data directory: the repository's own name, in which each byte other
// than ASCII letters, digits, '.', '_' and '-' is escaped as in a URL. So the directory of "a/b" is "a%2Fb", beside that of "a" and not in it.
func DirName(name string) string {
	plain := true
	for i := 0; i < len(name) && plain; i++ {
		plain = plainByte(name[i])
	}
	if plain {
		return name
	}
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if c := name[i]; plainByte(c) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		}
	}
	return b.String()
}

func plainByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
}

// NameOf is the name of the repository that has a directory of this name in its data directory. ok is false where no repository has: DirName
// gives another one.
func NameOf(dir string) (name string, ok bool) {
	name, err := url.PathUnescape(dir)
	return name, err == nil && DirName(name) == dir
}

// NameIn is NameOf for a path. The last part of one that no repository has is returned as it is.
func NameIn(dir string) string {
	base := filepath.Base(dir)
	if name, ok := NameOf(base); ok {
		return name
	}
	return base
}
