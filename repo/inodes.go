package repo

// A file system has a number of inodes (ext4: one for each 16 KiB), and is as full without one as without space. So inodes
// have a reserve like bytes, which uploads leave, plans a quarter of it, and completing items an eighth. Small items lie in
// the log and need none.

const (
	// inodeBytes is for how many bytes of Settings.Reserve an inode is reserved.
	inodeBytes = 16 << 10
	// inodePart is which part of all inodes is reserved at most.
	inodePart = 20
	// filesOfBlob is how many inodes a blob needs: one for its bytes, and one for its checksums.
	filesOfBlob = 2
)

// inodeReservation is the inodes of one upload. It ends once.
type inodeReservation struct {
	r *Repository
	n int64 // guarded by diskLedger.mu
}

// reserveInodes reserves those of the upload's file, if it gets one, or refuses with a *SpaceError. Locks and sessions are
// not refused.
func (u *Upload) reserveInodes() (err error) {
	if u.exempt || u.o.Reservation == nil && u.a.r.small > 0 && u.o.Size >= 0 && u.o.Size <= u.a.r.small {
		return nil
	}
	part := int64(1)
	switch {
	case u.commit:
		part = 8
	case u.o.Reservation != nil:
		part = 4
	}
	res := &inodeReservation{r: u.a.r}
	if err := res.r.orSpare(func() (int64, error) { return res.try(part) }); err != nil {
		return err
	}
	u.inodes = res
	return nil
}

// try reserves the inodes of a blob if one of so many parts of the reserve stays free beside them; else it says how many
// are short.
func (res *inodeReservation) try(part int64) (short int64, err error) {
	r, l := res.r, res.r.disk
	l.mu.Lock()
	defer l.mu.Unlock()
	free, total, err := r.blobs.Inodes()
	if err != nil {
		return 0, r.translate(err)
	}
	if total == 0 {
		return 0, nil
	}
	reserve := min(r.reserve.Load()/inodeBytes, total/inodePart)
	if short = l.inodes + filesOfBlob + reserve/part - free; short > 0 {
		return short, &SpaceError{ShortInodes, r.restorableBytes()}
	}
	res.n = filesOfBlob
	l.inodes += filesOfBlob
	return 0, nil
}

// end gives them back: what was made of them is missing from those that are free. Again, or of none, it does nothing.
func (res *inodeReservation) end() {
	if res == nil {
		return
	}
	l := res.r.disk
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inodes -= res.n
	res.n = 0
}
