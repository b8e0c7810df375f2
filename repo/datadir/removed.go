package datadir

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/layout"
)

// A repository that was destroyed where removed items have a grace time is set aside whole, in its own directory, which may be a volume
// of its own: index, log, blobs and all lie in .removed/ID. So it can be put back by renames, and its name can be used meanwhile.
// What is to become of a repository is written beside its index before that loses its name: a crash leaves it whole, or
// removed with a grace time, never without.

// expireEvery is how often removed repositories are looked at, when somebody lists the repositories.
const expireEvery = time.Hour

// Removed is a repository that was destroyed and can be restored.
type Removed struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"` // that it had
	Dialect string    `json:"dialect"`
	Items   int64     `json:"items"`
	Bytes   int64     `json:"bytes"`
	Held    int64     `json:"bytes_held"` // also of what lies in the trash, or is kept after compactions
	At      time.Time `json:"removed"`
	Expires time.Time `json:"expires"` // when its files may go
}

// graceOf is the grace time for a repository that is about to be destroyed: none if those of its name that are kept already would then hold
// more than its quota and that of its trash, so that nobody fills the disk by creating and destroying. The oldest give way, but none before
// the time is over for which what was removed is protected: what was destroyed first may be what is wanted back. Where repo.Guard.MinAge has
// everything kept, it is refused instead.
func (s *Set) graceOf(name, dir string, r *repo.Repository, grace time.Duration) (time.Duration, error) {
	usage := r.Usage()
	if grace <= 0 || usage.Limit < 0 || usage.TrashLimit < 0 {
		return grace, nil
	}
	over := heldBy(usage) - usage.Limit - usage.TrashLimit
	var kept []Removed
	err := s.removedIn(dir, func(removed Removed) error {
		kept = append(kept, removed)
		over += removed.Held
		return nil
	})
	if len(kept) == 0 {
		return grace, err // the first is kept whatever it holds
	}
	slices.SortFunc(kept, func(a, b Removed) int { return a.At.Compare(b.At) })
	for _, removed := range kept {
		if err != nil || over <= 0 || s.o.Now().Sub(removed.At) < r.Protected() {
			break
		}
		if err = s.purgeLocked(name, dir, removed); err == nil {
			over -= removed.Held
			s.o.Logger.Warn("a removed repository is deleted before its time: those of its name hold more than its quota", "repository", removed.Name, "id", removed.ID, "bytes", removed.Held)
		}
	}
	if over > 0 && r.Guard().MinAge > 0 {
		return 0, repo.Errorf(repo.ErrDenied, `refused by min_age: removed repositories of this name hold as much as quota and trash_quota allow; `+
			`an administrator can delete one of them on the server with "packhouse repo purge"`)
	}
	if err != nil || over > 0 {
		s.o.Logger.Warn("a destroyed repository is not kept: those of its name that are kept hold as much as its quota allows", "repository", name, "bytes", heldBy(usage), "error", err)
		return 0, nil
	}
	return grace, nil
}

// heldBy is what a repository holds, with what can be restored.
func heldBy(usage repo.Usage) int64 { return usage.Bytes + usage.TrashBytes + usage.KeptBytes }

// noteRemoval writes, durably, that a repository which is about to be destroyed is to be kept for a grace time; without one, that it is
// not.
func (s *Set) noteRemoval(name, dir string, r *repo.Repository, grace time.Duration) error {
	path := filepath.Join(dir, layout.RemovedFile)
	// From one that did not come to its end.
	if err := s.o.FS.Remove(path); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if grace <= 0 {
			return nil
		}
	}
	if grace > 0 {
		id := make([]byte, 8)
		if _, err := io.ReadFull(s.o.Rand, id); err != nil {
			return err
		}
		now, usage := s.o.Now(), r.Usage()
		err := s.writeRemoved(path, Removed{
			ID: hex.EncodeToString(id), Name: name, Dialect: r.Dialect(), Items: usage.Items, Bytes: usage.Bytes, Held: heldBy(usage), At: now, Expires: now.Add(grace),
		})
		if err != nil {
			return err
		}
	}
	return s.o.FS.SyncDir(dir)
}

