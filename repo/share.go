package repo

import "time"

// share is the disk space for the index that a client stores after its plans. It is set aside when the first of them is admitted,
// and ends when the index is stored, when no plan was carried out after all, or indexWait after the last one that was. All fields are
// guarded by diskLedger.mu.
type share struct {
	bytes int64
	plans int       // under way
	until time.Time // plans that were carried out wait for their index until then; zero: none does
}

// logSpace is set aside beside an index: the logs of this and other repositories take it until that is stored.
const logSpace = 1 << 20

// indexWait is how long disk space is kept for the index that follows a plan. Clients store it at once, or not any more.
const indexWait = time.Hour

// sharedLocked is the sum of the shares; those whose time is over end.
func (l *diskLedger) sharedLocked(now time.Time) (bytes int64) {
	for r, s := range l.shares {
		if s.plans == 0 && !now.Before(s.until) {
			delete(l.shares, r)
			continue
		}
		bytes += s.bytes
	}
	return bytes
}

// reservePlanDisk is reserveDisk for a plan that makes so many bytes, after which the client stores an index that may need
// index bytes more. The plan leaves
// a quarter of the reserve: compacting is how a full disk gets space again. What is set aside for the index is
// more than deleting needs. With spare, what is kept after compactions gives way. Refusals are a *ShortError.
func (r *Repository) reservePlanDisk(bytes, index int64, spare bool) (*diskReservation, error) {
	d := &diskReservation{r: r, keep: r.reserve.Load() / 4}
	if !spare {
		_, err := d.tryPlan(bytes, index)
		return d, err
	}
	return d, r.orSpare(func() (int64, error) { return d.tryPlan(bytes, index) })
}

func (d *diskReservation) tryPlan(bytes, index int64) (short int64, err error) {
	r, l := d.r, d.r.disk
	l.mu.Lock()
	defer l.mu.Unlock()
	shares, own := l.sharedLocked(r.env.Now()), int64(0)
	if s := l.shares[r]; s != nil {
		own = s.bytes // of plans before, for the same index
	}
	aside := index
	if index > 0 {
		aside += logSpace
	}
	short, err = l.shortLocked(r, bytes, d.keep, shares-own+max(own, aside))
	if err != nil {
		return 0, err
	}
	if short > 0 {
		return short, &ShortError{Kind: ErrNoSpace, Short: short, Output: bytes, Index: index, Trash: r.restorableBytes()}
	}
	if index > 0 {
		s := l.shares[r]
		if s == nil {
			s = new(share)
			if l.shares == nil {
				l.shares = make(map[*Repository]*share)
			}
			l.shares[r] = s
		}
		s.bytes = max(own, aside)
		s.plans++
	}
	d.left = bytes
	l.reserved += bytes
	return 0, nil
}

// endPlan is called once for each plan whose reservation set something aside for an index. carriedOut: a client is about to store it.
func (r *Repository) endPlan(carriedOut bool) {
	l := r.disk
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.shares[r]
	if s == nil {
		return
	}
	s.plans--
	if carriedOut {
		s.until = r.env.Now().Add(indexWait)
	} else if s.plans == 0 && s.until.IsZero() {
		delete(l.shares, r)
	}
}

// indexStored ends the wait for the index of plans that were carried out.
func (r *Repository) indexStored() {
	l := r.disk
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.shares[r]; s != nil {
		if s.until = (time.Time{}); s.plans == 0 {
			delete(l.shares, r)
		}
	}
}

// endShare ends the share of a repository that is closed.
func (l *diskLedger) endShare(r *Repository) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.shares, r)
}
