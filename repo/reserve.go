package repo

// Reservation is a promise of quota and disk space for a whole plan; see Access.Reserve.
type Reservation struct {
	r     *reservation
	claim *claim
	// atMost is the usage that the plan may leave: the limit, or, if it adds nothing, what there was.
	atMost int64
}

// Release gives back what was not used; after a Commit with it, nothing.
func (r *Reservation) Release() {
	r.r.release()
	r.claim.end()
}

// Reserve promises bytes of quota (what a plan will add net of what it deletes) and peak bytes of the disk, for its
// outputs. A plan that adds nothing is not refused above the limit: it is how a repository
// gets below it again. Errors: ErrQuota, ErrNoSpace.
func (a *Access) Reserve(net, peak int64) (*Reservation, error) {
	// Compacting is how a full disk gets room again: of the reserve it leaves what deleting needs.
	c, err := a.r.claim(peak, a.r.reserve.Load()/4)
	if err != nil {
		return nil, err
	}
	if net <= 0 {
		used, _, _ := a.r.quota.current()
		return &Reservation{a.promise(), c, max(used, a.limit())}, nil
	}
	res, err := a.reserve(net)
	if err != nil {
		c.end()
		return nil, err
	}
	return &Reservation{res, c, 0}, nil
}
