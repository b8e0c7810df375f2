package repo

import (
	"context"
	"errors"
	"sync"
	"time"

	"packhouse/index"
)

// Small coordination objects (locks, sessions) are stored beyond the quota, so that a full repository can still be locked,
// pruned and compacted. These bounds keep that from becoming a way around the quota; one principal cannot use up what the
// others need.
const (
	exemptTotal = 64 << 20 // bytes of all of them
	exemptEach  = 4 << 20  // of one principal, once all together have that many
	exemptCost  = 512      // what each is counted for at least
)

// exemptDirs have them.
var exemptDirs = []string{"locks", "sessions"}

// exemptShares remembers for a moment what principals hold, as counting takes a look at each object. The zero value works.
type exemptShares struct {
	mu   sync.Mutex // held over one count
	held map[string]int64
	at   time.Time // of the first count in held
}

// exemptAge is how long a count is used again.
const exemptAge = time.Second

// mayBeExempt tells whether an item of that size, at most maxExempt, that comes to key may be exempt.
func (a *Access) mayBeExempt(key string, size int64) bool {
	if !ephemeral(key) {
		return false
	}
	held := a.r.index.Counters().Exempt
	if a.r.inMemory { // of a read-only file system, whose locks are gone with the process
		return held < overlayExempt
	}
	for _, dir := range exemptDirs {
		counted, err := a.r.index.DirCounters(dir)
		if err != nil {
			return false
		}
		held += counted.Items * exemptCost
	}
	switch {
	case held < exemptEach:
		return true
	case held >= exemptTotal:
		return false
	}
	own, err := a.r.exempt.take(a.r, a.p.Name, max(size, exemptCost))
	return err == nil && own < exemptEach
}

// take returns what a principal holds, and counts so many bytes more until the next look. The scan is bounded by exemptTotal.
func (s *exemptShares) take(r *Repository, principal string, more int64) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil || time.Since(s.at) > exemptAge {
		held := make(map[string]int64)
		for _, dir := range exemptDirs {
			err := r.index.List(context.Background(), index.ListOptions{Dir: dir, Recursive: true}, func(e index.Entry) error {
				if e.Item.Flags&index.FlagExempt != 0 {
					held[e.Item.Writer] += max(e.Item.Size, exemptCost)
				}
				return nil
			})
			if err != nil && !errors.Is(err, index.ErrNotFound) && !errors.Is(err, index.ErrNotDir) {
				return 0, err
			}
		}
		s.held, s.at = held, time.Now()
	}
	own := s.held[principal]
	s.held[principal] += more
	return own, nil
}
