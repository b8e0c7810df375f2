package datadir

import (
	"context"
	"errors"
	"time"

	"packhouse/repo"
)

// SetTotalQuota limits what all repositories together use, in bytes; negative: there is no limit. It returns at once. From the first limit on
// each repository is opened once in the background, as only that tells what it uses, and what would add something waits for that, 20 s
// at most; then it is repo.ErrBusy. One whose disk does not answer, or that cannot be opened, counts from when it can be, and the log
// says so.
func (s *Set) SetTotalQuota(limit int64) {
	s.countLater(s.disk.SetTotalQuota(limit))
}

// TotalUsage is what the repositories in use use together.
func (s *Set) TotalUsage() repo.TotalUsage { return s.disk.TotalUsage() }

// countAgain is how long a look at a data directory that cannot be listed waits for the next.
const countAgain = 250 * time.Millisecond

// countLater opens all repositories, and calls counted then; nil: nothing is to be counted.
func (s *Set) countLater(counted func()) {
	if counted == nil {
		return
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		counted()
		return
	}
	s.counts.Go(func() {
		defer counted()
		again := time.NewTicker(countAgain)
		defer again.Stop()
		names, err := s.Names()
		for ; err != nil; names, err = s.Names() {
			select {
			case <-again.C:
			case <-s.ending:
				return
			}
		}
		s.openAll(names)
	})
}

// openAll opens repositories, as far as it can be done, and logs which it could not open.
func (s *Set) openAll(names []string) {
	tried := answers(&s.counting, openPatience, s.ownFileSystem(), names, s.FileSystem, func(name string) error {
		_, err := s.Get(context.Background(), name)
		return err
	})
	for _, name := range names {
		switch err, answered := tried[name]; {
		case !answered:
			s.o.Logger.Warn("what a repository uses counts in the total quota only when it is used, as its disk does not answer", "repository", name)
		case err != nil && !errors.Is(err, repo.ErrNoRepository) && !errors.Is(err, errStopping):
			s.o.Logger.Warn("what a repository uses does not count in the total quota, as it cannot be opened", "repository", name, "error", err)
		}
	}
}
