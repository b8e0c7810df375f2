package datadir

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"packhouse/blobstore"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/layout"
)

// sweepPatience is how long Close lets the removal of destroyed repositories go on.
const sweepPatience = 10 * time.Second

// Destroy removes a repository. It no longer exists when Destroy returns, also after a crash: the commit point is the renaming of
// its index, which is durable then; a repository of that name may be created immediately. If removed items have a grace time, it is set
// aside whole for as long, see Removed. Otherwise its files are removed in the background, because a client does not wait for a
// million of them. Files that remain after a stop or a crash are removed, or set aside, when the repositories are next listed, or one of
// that name is requested.
func (s *Set) Destroy(ctx context.Context, name string) error {
	return s.destroy(ctx, name, (*repo.Repository).Grace)
}

// DestroyNow is Destroy without grace time: nothing of it can be restored.
func (s *Set) DestroyNow(ctx context.Context, name string) error {
	return s.destroy(ctx, name, func(*repo.Repository) time.Duration { return 0 })
}

func (s *Set) destroy(ctx context.Context, name string, graceOf func(*repo.Repository) time.Duration) error {
	dir, err := s.path(name)
	if err != nil {
		return err
	}
	defer s.names.lock(name)()
	r, err := s.getLocked(ctx, name, dir)
	if err != nil {
		return err
	}
	if r.ReadOnlyDisk() {
		return repo.ErrReadOnlyDisk
	}
	grace, err := s.graceOf(name, dir, r, graceOf(r))
	if err != nil {
		return err
	}
	if err := s.noteRemoval(name, dir, r, grace); err != nil {
		return fmt.Errorf("destroy repository: %w", err)
	}
	if err := s.forget(name, dir); err != nil {
		s.know(name) // it stays
		return fmt.Errorf("destroy repository: %w", err)
	}
	s.mu.Lock()
	delete(s.open, name)
	s.mu.Unlock()
	if err := r.Destroy(); err != nil {
		return fmt.Errorf("destroy repository: %w", err)
	}
	if s.o.Destroyed != nil {
		s.o.Destroyed(r)
	}
	if err := s.o.FS.SyncDir(dir); err != nil {
		return fmt.Errorf("destroy repository: %w", err)
	}
	if err := s.clear(name, dir); err != nil && !errors.Is(err, repo.ErrBusy) {
		s.o.Logger.Warn("files of a destroyed repository could not be removed; the next start tries again", "repository", name, "error", err)
	}
	return nil
}

// clear takes the files of a destroyed repository out of the way and has them removed in the background; the name is held.
// Another process may be about the same: whoever has the lock of the destroyed index does it, so that nobody
// moves files of a repository made since. repo.ErrBusy: the other does.
func (s *Set) clear(name, dir string) (err error) {
	lock, err := index.Open(filepath.Join(dir, layout.DestroyedFile), index.Options{Use: index.Hold})
	switch {
	case err == nil:
		defer func() { err = errors.Join(err, lock.Close()) }()
	case errors.Is(err, index.ErrLocked):
		return errElsewhere
	case errors.Is(err, index.ErrNotFound):
		s.sweepLater(name, dir)
		return nil // the other has done it
	}
	// Else it is damaged, and nobody can have it open.
	removed, keep, err := s.removalOf(dir)
	if err == nil && keep {
		return s.setAside(dir, removed)
	}
	if err != nil {
		return err
	}
	err = s.moveAside(dir)
	if err != nil {
		// Perhaps the disk is so full that no directory can be made: all the more the files must go.
		err = finishDestroy(s.o.FS, dir)
	}
	s.sweepLater(name, dir)
	return err
}

// clearLater is clear in the background, for who only looks.
func (s *Set) clearLater(name, dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.sweeping[dir] != nil || s.onReadOnlyDisk(dir) {
		return
	}
	s.sweeps.Go(func() {
		defer s.names.lock(name)()
		if !errors.Is(s.inspect(dir), errDestroyed) {
			return
		}
		if err := s.clear(name, dir); err != nil && !errors.Is(err, repo.ErrBusy) {
			s.o.Logger.Warn("files of a destroyed repository could not be removed; the next start tries again", "repository", name, "error", err)
		}
	})
}

// Sweeping reports whether files of destroyed repositories are being removed. A process after which no other may use the directory
// for long waits for the end of that before it ends.
func (s *Set) Sweeping() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.sweeping) > 0
}