// writeRemoved writes a file, whose entry in the directory is not synced.
func (s *Set) writeRemoved(path string, removed Removed) error {
	text, err := json.Marshal(removed)
	if err != nil {
		return err
	}
	return s.writeFile(path, text)
}

func (s *Set) writeFile(path string, text []byte) error {
	file, err := s.o.FS.Create(path)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// readRemoved reads what is known of one.
func (s *Set) readRemoved(path string) (removed Removed, err error) {
	text, err := s.readFile(path)
	if err == nil {
		err = json.Unmarshal(text, &removed)
	}
	if err == nil && !isRemovedID(removed.ID) {
		err = errors.New("it has no ID")
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("read %s: %w", layout.RemovedFile, err)
	}
	return removed, err
}

// maxRemoved bounds what is read of a file that says what a removed repository was.
const maxRemoved = 64 << 10

func (s *Set) readFile(path string) ([]byte, error) {
	file, err := s.o.FS.Open(path)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, maxRemoved))
	return text, errors.Join(err, file.Close())
}

func isRemovedID(id string) bool {
	b, err := hex.DecodeString(id)
	return err == nil && len(b) == 8
}

// removalOf tells of a repository whose removal has begun whether it is to be kept.
func (s *Set) removalOf(dir string) (removed Removed, keep bool, err error) {
	removed, err = s.readRemoved(filepath.Join(dir, layout.RemovedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return removed, false, nil
	}
	return removed, err == nil, err
}

func removedPath(dir, id string) string { return filepath.Join(dir, layout.RemovedDir, id) }

// setAside moves the files of a repository whose removal has begun to where it is kept. It can be repeated. The index comes last, with
// its name: until then the directory has the mark of a removal.
func (s *Set) setAside(dir string, removed Removed) error {
	to := removedPath(dir, removed.ID)
	for _, folder := range []string{filepath.Dir(to), to} {
		if err := s.o.FS.Mkdir(folder); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := s.o.FS.SyncDir(filepath.Dir(folder)); err != nil { // before anything is moved there
			return err
		}
	}
	described := filepath.Join(to, layout.RemovedFile)
	if err := s.o.FS.Remove(described); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.writeRemoved(described, removed); err != nil {
		return err
	}
	if err := s.moveFiles(dir, to, layout.DestroyedFile, layout.RemovedFile); err != nil {
		return err
	}
	if err := s.syncAll(to, dir); err != nil {
		return err
	}
	if err := s.moveIndex(filepath.Join(dir, layout.DestroyedFile), filepath.Join(to, layout.IndexFile)); err != nil {
		return err
	}
	if err := s.o.FS.Remove(filepath.Join(dir, layout.RemovedFile)); err != nil {
		return err
	}
	return s.o.FS.SyncDir(dir)
}

// moveIndex moves an index to another directory, durably. It has both names in between: one of two directories may reach the disk before the
// other.
func (s *Set) moveIndex(from, to string) error {
	if err := s.o.FS.Link(from, to); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := s.o.FS.SyncDir(filepath.Dir(to)); err != nil {
		return err
	}
	if err := s.o.FS.Remove(from); err != nil {
		return err
	}
	return s.o.FS.SyncDir(filepath.Dir(from))
}

func (s *Set) syncAll(dirs ...string) error {
	for _, dir := range dirs {
		if err := s.o.FS.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// Removed lists the repositories that were destroyed and can be restored, those that expire first first.
func (s *Set) Removed() ([]Removed, error) {
	var all []Removed
	err := s.eachRemoved(func(_ string, removed Removed) error {
		all = append(all, removed)
		return nil
	})
	slices.SortFunc(all, func(a, b Removed) int { return a.Expires.Compare(b.Expires) })
	return all, err
}

// eachRemoved calls fn for each that can be restored, with the directory in which it was a repository.
func (s *Set) eachRemoved(fn func(dir string, removed Removed) error) error {
	if err := s.look(false); err != nil {
		return err
	}
	dirs := []string{s.o.Dir} // which was one repository itself, perhaps, and is not known as that any more
	if !s.o.Single {
		entries, err := s.o.FS.ReadDir(s.o.Dir)
		if layout.IgnoreMissing(err) != nil {
			return fmt.Errorf("list removed repositories: %w", err)
		}
		names, own, on := s.namesOf(entries)
		answered := answers(&s.removing, silentAfter, own, names, on, func(name string) bool {
			_, err := s.o.FS.Stat(filepath.Join(s.dir(name), layout.RemovedDir))
			return !errors.Is(err, fs.ErrNotExist)
		})
		for _, name := range names {
			if answered[name] { // of a disk that does not answer none can be restored now
				dirs = append(dirs, s.dir(name))
			}
		}
	}
	for _, dir := range dirs {
		if err := s.removedIn(dir, func(removed Removed) error { return fn(dir, removed) }); err != nil {
			return err
		}
	}
	return nil
}

// removedIn calls fn for each in one directory.
func (s *Set) removedIn(dir string, fn func(Removed) error) error {
	entries, err := s.o.FS.ReadDir(filepath.Join(dir, layout.RemovedDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("list removed repositories: %w", err)
	}
	if len(entries) == 0 {
		return nil
	}
	restoring, err := s.readFile(filepath.Join(dir, layout.RestoringFile))
	if layout.IgnoreMissing(err) != nil {
		return fmt.Errorf("list removed repositories: %w", err)
	}
	for _, entry := range entries {
		if entry.Name() == string(restoring) {
			continue
		}
		removed, err := s.readRemoved(filepath.Join(removedPath(dir, entry.Name()), layout.RemovedFile))
		if err != nil || removed.ID != entry.Name() {
			continue // its removal, or its restoring, is not complete, and is completed with the next look at the name
		}
		if _, err := s.o.FS.Stat(filepath.Join(removedPath(dir, removed.ID), layout.IndexFile)); err != nil {
			continue
		}
		if err := fn(removed); err != nil {
			return err
		}
	}
	return nil
}

// nameIn is the name of the repository that was in a directory of the set.
func (s *Set) nameIn(dir string) string {
	if dir == s.o.Dir {
		return ""
	}
	return layout.NameIn(dir)
}

// findRemoved finds the one that a name means: an ID, or the name of a repository of which only one was removed.
func (s *Set) findRemoved(name string) (dir string, found Removed, err error) {
	n := 0
	err = s.eachRemoved(func(at string, removed Removed) error {
		if removed.ID == name || removed.Name == name {
			dir, found = at, removed
			n++
		}
		return nil
	})
	switch {
	case err != nil:
		return "", found, err
	case n == 0:
		return "", found, repo.Errorf(repo.ErrNoRepository, "no removed repository has this name or ID; packhouse repo list --removed shows those that there are")
	case n > 1:
		return "", found, repo.Errorf(repo.ErrConflict, "%d removed repositories had this name: give the ID of one; packhouse repo list --removed shows them", n)
	}
	return dir, found, nil
}

// RestoreRemoved puts a repository back that was destroyed: name is its name or ID. as is the name that it gets, "" for the one that it
// had. When it returns nil the repository is there, durably. Errors: repo.ErrNoRepository if there is none to restore,
// repo.ErrConflict if several have that name, repo.ErrExists, also if there is anything else under its new name.
func (s *Set) RestoreRemoved(ctx context.Context, name, as string) (Removed, error) {
	dir, removed, err := s.findRemoved(name)
	if errors.Is(err, repo.ErrNoRepository) && s.finishRemoval(name) {
		dir, removed, err = s.findRemoved(name)
	}
	if err != nil {
		return removed, err
	}
	own := s.nameIn(dir)
	s.finishRemoval(own)
	if as == "" || as == own {
		defer s.lockAlike(own)()
		defer s.names.lock(own)()
		if err := s.alike(own); err != nil {
			return removed, err
		}
		return removed, s.putBack(own, dir, removed)
	}
	if s.o.Single {
		return removed, repo.Errorf(repo.ErrInvalid, "the directory is one repository, which has no other name")
	}
	to, err := s.path(as)
	if err != nil {
		return removed, err
	}
	defer s.lockAlike(as)()
	defer s.names.lock(min(own, as))()
	defer s.names.lock(max(own, as))()
	if err := s.alike(as); err != nil {
		return removed, err
	}
	if removed.Name, err = as, s.moveRemoved(dir, to, removed); err == nil {
		s.removeEmptyLater(own, dir)
	}
	return removed, err
}

// finishRemoval goes on with the removal of a repository that was interrupted, if there is one, and tells whether it did.
func (s *Set) finishRemoval(name string) bool {
	dir, err := s.path(name)
	if err != nil {
		return false // it is an ID
	}
	defer s.names.lock(name)()
	return errors.Is(s.inspect(dir), errDestroyed) && !s.onReadOnlyDisk(dir) && s.clear(name, dir) == nil
}

// stillRemoved is repo.ErrNoRepository if one is not there any more that was found before its name was held: purged, or restored by another.
func (s *Set) stillRemoved(dir string, removed Removed) error {
	_, err := s.o.FS.Stat(filepath.Join(removedPath(dir, removed.ID), layout.IndexFile))
	if errors.Is(err, fs.ErrNotExist) {
		return repo.ErrNoRepository
	}
	return err
}

// putBack restores into the directory in which it was. The name is held.
func (s *Set) putBack(name, dir string, removed Removed) error {
	switch err := s.inspect(dir); {
	case err == nil, errors.Is(err, errRestoring):
		return repo.ErrExists
	case s.onReadOnlyDisk(dir):
		return repo.ErrReadOnlyDisk
	case errors.Is(err, errDestroyed):
		if err := s.clear(name, dir); err != nil {
			return fmt.Errorf("restore repository: %w", err)
		}
	case !errors.Is(err, repo.ErrNoRepository):
		return err
	}
	if err := s.stillRemoved(dir, removed); err != nil {
		return err
	}
	if err := finishDestroy(s.o.FS, dir); err != nil { // what an interrupted create left
		return fmt.Errorf("restore repository: %w", err)
	}
	err := s.writeFile(filepath.Join(dir, layout.RestoringFile), []byte(removed.ID))
	if err == nil {
		err = s.o.FS.SyncDir(dir)
	}
	if err == nil {
		err = s.finishRestore(dir)
	}
	if err != nil {
		return fmt.Errorf("restore repository: %w", err)
	}
	s.unusable.note(name, nil)
	return nil
}

// finishRestore moves files back from where they are kept, the index last: with it the directory is a repository again. It can be
// repeated. The name is held.
func (s *Set) finishRestore(dir string) (err error) {
	mark := filepath.Join(dir, layout.RestoringFile)
	id, err := s.readFile(mark)
	if err != nil {
		return err
	}
	from := removedPath(dir, string(id))
	if !isRemovedID(string(id)) {
		return errors.Join(repo.ErrNoRepository, s.o.FS.Remove(mark)) // nothing was moved yet
	}
	lock, err := index.Open(filepath.Join(from, layout.IndexFile), index.Options{Use: index.Hold})
	switch {
	case err == nil:
		defer func() { err = errors.Join(err, lock.Close()) }()
	case errors.Is(err, index.ErrLocked):
		return errElsewhere
	case errors.Is(err, index.ErrNotFound): // it is in its place
		return errors.Join(s.o.FS.RemoveAll(from), layout.IgnoreMissing(s.o.FS.Remove(mark)))
	}
	if err := s.moveFiles(from, dir, layout.IndexFile, layout.RemovedFile); err != nil {
		return err
	}
	if err := s.syncAll(dir, from); err != nil {
		return err
	}
	if err := s.moveIndex(filepath.Join(from, layout.IndexFile), filepath.Join(dir, layout.IndexFile)); err != nil {
		return err
	}
	// From here on nothing is needed of the rest.
	err = errors.Join(s.o.FS.RemoveAll(from), s.o.FS.Remove(mark))
	_ = s.o.FS.Remove(filepath.Dir(from)) // others may be kept there
	return err
}

// moveRemoved restores under another name, in one rename. That name is held.
func (s *Set) moveRemoved(dir, to string, removed Removed) error {
	switch err := s.inspect(to); {
	case err == nil, errors.Is(err, errRestoring), errors.Is(err, errDestroyed):
		return repo.ErrExists
	case s.onReadOnlyDisk(dir):
		return repo.ErrReadOnlyDisk
	case !errors.Is(err, repo.ErrNoRepository):
		return err
	}
	if err := s.stillRemoved(dir, removed); err != nil {
		return err
	}
	from := removedPath(dir, removed.ID)
	lock, err := index.Open(filepath.Join(from, layout.IndexFile), index.Options{Use: index.Hold})
	if errors.Is(err, index.ErrLocked) || errors.Is(err, index.ErrNotFound) {
		return errElsewhere
	}
	err = s.o.FS.Rename(from, to)
	if errors.Is(err, syscall.EXDEV) || errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTEMPTY) {
		err = repo.Errorf(repo.ErrExists, "it cannot get this name: there is a directory of that name, or the repository is a volume of its own")
	}
	if lock != nil {
		err = errors.Join(err, lock.Close())
	}
	if err == nil {
		err = s.syncAll(filepath.Dir(to), filepath.Dir(from))
	}
	if err == nil {
		err = layout.IgnoreMissing(s.o.FS.Remove(filepath.Join(to, layout.RemovedFile)))
	}
	return err
}

// PurgeRemoved removes a repository for good that was destroyed: name is its name or ID. It cannot be restored any more when PurgeRemoved
// returns; its files are removed in the background. Errors: as of RestoreRemoved.
func (s *Set) PurgeRemoved(name string) (Removed, error) {
	dir, removed, err := s.findRemoved(name)
	if err != nil {
		return removed, err
	}
	return removed, s.purgeRemoved(dir, removed)
}

func (s *Set) purgeRemoved(dir string, removed Removed) error {
	name := s.nameIn(dir)
	defer s.names.lock(name)()
	return s.purgeLocked(name, dir, removed)
}

// purgeLocked is purgeRemoved while the name is held.
func (s *Set) purgeLocked(name, dir string, removed Removed) error {
	if s.onReadOnlyDisk(dir) {
		return repo.ErrReadOnlyDisk
	}
	if err := s.stillRemoved(dir, removed); err != nil {
		return err
	}
	grave := filepath.Join(dir, layout.GraveDir)
	if err := s.o.FS.Mkdir(grave); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("purge repository: %w", err)
	}
	err := s.o.FS.Rename(removedPath(dir, removed.ID), filepath.Join(grave, removed.ID))
	if err == nil {
		err = s.syncAll(grave, filepath.Join(dir, layout.RemovedDir))
	}
	if err != nil {
		return fmt.Errorf("purge repository: %w", err)
	}
	_ = s.o.FS.Remove(filepath.Join(dir, layout.RemovedDir)) // others may be kept there
	s.sweepLater(name, dir)
	return nil
}

// removeEmptyLater removes the directory of a repository of which nothing is left.
func (s *Set) removeEmptyLater(name, dir string) {
	_ = s.o.FS.Remove(filepath.Join(dir, layout.RemovedDir)) // others may be kept there
	s.sweepLater(name, dir)
}

// expiryDue tells that removed repositories are to be looked at, and that they are now.
func (s *Set) expiryDue() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.o.Now()
	if s.closed || !s.expiring.IsZero() && now.Sub(s.expiring) < expireEvery && !now.Before(s.expiring) {
		return false
	}
	s.expiring = now
	return true
}

// expireIn purges in the background what has expired in a directory.
func (s *Set) expireIn(dir string) {
	var expired []Removed
	err := s.removedIn(dir, func(removed Removed) error {
		if !removed.Expires.After(s.o.Now()) {
			expired = append(expired, removed)
		}
		return nil
	})
	if err != nil {
		s.o.Logger.Warn("removed repositories could not be looked at; retried later", "repository", s.nameIn(dir), "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(expired) == 0 || s.closed {
		return
	}
	s.sweeps.Go(func() {
		for _, removed := range expired {
			switch err := s.purgeRemoved(dir, removed); {
			case err == nil:
				s.o.Logger.Info("a removed repository is deleted: its grace time is over", "repository", removed.Name, "id", removed.ID, "bytes", removed.Bytes)
			case !errors.Is(err, repo.ErrReadOnlyDisk) && !errors.Is(err, repo.ErrNoRepository): // or somebody else was first
				s.o.Logger.Warn("a removed repository whose grace time is over could not be deleted; retried later", "repository", removed.Name, "error", err)
			}
		}
	})
}
