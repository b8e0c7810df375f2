package repo

import (
	"sync"
	"time"
)

// diskLedger counts the disk space that uploads and plans under way have yet to fill, in all repositories of a set: they
// share a disk, and those that are admitted together must find place together.
type diskLedger struct {
	mu       sync.Mutex // held for a few additions and one look at the file system
	reserved int64      // bytes; what is written counts no longer, as it is missing from the free space
	shares   map[*Repository]*share

	sweeping sync.Mutex // held over a sweep of one repository that nobody waits for

	sparing sync.Mutex // held while kept packs are given up for want of space: one at a time is enough; before members

	members sync.Mutex           // held for a look at the map only
	open    map[*Repository]bool // the repositories that share the disk; guarded by members
}

func (m *diskLedger) enlist(r *Repository) {
	m.members.Lock()
	defer m.members.Unlock()
	if m.open == nil {
		m.open = make(map[*Repository]bool)
	}
	m.open[r] = true
}

func (m *diskLedger) dismiss(r *Repository) {
	m.endShare(r)
	m.members.Lock()
	defer m.members.Unlock()
	delete(m.open, r)
}

// keptBytes is how many bytes are kept in all repositories that can give them up.
func (m *diskLedger) keptBytes() (bytes int64) {
	m.members.Lock()
	defer m.members.Unlock()
	for r := range m.open {
		if r.writable() == nil {
			c := r.index.Counters()
			bytes += c.KeptBytes + keptOverhead*c.KeptItems
		}
	}
	return bytes
}

// oldestKept is the repository whose kept packs expire first, nil when nothing is kept.
func (m *diskLedger) oldestKept() (owner *Repository) {
	m.members.Lock()
	defer m.members.Unlock()
	var first time.Time
	for r := range m.open {
		if r.index.Counters().KeptItems == 0 || r.writable() != nil {
			continue
		}
		if next, ok, err := r.index.NextKeptExpiry(); err == nil && ok && (owner == nil || next.Before(first)) {
			owner, first = r, next
		}
	}
	return owner
}

// diskReservation is disk space set aside for work under way. It ends once. It is safe for concurrent use: the outputs of a plan share one.
type diskReservation struct {
	r      *Repository
	keep   int64 // bytes of the disk that stay free
	commit bool  // of a commit key: what it needs beyond that is taken from the share of its repository
	left   int64 // bytes reserved and not yet written; guarded by diskLedger.mu
	drawn  int64 // bytes taken from the share; guarded by diskLedger.mu
}

// reserveDisk reserves bytes of the disk, or refuses with ErrNoSpace when that would leave less than keep of it free.
func (r *Repository) reserveDisk(bytes, keep int64) (*diskReservation, error) {
	c := &diskReservation{r: r, keep: keep}
	if err := c.grow(bytes); err != nil {
		return nil, err
	}
	return c, nil
}

// reserveCommitDisk is claim for a commit key, which leaves what deleting needs.
func (r *Repository) reserveCommitDisk(bytes int64) (*diskReservation, error) {
	c := &diskReservation{r: r, keep: r.deleting(), commit: true}
	if err := c.grow(bytes); err != nil {
		return nil, err
	}
	return c, nil
}

// deleting is what stays free of the disk whatever is stored, so that the index can grow while items are deleted; in bytes.
func (r *Repository) deleting() int64 { return r.reserve.Load() / 8 }

// grow reserves more bytes, or refuses and leaves the reservation as it was. Before it refuses, what is kept after
// compactions gives way.
func (c *diskReservation) grow(bytes int64) error {
	return c.r.orSpare(func() (int64, error) { return c.tryGrow(bytes) })
}

// orSpare calls try, which also says by how many bytes the disk is short when it refuses for that. Then what is kept after
// compactions gives way, and it is tried again.
func (r *Repository) orSpare(try func() (short int64, err error)) error {
	short, err := try()
	if short <= 0 {
		return err
	}
	m := r.disk
	m.sparing.Lock()
	defer m.sparing.Unlock()
	for {
		if short, err = try(); short <= 0 || !r.spareDisk(short) {
			return err
		}
		// Others may take what has become free: then more gives way.
	}
}

func (c *diskReservation) tryGrow(bytes int64) (short int64, err error) {
	m := c.r.disk
	m.mu.Lock()
	defer m.mu.Unlock()
	short, err = m.shortLocked(c.r, bytes, c.keep, m.sharedLocked(c.r.env.Now()))
	if err != nil {
		return 0, err
	}
	s, drawn := m.shares[c.r], int64(0)
	if s != nil && c.commit {
		drawn = min(max(short, 0), s.bytes)
	}
	if short > drawn {
		return short - drawn, &messageError{"no space left on the server: delete or compact first, or enlarge its disk", ErrNoSpace}
	}
	if drawn > 0 {
		s.bytes -= drawn
		c.drawn += drawn
	}
	c.left += bytes
	m.reserved += bytes
	return 0, nil
}

// shortLocked is by how many bytes the disk is too small for bytes more of r: beside them keep stays free, and in any case what
// deleting needs and the shares. Not positive: they fit.
func (m *diskLedger) shortLocked(r *Repository, bytes, keep, shares int64) (int64, error) {
	free, _, err := r.blobs.Space()
	if err != nil {
		return 0, r.translate(err)
	}
	return bytes + m.reserved + max(keep, r.deleting()+shares) - free, nil
}

// leaveClass makes it a claim like others, for an upload that is no commit key's any more.
func (c *diskReservation) leaveClass() {
	m := c.r.disk
	m.mu.Lock()
	defer m.mu.Unlock()
	c.keep, c.commit = c.r.reserve.Load(), false
}

// wrote counts bytes of the reservation as written.
func (c *diskReservation) wrote(bytes int64) {
	m := c.r.disk
	m.mu.Lock()
	defer m.mu.Unlock()
	bytes = min(bytes, c.left)
	c.left -= bytes
	m.reserved -= bytes
}

// end gives back what was not written; again, it does nothing. A nil reservation is of nothing.
func (c *diskReservation) end() {
	if c == nil {
		return
	}
	m := c.r.disk
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reserved -= c.left
	c.left, c.drawn = 0, 0
}

// cancel is end for bytes that were not stored: what they took of the share is there for the next try.
func (c *diskReservation) cancel() {
	if c == nil {
		return
	}
	m := c.r.disk
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.shares[c.r]; s != nil {
		s.bytes += c.drawn
	}
	m.reserved -= c.left
	c.left, c.drawn = 0, 0
}
