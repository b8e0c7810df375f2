package repo

import (
	"sync"
	"time"
)

// Disk is shared by the repositories of one data directory: a ledger for each file system that they lie on, the memory for what
// clients store on one that is read-only, and what all of them use together. Its zero value is ready for use; it must not be copied.
type Disk struct {
	mu      sync.Mutex             // held for a look at the map only
	ledgers map[string]*diskLedger // by file system; guarded by mu
	memory  memoryDisk
	total   total
}

// ledger is that of a file system. Nothing of one waits for another: a directory may be the mount point of a disk that does not answer.
func (d *Disk) ledger(fileSystem string) *diskLedger {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.ledgers[fileSystem]
	if l == nil {
		if d.ledgers == nil {
			d.ledgers = make(map[string]*diskLedger)
		}
		l = new(diskLedger)
		d.ledgers[fileSystem] = l
	}
	return l
}

// diskLedger counts the disk space that uploads and plans under way have yet to fill, in all repositories on one file system: those
// that are admitted together must fit together.
type diskLedger struct {
	mu       sync.Mutex // held for a few additions and one look at the file system
	reserved int64      // bytes; what is written counts no longer, as it is missing from the free space
	inodes   int64      // of uploads under way
	shares   map[*Repository]*share

	sweeping sync.Mutex // held over a sweep of one repository that nobody waits for

	sparing sync.Mutex // held while kept packs are given up for want of space: one at a time is enough; before members

	members sync.Mutex           // held for a look at the map only
	open    map[*Repository]bool // the repositories that share the disk; guarded by members
}

func (l *diskLedger) enlist(r *Repository) {
	l.members.Lock()
	defer l.members.Unlock()
	if l.open == nil {
		l.open = make(map[*Repository]bool)
	}
	l.open[r] = true
}

func (l *diskLedger) dismiss(r *Repository) {
	l.endShare(r)
	l.members.Lock()
	defer l.members.Unlock()
	delete(l.open, r)
}

// keptBytes is how many bytes are kept in all repositories that can give them up.
func (l *diskLedger) keptBytes() (bytes int64) {
	l.members.Lock()
	defer l.members.Unlock()
	for r := range l.open {
		if r.givesUpKept() {
			c := r.index.Counters()
			bytes += c.KeptBytes + keptOverhead*c.KeptItems
		}
	}
	return bytes
}

// oldestKept is the repository whose kept packs expire first, nil when nothing is kept.
func (l *diskLedger) oldestKept() (owner *Repository) {
	l.members.Lock()
	defer l.members.Unlock()
	var first time.Time
	for r := range l.open {
		if r.index.Counters().KeptItems == 0 || !r.givesUpKept() {
			continue
		}
		if next, ok, err := r.index.NextKeptExpiry(); err == nil && ok && (owner == nil || next.Before(first)) {
			owner, first = r, next
		}
	}
	return owner
}

// vacuumSoon has the logs of all repositories emptied of what is not needed, in the background, and what waits for
// the end of a pinned state not wait any more.
func (l *diskLedger) vacuumSoon() {
	l.members.Lock()
	defer l.members.Unlock()
	for r := range l.open {
		r.unpin("the disk is short")
		r.vacuum.soon()
	}
}

// diskReservation is disk space set aside for work under way. It ends once. It is safe for concurrent use: the outputs of
// a plan share one.
type diskReservation struct {
	r      *Repository
	keep   int64 // bytes of the disk that stay free
	commit bool  // of a commit key: what it needs beyond that is taken from the share of its repository
	left   int64 // bytes reserved and not yet written; guarded by diskLedger.mu
	drawn  int64 // bytes taken from the share; guarded by diskLedger.mu
}

// reserveDisk reserves bytes of the disk, or refuses with ErrNoSpace when that would leave less than keep of it free.
func (r *Repository) reserveDisk(bytes, keep int64) (*diskReservation, error) {
	d := &diskReservation{r: r, keep: keep}
	if err := d.grow(bytes); err != nil {
		return nil, err
	}
	return d, nil
}

