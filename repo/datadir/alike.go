package datadir

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/text/unicode/norm"

	"packhouse/repo"
)

// Unicode has several forms of some texts: é is one character, or an e with a mark. They look the same everywhere, and programs change one into the other
// on the way to us. So there is at most one repository of each such text, under the form that it was created with. Names that only resemble each other (a
// Latin and a Cyrillic a) are different texts: which ones people confuse depends on their fonts and languages, and permissions compare bytes.

// lockAlike holds all forms of a name, so that of two that are created at once one finds the other. It comes before the lock of the name.
func (s *Set) lockAlike(name string) (unlock func()) { return s.forms.lock(norm.NFC.String(name)) }

// alike is a repo.ErrInvalid if there is a repository of the same name in another form. All forms are held.
func (s *Set) alike(name string) error {
	if s.o.Single {
		return nil
	}
	entries, err := s.o.FS.ReadDir(s.o.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for names that are alike: %w", err)
	}
	text := norm.NFC.String(name)
	for _, entry := range entries {
		other, ok := NameOf(entry.Name())
		if !ok || other == name || norm.NFC.String(other) != text {
			continue
		}
		if err := s.inspect(s.dir(other)); !errors.Is(err, repo.ErrNoRepository) {
			return repo.Errorf(repo.ErrInvalid, "there is a repository of this name in another form of Unicode: it is %+q, and this is %+q", other, name)
		}
	}
	return nil
}
