package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"syscall"

	"packhouse/blobstore/vfs"
	"packhouse/repo"
	"packhouse/repo/layout"
)

// There are clients that take a repository which is missing for an empty one, and then delete what they think nobody uses. So it is kept durably which
// repositories there have been: layout.KnownDir in the server's own directory has an empty file for each, of the name of its directory. It is made when
// the repository is first opened, before anybody gets it, and removed before a repository is destroyed: a crash leaves at most one without its file,
// which gets it when it is opened next. What has such a file and is not there is repo.ErrVanished. There are never more files than repositories were made.

// knownPath is the file of the repository in dir.
func knownPath(dir string) string {
	return filepath.Join(filepath.Dir(dir), layout.OwnDir, layout.KnownDir, filepath.Base(dir))
}

// know records durably that there is a repository of that name, which is held and was just opened. If that fails it is remembered until the set is
// closed: the disk may be full, and clients must be able to delete.
func (s *Set) know(name string) {
	if s.o.Single {
		return
	}
	s.mu.Lock()
	recorded := s.known[name]
	s.known[name] = recorded
	s.mu.Unlock()
	if own := filepath.Join(s.o.Dir, layout.OwnDir); recorded || s.onReadOnlyDisk(own) { // it is recorded when it is opened again, for writes
		return
	}
	err := s.record(s.dir(name))
	s.mu.Lock()
	s.known[name] = true // also if it could not be recorded: that is told once
	s.mu.Unlock()
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.EROFS): // no server has a directory of its own here; or nothing can be kept
	default:
		s.o.Logger.Warn("it could not be recorded that there is a repository; if it is missing after a restart, clients are told that there never was one",
			"repository", name, "error", vfs.WithoutPath(err))
	}
}

// record makes the file of the repository in dir. What is there may have been made by a process that was killed before its sync: so the first time the
// directory is synced with all that is in it, and its own name.
func (s *Set) record(dir string) error {
	path := knownPath(dir)
	own, synced := filepath.Dir(path), s.recorded.Load()
	if _, err := s.o.FS.Stat(path); err != nil {
		switch err := s.o.FS.Mkdir(own); {
		case err == nil:
			synced = false
		case !errors.Is(err, fs.ErrExist):
			return err
		}
		f, err := s.o.FS.Create(path)
		if err == nil {
			err = errors.Join(f.Sync(), f.Close())
		}
		if err = layout.IgnoreExisting(err); err != nil {
			return err
		}
	} else if synced {
		return nil
	}
	if !synced {
		if err := s.o.FS.SyncDir(filepath.Dir(own)); err != nil {
			return err
		}
	}
	err := s.o.FS.SyncDir(own)
	if err == nil {
		s.recorded.Store(true)
	}
	return err
}

// forget undoes know, durably. The name of the repository in dir is held.
func (s *Set) forget(name, dir string) error {
	s.mu.Lock()
	delete(s.known, name)
	s.mu.Unlock()
	path := knownPath(dir)
	err := s.o.FS.Remove(path)
	if err == nil {
		err = s.o.FS.SyncDir(filepath.Dir(path))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// isKnown tells whether there was a repository of that name.
func (s *Set) isKnown(name string) bool {
	if s.o.Single {
		return false
	}
	s.mu.RLock()
	_, known := s.known[name]
	s.mu.RUnlock()
	if known {
		return true
	}
	_, err := s.o.FS.Stat(knownPath(s.dir(name)))
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrPermission): // of the last, know has warned
		return false
	}
	return true // also if nobody can tell
}

// vanished is err, the outcome of an opening, or repo.ErrVanished if that is what it means.
func (s *Set) vanished(name string, err error) error {
	if errors.Is(err, repo.ErrNoRepository) && (errors.Is(err, errRestoring) || s.isKnown(name)) {
		return repo.ErrVanished
	}
	return err
}

// Forget has a repository that is not there any more be one that never was, durably. Errors: repo.ErrExists if it is there,
// repo.ErrNoRepository if there was none.
func (s *Set) Forget(name string) error {
	return s.whileLocked(name, func(dir string, found error) error {
		switch {
		case found == nil:
			return repo.ErrExists
		case !errors.Is(found, repo.ErrNoRepository):
			return found
		case !s.isKnown(name):
			return repo.ErrNoRepository
		}
		if err := s.forget(name, dir); err != nil {
			return fmt.Errorf("forget repository: %w", err)
		}
		return nil
	})
}

// Vanished lists the repositories that are not there any more, though nobody has destroyed them, sorted. there are those of Names. None is listed when the
// data directory itself is missing or another one.
func (s *Set) Vanished(there []string) (names []string) {
	if s.o.Single {
		return nil
	}
	s.mu.RLock()
	known := make(map[string]bool, len(s.known))
	for name := range s.known {
		known[name] = true
	}
	s.mu.RUnlock()
	for _, name := range recorded(s.o.Dir) {
		known[name] = true
	}
	for _, name := range there {
		delete(known, name)
	}
	for name := range known {
		// Else it was made this moment, or destroyed: which forgets it first.
		if !layout.HasIndex(s.dir(name)) && s.isKnown(name) {
			names = append(names, name)
		}
	}
	if len(names) > 0 && s.look(false) != nil { // since there was listed
		return nil
	}
	sort.Strings(names)
	return names
}

// recorded are the names that a data directory has a file for.
func recorded(data string) (names []string) {
	entries, err := os.ReadDir(filepath.Join(data, layout.OwnDir, layout.KnownDir))
	if err != nil {
		return nil
	}
	for _, entry := range entries {
		if name, ok := NameOf(entry.Name()); ok {
			names = append(names, name)
		}
	}
	return names
}

// Vanished are the repositories that are missing in a data directory, though nobody has destroyed them, sorted. Those on disks that do not answer are not
// among them.
func Vanished(data string) (names []string) {
	known := recorded(data)
	if len(known) == 0 {
		return nil
	}
	slices.Sort(known)
	entries, err := os.ReadDir(data)
	if err != nil {
		return nil
	}
	there := make(map[string]bool, len(entries))
	var dirs []string
	for _, entry := range entries {
		name, _ := NameOf(entry.Name())
		if _, ok := slices.BinarySearch(known, name); ok {
			dirs, there[name] = append(dirs, entry.Name()), true
		}
	}
	for dir, has := range lookInto(data, entries, dirs, func(dir string) bool { return Inspect(filepath.Join(data, dir)) != repo.ErrNoRepository }) {
		there[layout.NameIn(dir)] = has
	}
	for _, name := range known {
		if !there[name] {
			names = append(names, name)
		}
	}
	return names
}