// reserveCommitDisk is reserveDisk for a commit key, which leaves what deleting needs.
func (r *Repository) reserveCommitDisk(bytes int64) (*diskReservation, error) {
	d := &diskReservation{r: r, keep: r.deleting(), commit: true}
	if err := d.grow(bytes); err != nil {
		return nil, err
	}
	return d, nil
}

// deleting is what stays free of the disk whatever is stored, so that the index can grow while items are deleted; in bytes.
func (r *Repository) deleting() int64 { return r.reserve.Load() / 8 }

// grow reserves more bytes, or refuses and leaves the reservation as it was. Before it refuses, what is kept after
// compactions gives way.
func (d *diskReservation) grow(bytes int64) error {
	return d.r.orSpare(func() (int64, error) { return d.tryGrow(bytes) })
}

// orSpare calls try, which also says by how many bytes the disk is short when it refuses for that. Then what is kept after
// compactions gives way, and it is tried again. Who is refused in the end may find space later: vacuums begin.
func (r *Repository) orSpare(try func() (short int64, err error)) error {
	short, err := try()
	if short <= 0 {
		return err
	}
	l := r.disk
	l.sparing.Lock()
	defer l.sparing.Unlock()
	for {
		if short, err = try(); short <= 0 {
			return err
		}
		if !r.spareDisk(short) {
			l.vacuumSoon()
			return err
		}
		// Others may take what has become free: then more gives way.
	}
}

func (d *diskReservation) tryGrow(bytes int64) (short int64, err error) {
	l := d.r.disk
	l.mu.Lock()
	defer l.mu.Unlock()
	short, err = l.shortLocked(d.r, bytes, d.keep, l.sharedLocked(d.r.env.Now()))
	if err != nil {
		return 0, err
	}
	s, drawn := l.shares[d.r], int64(0)
	if s != nil && d.commit {
		drawn = min(max(short, 0), s.bytes)
	}
	if short > drawn {
		return short - drawn, &SpaceError{ShortDisk, d.r.restorableBytes()}
	}
	if drawn > 0 {
		s.bytes -= drawn
		d.drawn += drawn
	}
	d.left += bytes
	l.reserved += bytes
	return 0, nil
}

// shortLocked is by how many bytes the disk is too small for bytes more of r: beside them keep stays free, and in any case what
// deleting needs and the shares. Not positive: they fit.
func (l *diskLedger) shortLocked(r *Repository, bytes, keep, shares int64) (int64, error) {
	free, _, err := r.blobs.Space()
	if err != nil {
		return 0, r.translate(err)
	}
	return bytes + l.reserved + max(keep, r.deleting()+shares) - free, nil
}

// leaveClass makes it a reservation like others, for an upload that is no commit key's any more.
func (d *diskReservation) leaveClass() {
	l := d.r.disk
	l.mu.Lock()
	defer l.mu.Unlock()
	d.keep, d.commit = d.r.reserve.Load(), false
}

// wrote counts bytes of the reservation as written.
func (d *diskReservation) wrote(bytes int64) {
	l := d.r.disk
	l.mu.Lock()
	defer l.mu.Unlock()
	bytes = min(bytes, d.left)
	d.left -= bytes
	l.reserved -= bytes
}

// end gives back what was not written; again, it does nothing. A nil reservation is of nothing.
func (d *diskReservation) end() {
	if d == nil {
		return
	}
	l := d.r.disk
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reserved -= d.left
	d.left, d.drawn = 0, 0
}

// cancel is end for bytes that were not stored: what they took of the share is there for the next try.
func (d *diskReservation) cancel() {
	if d == nil {
		return
	}
	l := d.r.disk
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.shares[d.r]; s != nil {
		s.bytes += d.drawn
	}
	l.reserved -= d.left
	d.left, d.drawn = 0, 0
}
