package datadir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/layout"
)

// The files of an open repository can be moved while the server runs: the volume of the data directory is unmounted, or a
// repository's directory is renamed, removed or replaced by a copy. The server gets no notice of that. It therefore checks the
// directories: before it returns an open repository, before it creates anything, and periodically. Package repo describes what a
// repository checks itself.
//
// A repository whose directory is missing or not the one that was opened is closed, and the directory that has its name now is
// opened when it is requested. A data directory that is missing or not the one that was opened is *detached*: every request is
// refused, nothing is created, and all repositories are closed, until Attach.

// attachment is what a Set knows of its data directory. The directory of a single repository is not checked here but with the
// repository.
type attachment struct {
	mu    sync.Mutex
	info  fs.FileInfo // of the directory as it was opened; nil: it was not there yet
	away  error       // why it is detached, a repo.ErrDetached; nil: it is attached
	tried time.Time   // when SetOptions.Reattach was last called

	trying sync.Mutex // held over one call of SetOptions.Reattach
}

// reattachAfter is the time between two calls of SetOptions.Reattach.
const reattachAfter = 250 * time.Millisecond

// Attached checks that the data directory is the one that was opened, by device and inode. Otherwise the error is a
// repo.ErrDetached, until Attach: every repository is closed, and every method of the set that reads or changes one fails. Once the set is closed nothing
// is detached any more, and the error is a repo.ErrBusy.
func (s *Set) Attached() error { return s.look(false) }

// look is Attached; thorough: it reads the identity too. A device's number and the inode of its root directory
// can both be those of another volume.
func (s *Set) look(thorough bool) error {
	s.attached.mu.Lock()
	away, info := s.attached.away, s.attached.info
	s.attached.mu.Unlock()
	if away != nil {
		return s.reattach()
	}
	err := s.examine(info, thorough)
	if err == nil {
		return nil
	}
	if s.isClosed() { // the process has given the directory up, or is about to
		return errStopping
	}
	s.attached.mu.Lock()
	first := s.attached.away == nil && s.attached.info == info
	if first {
		s.attached.away = err
		s.o.Logger.Error("the data directory is missing or not the one that was opened: requests are refused until it is back", "error", err)
	}
	err = s.attached.away
	s.attached.mu.Unlock()
	if err == nil { // it was attached anew meanwhile
		return nil
	}
	for name, r := range s.Opened() {
		s.giveUp(name, r, err)
	}
	if first && s.o.Detached != nil {
		s.o.Detached()
	}
	return s.reattach()
}

// reattach asks for the directory, if it is time to, and returns why it is detached; nil: it is not any more.
func (s *Set) reattach() error {
	if s.o.Reattach == nil || !s.attached.trying.TryLock() {
		return s.detached()
	}
	defer s.attached.trying.Unlock()
	s.attached.mu.Lock()
	away, soon := s.attached.away, time.Since(s.attached.tried) < reattachAfter
	if !soon {
		s.attached.tried = time.Now()
	}
	s.attached.mu.Unlock()
	if away == nil || soon {
		return away
	}
	err := s.recognize()
	if err == nil {
		err = s.o.Reattach()
	}
	if err == nil {
		err = s.Attach()
	}
	if err == nil {
		s.countLater(s.disk.CountAgain())
		return nil
	}
	if !errors.Is(err, repo.ErrDetached) {
		err = fmt.Errorf("%w: %w", repo.ErrDetached, err)
	}
	s.attached.mu.Lock()
	defer s.attached.mu.Unlock()
	if err.Error() != s.attached.away.Error() {
		s.o.Logger.Error("the data directory is still missing or not the one that was opened", "error", err)
	}
	s.attached.away = err
	return err
}

// recognize tells whether the set's data directory, or another with its identity, lies under the path.
func (s *Set) recognize() error {
	if s.o.Single {
		return nil
	}
	now, err := s.o.FS.Stat(s.o.Dir)
	if err != nil {
		return s.detachedError(err)
	}
	if s.o.Identity == "" {
		s.attached.mu.Lock()
		defer s.attached.mu.Unlock()
		if s.attached.info != nil && !os.SameFile(now, s.attached.info) {
			return s.attached.away
		}
		return nil
	}
	if id, err := Identity(s.o.FS, s.o.Dir); err != nil || id != s.o.Identity {
		return s.detachedError(nil)
	}
	return nil
}

// examine compares the directory with info and with the identity it must have.
func (s *Set) examine(info fs.FileInfo, thorough bool) error {
	if !s.o.Single {
		if err := s.examineData(info, thorough); err != nil {
			return err
		}
	}
	if s.o.InPlace != nil {
		return s.o.InPlace()
	}
	return nil
}

