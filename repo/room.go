package repo

import (
	"sync"
	"time"
)

// room counts the disk space that uploads and plans under way have yet to fill, in all repositories of a set: they
// share a disk, and those that are admitted together must find place together.
type room struct {
	mu       sync.Mutex // held for a few additions and one look at the file system
	promised int64      // bytes; what is written counts no longer, as it is missing from the free space

	sparing sync.Mutex // held while kept packs are given up for want of space: one at a time is enough; before members

	members sync.Mutex           // held for a look at the map only
	open    map[*Repository]bool // the repositories that share the disk; guarded by members
}

func (m *room) enlist(r *Repository) {
	m.members.Lock()
	defer m.members.Unlock()
	if m.open == nil {
		m.open = make(map[*Repository]bool)
	}
	m.open[r] = true
}

func (m *room) dismiss(r *Repository) {
	m.members.Lock()
	defer m.members.Unlock()
	delete(m.open, r)
}

// oldestKept is the repository whose kept packs expire first, nil when nothing is kept.
func (m *room) oldestKept() (owner *Repository) {
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

// claim is a promise of disk space. It ends once. It is safe for concurrent use: the outputs of a plan share one.
type claim struct {
	r    *Repository
	keep int64 // bytes of the disk that stay free
	left int64 // bytes promised and not yet written; guarded by room.mu
}

// claim promises bytes of the disk, or refuses with ErrNoSpace when that would leave less than keep of it free.
func (r *Repository) claim(bytes, keep int64) (*claim, error) {
	c := &claim{r: r, keep: keep}
	if err := c.grow(bytes); err != nil {
		return nil, err
	}
	return c, nil
}

// grow promises more bytes, or refuses and leaves the promise as it was. Before it refuses, what is kept after
// compactions gives way.
func (c *claim) grow(bytes int64) error {
	short, err := c.tryGrow(bytes)
	if short <= 0 {
		return err
	}
	m := c.r.room
	m.sparing.Lock()
	defer m.sparing.Unlock()
	if short, err = c.tryGrow(bytes); short > 0 && c.r.spareDisk(short) {
		_, err = c.tryGrow(bytes)
	}
	return err
}

// tryGrow also says by how many bytes the disk is short, when it refuses for that.
func (c *claim) tryGrow(bytes int64) (short int64, err error) {
	m := c.r.room
	m.mu.Lock()
	defer m.mu.Unlock()
	free, _, err := c.r.blobs.Space()
	if err != nil {
		return 0, c.r.translate(err)
	}
	if short := bytes - (free - c.keep - m.promised); short > 0 {
		return short, &messageError{"no space left on the server: delete or compact first, or enlarge its disk", ErrNoSpace}
	}
	c.left += bytes
	m.promised += bytes
	return 0, nil
}

// wrote counts bytes of the promise as kept.
func (c *claim) wrote(bytes int64) {
	m := c.r.room
	m.mu.Lock()
	defer m.mu.Unlock()
	bytes = min(bytes, c.left)
	c.left -= bytes
	m.promised -= bytes
}

// end gives back what was not written; again, it does nothing. A nil claim promised nothing.
func (c *claim) end() {
	if c == nil {
		return
	}
	m := c.r.room
	m.mu.Lock()
	defer m.mu.Unlock()
	m.promised -= c.left
	c.left = 0
}