// endSweeps waits for the sweeps, but not for long. The set is closed: no more begin.
func (s *Set) endSweeps() {
	done := make(chan struct{})
	go func() { s.sweeps.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(sweepPatience):
		close(s.stopping)
		select {
		case <-done:
		case <-time.After(sweepPatience): // a disk does not answer
		}
	}
}

// moveAside moves what is left of a repository into a grave of its own.
func (s *Set) moveAside(dir string) error {
	entries, err := s.o.FS.ReadDir(dir)
	if err != nil {
		return err
	}
	id := make([]byte, 8)
	if _, err := io.ReadFull(s.o.Rand, id); err != nil {
		return err
	}
	grave := filepath.Join(dir, layout.GraveDir, hex.EncodeToString(id))
	for _, folder := range []string{filepath.Dir(grave), grave} {
		if err := s.o.FS.Mkdir(folder); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	marked := slices.ContainsFunc(entries, func(entry fs.DirEntry) bool { return entry.Name() == layout.DestroyedFile })
	if err := s.moveFiles(dir, grave, layout.DestroyedFile); err != nil {
		return err
	}
	// The mark goes when the rest is gone for good: without it blobs are those of a lost index.
	if err := s.syncAll(grave, dir); err != nil || !marked {
		return err
	}
	if err := s.o.FS.Rename(filepath.Join(dir, layout.DestroyedFile), filepath.Join(grave, layout.DestroyedFile)); err != nil {
		return err
	}
	return s.o.FS.SyncDir(dir)
}

// moveFiles moves the files of a repository to another directory, but those that are excepted.
func (s *Set) moveFiles(from, to string, but ...string) error {
	entries, err := s.o.FS.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if name := entry.Name(); !staysInPlace(name) && !slices.Contains(but, name) {
			if err := s.o.FS.Rename(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// sweepLater empties the graves in a repository's directory in the background; Close waits for that, and ends it.
func (s *Set) sweepLater(name, dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if again, running := s.sweeping[dir]; running {
		again.Store(true)
		return
	}
	again := new(atomic.Bool)
	s.sweeping[dir] = again
	s.sweeps.Go(func() { s.sweep(name, dir, again) })
}

// sweep removes the graves in dir, and dir when it is empty then.
func (s *Set) sweep(name, dir string, again *atomic.Bool) {
	for {
		err := s.removeGraves(dir)
		s.mu.Lock()
		if err == nil && again.Swap(false) {
			s.mu.Unlock()
			continue // there is one more
		}
		delete(s.sweeping, dir)
		s.mu.Unlock()
		if err == nil {
			err = s.removeEmpty(name, dir)
		}
		if err != nil && !errors.Is(err, errStopping) {
			s.o.Logger.Warn("files of a destroyed repository could not be removed; the next start tries again", "repository", name, "error", err)
		}
		return
	}
}

func (s *Set) removeGraves(dir string) error {
	graves, err := s.o.FS.ReadDir(filepath.Join(dir, layout.GraveDir))
	for _, grave := range graves {
		path := filepath.Join(dir, layout.GraveDir, grave.Name())
		shards, err := s.o.FS.ReadDir(filepath.Join(path, blobstore.BlobsDir))
		if layout.IgnoreMissing(err) != nil {
			return err
		}
		// Shard by shard: a stop waits for no more than one of them.
		for _, shard := range shards {
			select {
			case <-s.stopping:
				return errStopping
			default:
			}
			if err := s.o.FS.RemoveAll(filepath.Join(path, blobstore.BlobsDir, shard.Name())); err != nil {
				return err
			}
		}
		if err := s.o.FS.RemoveAll(path); err != nil {
			return err
		}
	}
	return layout.IgnoreMissing(err)
}

// removeEmpty removes what the graves lay in. Of an empty directory nothing can be lost, so that it need not be durable.
func (s *Set) removeEmpty(name, dir string) error {
	defer s.names.lock(name)() // who makes a repository there wants the directory to stay
	if err := layout.IgnoreMissing(s.o.FS.Remove(filepath.Join(dir, layout.GraveDir))); err != nil {
		return nil // another grave is there by now
	}
	// Fails, and may, when a server keeps its own files there.
	if err := s.o.FS.Remove(dir); err == nil {
		dir = filepath.Dir(dir)
	}
	return layout.IgnoreMissing(s.o.FS.SyncDir(dir))
}
