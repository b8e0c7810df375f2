package repo

import "sync"

// room counts the disk space that uploads and plans under way have yet to fill, in all repositories of a set: they
// share a disk, and those that are admitted together must find place together.
type room struct {
	mu       sync.Mutex // held for a few additions and one look at the file system
	promised int64      // bytes; what is written counts no longer, as it is missing from the free space
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

// grow promises more bytes, or refuses and leaves the promise as it was.
func (c *claim) grow(bytes int64) error {
	m := c.r.room
	m.mu.Lock()
	defer m.mu.Unlock()
	free, _, err := c.r.blobs.Space()
	if err != nil {
		return c.r.translate(err)
	}
	if free-c.keep-m.promised < bytes {
		return &messageError{"no space left on the server: delete or compact first, or enlarge its disk", ErrNoSpace}
	}
	c.left += bytes
	m.promised += bytes
	return nil
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
