package datadir

import (
	"errors"

	"packhouse/repo"
	"packhouse/repo/adopt"
)

// BeginAdoption says durably that the repository of that name is being made from source, the directory of another server or a backup: from now on
// requests for it are ErrAdopting, and nobody can create it, until whoever adopts has completed it. It may be repeated for the same
// source. Errors: repo.ErrExists if there is one, repo.ErrForeign if the directory contains something else, repo.ErrCorrupt if it has blobs
// whose index is lost, repo.ErrInvalid in a set of one, and if there is one of the same name in another form of Unicode.
func (s *Set) BeginAdoption(name, source string) error {
	if s.o.Single {
		return repo.Errorf(repo.ErrInvalid, "the directory is a single repository; give the data directory")
	}
	dir, err := s.path(name)
	if err != nil {
		return err
	}
	defer s.lockAlike(name)()
	defer s.names.lock(name)()
	if _, err := s.opened(name); err != nil {
		return err
	}
	if err := s.look(true); err != nil {
		return err
	}
	if err := errors.Join(s.volumeOf(name, dir), s.alike(name)); err != nil {
		return err
	}
	switch err := s.inspect(dir); {
	case errors.Is(err, ErrAdopting):
		return adopt.Mark(s.o.FS, dir, source)
	default:
		if err := s.vacate(name, dir, err); err != nil {
			return err
		}
	}
	return adopt.Mark(s.o.FS, dir, source)
}

// EndAdoption ends an adoption that was begun under that name and given up, of which nothing but the mark is left: the name is free then, durably.
// Errors: repo.ErrExists if the repository is complete, repo.ErrNoRepository if nothing is being adopted, or in a set of one.
func (s *Set) EndAdoption(name string) error {
	return s.whileLocked(name, func(dir string, found error) error {
		switch {
		case found == nil:
			return repo.ErrExists
		case !errors.Is(found, ErrAdopting):
			return found
		}
		return adopt.Unmark(s.o.FS, dir)
	})
}

// whileLocked calls fn with the directory of a name, and with what an inspection of it has found, while nobody else changes what has that name.
func (s *Set) whileLocked(name string, fn func(dir string, found error) error) error {
	dir, err := s.path(name)
	if err != nil {
		return err
	}
	defer s.names.lock(name)()
	if _, err := s.opened(name); err != nil {
		return err
	}
	if err := s.look(true); err != nil {
		return err
	}
	return fn(dir, s.inspect(dir))
}
