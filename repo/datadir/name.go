package datadir

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"packhouse/repo"
	"packhouse/repo/layout"
)

// Bounds of names, in bytes.
const (
	maxName    = 128
	maxDirName = 240 // a name of a file may have 255
)

// CheckName returns an error unless name is valid for a repository on a server of many: one or two parts with a slash between them, in all
// 1 to 128 bytes, and 240 as layout.DirName escapes them. A part consists of letters and digits in UTF-8, '.', '_', '-', '@', '+', '=', ',', '~' and blanks, does not begin
// with '.' (the first of a path: those names are reserved for the server), is not "-" (the administration API), and has no blank at its ends.
// Source: vger-rest 3.2; restic-rest 3.1, which allows two parts.
func CheckName(name string) error {
	if name == "" || len(name) > maxName || len(layout.DirName(name)) > maxDirName {
		return repo.Errorf(repo.ErrInvalid, "a repository name has 1 to %d characters, fewer if they are not plain letters", maxName)
	}
	if strings.Count(name, "/") > 1 {
		return repo.Errorf(repo.ErrInvalid, "a repository name has at most two parts, as in alice/laptop: %q", name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if err := checkPart(part, name); err != nil {
			return err
		}
	}
	return nil
}

func checkPart(part, name string) error {
	switch {
	case part == "":
		return repo.Errorf(repo.ErrInvalid, "a part of a repository name is empty: %q", name)
	case part[0] == '.' || part == "-":
		return repo.Errorf(repo.ErrInvalid, "a repository name does not begin with '.' and is not '-': %q", name)
	case part[0] == ' ' || part[len(part)-1] == ' ':
		return repo.Errorf(repo.ErrInvalid, "a repository name does not begin or end with a blank: %q", name)
	}
	if !utf8.ValidString(part) || strings.ContainsFunc(part, func(c rune) bool { return !inName(c) }) {
		return repo.Errorf(repo.ErrInvalid, "a repository name has only letters, digits, blanks and . _ - @ + = , ~ and at most one slash: %q", name)
	}
	return nil
}

func inName(c rune) bool {
	return unicode.IsLetter(c) || unicode.IsMark(c) || unicode.IsDigit(c) || strings.ContainsRune("._-@+=,~ ", c)
}

// NameOf is the name of the repository that an entry of a data directory can be, by its name alone.
func NameOf(entry string) (name string, ok bool) {
	name, ok = layout.NameOf(entry)
	return name, ok && CheckName(name) == nil
}