func (s *Set) examineData(info fs.FileInfo, thorough bool) error {
	now, err := s.o.FS.Stat(s.o.Dir)
	if info == nil {
		if err == nil {
			s.bind(now)
		}
		return nil // nothing was opened yet
	}
	if err != nil || !os.SameFile(now, info) {
		return s.detachedError(err)
	}
	if thorough && s.o.Identity != "" {
		id, err := Identity(s.o.FS, s.o.Dir)
		if vfs.NotBegun(err) {
			return nil // for want of a descriptor: that says nothing of the directory
		}
		if err != nil || id != s.o.Identity {
			return s.detachedError(nil)
		}
	}
	return nil
}

// bind remembers the directory, the first time that it is there.
func (s *Set) bind(info fs.FileInfo) {
	s.attached.mu.Lock()
	defer s.attached.mu.Unlock()
	if s.attached.info == nil {
		s.attached.info = info
	}
}

// detachedError says what lies where the data directory was. err: what the look at it ended with.
func (s *Set) detachedError(err error) error {
	e := &repo.DetachedError{Path: s.o.Dir, Do: "mount its volume again, or put the directory back: the server then continues without a restart"}
	if s.o.Identity != "" {
		e.Expected = "the data directory with the identity " + s.o.Identity
	}
	id, idErr := Identity(s.o.FS, s.o.Dir)
	now, statErr := s.o.FS.Stat(s.o.Dir)
	s.attached.mu.Lock()
	same := statErr == nil && s.attached.info != nil && os.SameFile(now, s.attached.info)
	s.attached.mu.Unlock()
	switch {
	case same && idErr != nil:
		e.Found = fmt.Sprintf("the identity of the data directory is lost: %v", vfs.WithoutPath(idErr))
		e.Do = "mount its volume again, or, if this is the right one, restart the server"
	case errors.Is(err, fs.ErrNotExist):
		e.Found = "the data directory is missing"
	case err != nil:
		e.Found = fmt.Sprintf("the data directory cannot be read: %v", vfs.WithoutPath(err))
	case errors.Is(idErr, ErrNoIdentity):
		e.Found = "the data directory is not the one that was opened: it has no identity"
	case idErr != nil:
		e.Found = fmt.Sprintf("the data directory is not the one that was opened: %v", vfs.WithoutPath(idErr))
	case id == s.o.Identity:
		e.Found = "the data directory is not the one that was opened, although it has the same identity"
	default:
		e.Found = "the data directory is not the one that was opened: its identity is " + id
	}
	return e
}

// Attach accepts the directory that is at the path now as the set's, after a check has found it detached. The caller has made sure
// that no other process uses it. repo.ErrDetached if it does not have the set's identity, or, if the set has none, if it is not
// the same directory.
func (s *Set) Attach() error {
	if err := s.recognize(); err != nil {
		return err
	}
	now, err := s.o.FS.Stat(s.o.Dir)
	if err != nil {
		return s.detachedError(err)
	}
	s.attached.mu.Lock()
	defer s.attached.mu.Unlock()
	if s.attached.away == nil {
		return nil
	}
	s.attached.info, s.attached.away = now, nil
	s.o.Logger.Info("the data directory is back", "path", s.o.Dir)
	return nil
}

// Refresh checks the data directory and every repository in use thoroughly, and closes those that are no longer at their path. The
// server calls it about every second, for directories without requests. It returns what Attached does.
func (s *Set) Refresh() error {
	if err := s.look(true); err != nil {
		return err
	}
	got, _ := askOpened(s, &s.refreshing, func(name string, r *repo.Repository) error {
		_, _, _ = r.Space() // what is known of the path alone says nothing of the disk
		r, err := s.stillOpen(name, r)
		if err == nil && r != nil && r.Remounted() {
			s.reopen(name, r)
		}
		return err
	})
	s.noteSilent()
	for _, err := range got {
		if err != nil {
			return err
		}
	}
	return nil
}

// reopen gives up a repository whose file system takes writes now and did not, or the other way round: it is opened again
// when it is asked for. After a write that failed nobody but a restart makes it one that takes writes.
func (s *Set) reopen(name string, r *repo.Repository) {
	s.mu.Lock()
	if !r.ReadOnlyDisk() && r.Health().ReadOnly {
		s.failed[name] = true
	}
	failed := s.failed[name]
	s.mu.Unlock()
	if r.ReadOnlyDisk() && failed {
		return
	}
	s.o.Logger.Warn("the repository's file system was remounted: the repository is opened again", "repository", name, "path", s.dir(name), "read-only", !r.ReadOnlyDisk())
	s.giveUp(name, r, errRemounted)
}

var errRemounted = fmt.Errorf("%w: its file system was mounted otherwise", repo.ErrDetached)

