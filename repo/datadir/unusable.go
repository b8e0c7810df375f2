package datadir

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"packhouse/repo"
)

// maxUnusable bounds what a Set remembers of repositories it could not open.
const maxUnusable = 10_000

// unusable remembers why repositories could not be opened when they were last asked for.
type unusable struct {
	mu      sync.Mutex             // held for a look at the maps only
	errs    map[string]error       // guarded by mu
	refused map[string]refusedFile // guarded by mu
}

// A refusedFile is an index that was found to be damaged.
type refusedFile struct {
	err  error
	file fs.FileInfo // as it was then
	at   time.Time
}

// refusedFor is how long a damaged index is not looked at again, unless its file is another: requests that come in large
// numbers are answered at once, and an error of the disk that has passed is forgotten soon.
const refusedFor = 10 * time.Second

// still returns the error of an index that was found to be damaged a moment ago.
func (u *unusable) still(name string, file fs.FileInfo, now time.Time) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	known, ok := u.refused[name]
	if !ok || file == nil || !os.SameFile(file, known.file) || file.Size() != known.file.Size() || !file.ModTime().Equal(known.file.ModTime()) ||
		now.Sub(known.at).Abs() >= refusedFor {
		delete(u.refused, name)
		return nil
	}
	return known.err
}

// refuse remembers an index that was found to be damaged. file is from before it was opened.
func (u *unusable) refuse(name string, err error, file fs.FileInfo, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.refused == nil || len(u.refused) >= maxUnusable {
		u.refused = make(map[string]refusedFile)
	}
	u.refused[name] = refusedFile{err, file, now}
}

// note keeps the outcome of an opening. What says nothing of the repository itself, as it may pass by the next
// request, leaves what is known as it was.
func (u *unusable) note(name string, err error) {
	if errors.Is(err, repo.ErrBusy) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	// A directory of another's is no repository: there is nothing of ours that could be used.
	if err == nil || errors.Is(err, repo.ErrNoRepository) || errors.Is(err, repo.ErrForeign) || errors.Is(err, repo.ErrInvalid) {
		delete(u.errs, name)
		return
	}
	if _, known := u.errs[name]; !known && len(u.errs) >= maxUnusable {
		return
	}
	if u.errs == nil {
		u.errs = make(map[string]error)
	}
	u.errs[name] = err
}

// knows tells whether the repository could not be opened when it was last asked for.
func (u *unusable) knows(name string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, known := u.errs[name]
	return known
}

// Unusable returns the repositories that exist but could not be opened when they were last needed, by name, with the error. A repository
// is no longer included after it was opened or its directory was removed. At most ten thousand are remembered.
func (s *Set) Unusable() map[string]error {
	s.unusable.mu.Lock()
	known := maps.Clone(s.unusable.errs)
	s.unusable.mu.Unlock()
	there := answers(&s.missing, silentAfter, s.ownFileSystem(), slices.Collect(maps.Keys(known)), s.FileSystem, func(name string) error {
		dir, err := s.path(name)
		if err == nil {
			_, err = s.o.FS.Stat(dir)
		}
		return err
	})
	for name, err := range there {
		if errors.Is(err, fs.ErrNotExist) {
			s.unusable.note(name, repo.ErrNoRepository)
			delete(known, name)
		}
	}
	return known
}
