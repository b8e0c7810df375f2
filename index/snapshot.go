package index

import (
	"errors"
	"fmt"
	"sync"
	"time"
	"unsafe"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// closeWait is how long Close waits for readers. They read their own memory mapping on, if it was not long enough.
const closeWait = 10 * time.Second

// A snapshot is the state that readers see, and the bbolt transaction that keeps its pages from being used again.
type snapshot struct {
	*state
	tx      *bolt.Tx // replaced only while there are no readers; guarded by snapshots.mu
	readers int      // guarded by snapshots.mu
}

// snapshots hands the last state that is on stable storage to readers. Only the commit loop, and Open and Close before and
// after it, call bbolt: where it meets a page that it cannot cope with, it leaves its mutexes locked, and nobody else
// waits for those.
type snapshots struct {
	mu      sync.Mutex
	changed sync.Cond   // of what follows; its lock is mu
	current *view       // nil before the first
	former  []*snapshot // that still have readers, or had when they were looked at
	paused  bool        // nobody gets a snapshot for a moment
	err     error       // why nobody gets one any more
}

// acquire returns the current state, for which release must be called. It waits while the file is mapped anew.
func (s *snapshots) acquire() (*view, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.paused && s.err == nil {
		s.changed.Wait()
	}
	if s.err != nil {
		return nil, s.err
	}
	s.current.readers++
	s.current.resident.renew()
	return s.current, nil
}

func (s *snapshots) release(v *view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.readers--; v.readers == 0 {
		s.changed.Broadcast()
	}
}

// publish makes a view of another snapshot the current one, and lets acquire go on.
func (s *snapshots) publish(v *view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		s.former = append(s.former, s.current.snapshot)
	}
	s.current, s.paused = v, false
	s.changed.Broadcast()
}

// publishOverlay gives the current snapshot another overlay. While there is no snapshot, the next has it.
func (s *snapshots) publishOverlay(over *overlay) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		s.current = newView(s.current.snapshot, over)
	}
}

// end makes acquire return err from now on. The first err stays.
func (s *snapshots) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	s.changed.Broadcast()
}

// unread takes away the former snapshots without readers, for the caller to end.
func (s *snapshots) unread() (ended []*snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rest []*snapshot
	for _, one := range s.former {
		if one.readers == 0 {
			ended = append(ended, one)
		} else {
			rest = append(rest, one)
		}
	}
	s.former = rest
	return ended
}

// drain waits until nobody reads, but not longer than wait, and takes all snapshots away. Until publish or end
// nobody gets another. It takes none away when it returns false.
func (s *snapshots) drain(wait time.Duration) (ended []*snapshot, drained bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	late := false
	timer := time.AfterFunc(wait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		late = true
		s.changed.Broadcast()
	})
	defer timer.Stop()
	for s.paused = true; s.reading(); s.changed.Wait() {
		if late {
			s.paused = false
			s.changed.Broadcast()
			return nil, false
		}
	}
	if s.current != nil {
		s.former = append(s.former, s.current.snapshot)
	}
	ended, s.former, s.current = s.former, nil, nil
	return ended, true
}

// reading tells whether anyone does. s.mu is held.
func (s *snapshots) reading() bool {
	for _, one := range s.former {
		if one.readers > 0 {
			return true
		}
	}
	return s.current != nil && s.current.readers > 0
}

// rollback ends the transactions of snapshots that have no readers, where they have one still.
func rollback(ended []*snapshot) error {
	for _, one := range ended {
		if err := one.tx.Rollback(); err != nil && !errors.Is(err, bolterrors.ErrTxClosed) {
			return err
		}
	}
	return nil
}

// snapshot makes a snapshot of the last commit.
func (x *Index) snapshot() (one *snapshot, err error) {
	var tx *bolt.Tx
	intact, err := attempt(func() (err error) {
		tx, err = x.db.Begin(false)
		return err
	})
	x.broken = x.broken || !intact
	if err != nil {
		return nil, err
	}
	s, err := x.stateOf(tx)
	if err != nil {
		return nil, errors.Join(err, tx.Rollback())
	}
	return &snapshot{state: s, tx: tx}, nil
}

// stateOf is the state that a transaction has begun with.
func (x *Index) stateOf(tx *bolt.Tx) (s *state, err error) {
	return s, protect(func() error {
		data, m := x.mapping(int(tx.Size())), meta{} // valid while the transaction is open, or, if it is for writing, until its commit
		for at := range 2 {
			found, err := parseMeta(data[at*x.db.Info().PageSize+pageHeader:][:metaSize])
			if err == nil && (at == 0 || found.txid > m.txid) {
				m = found
			}
		}
		want := uint64(tx.ID())
		if tx.Writable() {
			want--
		}
		if m.txid != want || int64(m.end)*int64(m.pageSize) != tx.Size() || m.root != uint64(tx.Cursor().Bucket().Root()) {
			return fmt.Errorf("%w: transaction %d is not the last one", ErrCorrupt, want)
		}
		s = newState(data, m, &x.last)
		return nil
	})
}

// replaced tells that another version of the file was written over this one, older than the state: what it has at
// the places of pages may be pages of another tree. A meta page that is not whole tells nothing of the others.
func (s *state) replaced() error {
	s.resident.load(0, 1)
	pages := [2][]byte{s.data[pageHeader:][:metaSize], s.data[s.pageSize+pageHeader:][:metaSize]}
	for _, page := range pages {
		if byteOrder.Uint64(page[48:]) >= s.txid {
			return nil
		}
	}
	var last uint64
	for _, page := range pages {
		m, err := parseMeta(page)
		if err != nil || m.txid >= s.txid {
			return nil
		}
		last = max(last, m.txid)
	}
	return fmt.Errorf("%w: the last transaction is %d in the file and was %d", ErrCorrupt, last, s.txid)
}

// mapping is the file in bbolt's memory mapping.
func (x *Index) mapping(size int) []byte {
	info := x.db.Info()
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&info.Data))), size)
}