// stillOpen returns r if it is what lies under its name and its index can be used, and gives it up if not: nil. An error
// is that of a data directory that is detached.
func (s *Set) stillOpen(name string, r *repo.Repository) (*repo.Repository, error) {
	if err := r.IndexLost(); err != nil {
		s.giveUp(name, r, err)
		return nil, nil
	}
	err := r.Attached()
	if err == nil {
		return r, s.detached()
	}
	if err := s.look(false); err != nil {
		return nil, err
	}
	s.giveUp(name, r, err)
	return nil, nil
}

// detached is Attached without a new look.
func (s *Set) detached() error {
	s.attached.mu.Lock()
	defer s.attached.mu.Unlock()
	return s.attached.away
}

// giveUp closes, in the background, a repository whose directory is not, or cannot be, the one at its path. Running requests that
// use it end with repo.ErrDetached; they acknowledge nothing that was written after the directory was replaced.
func (s *Set) giveUp(name string, r *repo.Repository, why error) {
	s.mu.Lock()
	if s.closed || s.open[name] != r {
		s.mu.Unlock()
		return
	}
	delete(s.open, name)
	if device, ok := s.foreignDevice(r); ok {
		s.devices[name] = device
	}
	done := make(chan struct{})
	s.leaving[r] = done
	s.leavings.Add(1)
	s.mu.Unlock()
	r.Displace()
	switch {
	case why == errRemounted, errors.As(why, new(*repo.DetachedError)): // of these it was said
	case errors.Is(why, index.ErrCorrupt):
		s.o.Logger.Error("the index was closed after an error; the next request opens it again", "repository", name, "error", why)
	default:
		s.o.Logger.Warn("the repository's directory was moved, removed or replaced; the next request opens the directory that has its name now",
			"repository", name, "path", s.dir(name), "error", why)
	}
	if s.o.GaveUp != nil {
		s.o.GaveUp(r)
	}
	go func() {
		defer s.leavings.Done()
		if err := r.Close(); err != nil {
			s.o.Logger.Warn("could not close a repository whose directory was moved or replaced", "repository", name, "error", err)
		}
		s.mu.Lock()
		delete(s.leaving, r)
		s.mu.Unlock()
		close(done)
	}()
}

// leavingPatience is how long an opening waits for a repository that is being given up: it may be the same files, under
// another name.
const leavingPatience = 5 * time.Second

// endDisplaced gives up all repositories that are not in their place, and waits for those that are being closed. It
// returns whether there were any.
func (s *Set) endDisplaced(ctx context.Context) (any bool) {
	gone, _ := askOpened(s, &s.displacing, func(name string, r *repo.Repository) bool {
		err := r.Attached()
		if err != nil {
			s.giveUp(name, r, err)
		}
		return err != nil
	})
	for _, displaced := range gone {
		any = any || displaced // and may be closed before we look
	}
	s.mu.RLock()
	var ends []chan struct{}
	for _, done := range s.leaving {
		ends = append(ends, done)
	}
	s.mu.RUnlock()
	patience := time.After(leavingPatience)
	for _, done := range ends {
		select {
		case <-done:
		case <-patience:
			return true
		case <-ctx.Done():
			return true
		}
	}
	return any || len(ends) > 0
}

// foreignDevice is the device of a repository that lies on another than the data directory does: on a volume of its
// own, mounted there or reached by a symbolic link.
func (s *Set) foreignDevice(r *repo.Repository) (device uint64, ok bool) {
	s.attached.mu.Lock()
	data := s.attached.info
	s.attached.mu.Unlock()
	if r.Info() == nil || data == nil || s.o.Single {
		return 0, false
	}
	own, ok := deviceOf(r.Info())
	around, both := deviceOf(data)
	return own, ok && both && own != around
}

// volumeOf tells whether the volume of a repository that had one of its own is there: repo.ErrDetached when its
// directory is, without a repository, and on another device. dir is empty otherwise, as the name is held.
func (s *Set) volumeOf(name, dir string) error {
	if info, err := s.o.FS.Stat(dir); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return &repo.DetachedError{Path: dir, Found: "the target of this symbolic link does not exist", Expected: "a repository or an empty directory at its end", Do: "mount the volume that it leads to, or remove the link"}
		}
	}
	s.mu.Lock()
	device, known := s.devices[name]
	s.mu.Unlock()
	if !known {
		return nil
	}
	info, err := os.Stat(dir)
	if _, indexErr := os.Stat(filepath.Join(dir, layout.IndexFile)); err == nil && indexErr != nil {
		if now, ok := deviceOf(info); ok && now != device {
			return &repo.DetachedError{Path: dir, Found: "the volume of this repository is not mounted", Expected: "the repository that was there", Do: "mount it again, or remove the directory"}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.devices, name)
	return nil
}
