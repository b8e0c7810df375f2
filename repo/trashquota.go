package repo

import (
	"context"
	"errors"
	"sync"
	"time"

	"packhouse/index"
)

// The trash has a bound of its own (Settings.TrashQuota), so that a client cannot fill the disk with what it overwrites and
// removes.
//
//   - An overwrite is refused if the trash would then hold more.
//   - What the trash holds beyond its bound counts against the quota, so that nothing can be added and removed again without end. In
//     a repository without grace time it does not: nothing stays there.
//   - Removals are never refused, nor plans that add nothing, nor commit keys: otherwise a full repository could not be emptied, or a
//     client not complete what it has begun. What plans and commit keys replace within spareTime of its being stored is not kept
//     while the trash is beyond its bound: each other item can be replaced once. Where Guard.MinAge has everything kept, the request is
//     refused instead, and the time is an eighth of Settings.Protect.
//
// Before anything is refused, and after removals, what may go gives way (shrinkTrash). For a principal whose own quota (Principal.Ceiling)
// makes the bound smaller, that is only what it has stored itself.

// DefaultProtect is how long an item that was removed or overwritten can be restored whatever the trash holds, unless its
// grace time is shorter. See Settings.Protect.
const DefaultProtect = 48 * time.Hour

// spareTime is how long an item must have been there to be kept when a plan or a commit key replaces it while the trash is beyond its
// bound: shorter than the pause between the backups of most clients, so that who fills the trash first cannot do away with the last index
// that was good; and so long that within DefaultProtect commit keys add to the trash no more than eight times what they hold.
const spareTime = DefaultProtect / 8

// shrinkPause is how long nothing is looked for again in a trash of which nothing may go.
const shrinkPause = time.Minute

// maxShrinkers is for how many principals that is remembered.
const maxShrinkers = 1000

// thinPause is for how long versions are not thinned out again because space is wanted: it takes a look at all of the trash.
const thinPause = time.Hour

// trashSpace remembers what may go of the trash. The zero value works.
type trashSpace struct {
	mu   sync.Mutex // held while the trash is made smaller: once is enough for all who wait for it; before Repository.trashMu
	next time.Time  // until then nothing more may go but what expires; guarded by mu
	held time.Time  // until then what has expired is held; guarded by mu
	// nextOf is next for what one principal has stored, by its name; at most maxShrinkers. Guarded by mu.
	nextOf map[string]time.Time
	// thinned is when versions were last thinned out for want of space; guarded by mu.
	thinned time.Time
}

// forget has all of the trash looked at again.
func (s *trashSpace) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next, s.held, s.nextOf, s.thinned = time.Time{}, time.Time{}, nil, time.Time{}
}

// trashLimit is how many bytes the trash may hold by what the principal does; negative: no limit.
func (a *Access) trashLimit() int64 {
	limit, trash := a.r.quota.limits()
	if trash != 0 {
		return trash
	}
	return lower(limit, a.ceiling())
}

// trashItems is how many items the trash may hold beside its limit of bytes; 0: any number.
func (a *Access) trashItems() int64 { return chargesFor(a.trashLimit()) }

// beyondTrash is by how much the trash holds more than it may, and what it holds.
func (a *Access) beyondTrash() (beyond, held Emptied) {
	c := a.r.index.Counters()
	held = Emptied{Items: c.TrashItems, Bytes: c.TrashBytes}
	if limit := a.trashLimit(); limit >= 0 {
		beyond = Emptied{Items: max(0, held.Items-a.trashItems()), Bytes: max(0, held.Bytes-limit)}
	}
	return beyond, held
}

// admitReplaced refuses with a *TrashError what would put an item into the trash that has no space for it. The index tests
// it once more when it is known which item that is; see trashBound.
func (a *Access) admitReplaced(item *index.Item) error {
	if item == nil || item.Flags&index.FlagExempt != 0 {
		return nil
	}
	return a.admitTrash(item.Size)
}

// admitTrash refuses with a *TrashError if the trash has no space for an item of so many bytes and cannot get it.
func (a *Access) admitTrash(bytes int64) error {
	bound := a.trashBound(false, time.Time{})
	if bound == nil {
		return nil
	}
	full := a.trashRefusal(bytes)
	for again := bytes <= bound.Bytes; full != nil && again; {
		again = a.shrinkTrash(full.short)
		full = a.trashRefusal(bytes) // others may have made space, too
	}
	if full == nil {
		return nil
	}
	return full
}

// trashBound is what holds for an item that is replaced; nil: nothing. admitted: by who is not refused for the trash.
func (a *Access) trashBound(admitted bool, now time.Time) *index.TrashBound {
	limit := a.trashLimit()
	if limit < 0 || a.r.grace.Load() == 0 { // nothing stays in it
		return nil
	}
	bound := &index.TrashBound{Bytes: limit, Items: a.trashItems()}
	switch {
	case !admitted:
	case a.r.Guard().MinAge > 0: // nothing goes before its time: what would is refused
		bound.Spare, bound.Guarded = now.Add(-a.r.Protected()/8), true
	default:
		bound.Spare = now.Add(-spareTime)
	}
	return bound
}

// trimTrash has go of the trash what it holds beyond its bound and may go.
func (r *Repository) trimTrash() {
	if r.pinned.Load() != nil {
		return // nobody waits for it
	}
	if beyond, _ := r.As(Principal{}).beyondTrash(); beyond != (Emptied{}) {
		r.shrinkTrash(beyond, nil)
	}
}

// shrinkTrash is that of the repository for what the principal asks. A ceiling of its own bounds what it may add, and is no reason to
// remove what others have stored.
func (a *Access) shrinkTrash(want Emptied) bool {
	if a.trashLimit() == a.r.As(Principal{}).trashLimit() {
		return a.r.shrinkTrash(want, nil)
	}
	return a.r.shrinkTrash(want, &a.p.Name)
}

// shrinkTrash removes at least so many items and bytes of the trash for good, if so many may go: what has expired, then
// versions that earlier ones of the same day have superseded, and then the oldest of what is not protected, and not held; with a writer
// only of what that principal has stored. It returns whether anything went. It does not depend on a request, as others wait for the same.
func (r *Repository) shrinkTrash(want Emptied, writer *string) bool {
	if r.Available() != nil {
		return false // what is rolled back comes from the trash
	}
	s := &r.trashSpace
	s.mu.Lock()
	defer s.mu.Unlock()
	var emptied Emptied
	err := r.shrinkLocked(context.Background(), want, writer, &emptied)
	if errors.Is(err, errPinned) && r.unpin("the trash is full") { // and a client would be refused
		err = r.shrinkLocked(context.Background(), want, writer, &emptied)
	}
	if err != nil {
		r.env.Logger.Warn("the trash holds more than it may, and nothing could be removed from it", "repository", r.Name(), "error", err)
	}
	if emptied.Items > 0 {
		r.env.Logger.Info("the trash is full: what has expired, superseded versions and the oldest items were removed for good", "repository", r.Name(),
			"items", emptied.Items, "bytes", emptied.Bytes)
	}
	return emptied.Items > 0
}

// shrinkLocked is shrinkTrash. trashSpace.mu is held.
func (r *Repository) shrinkLocked(ctx context.Context, want Emptied, writer *string, emptied *Emptied) error {
	s, now := &r.trashSpace, r.env.Now()
	next := s.next
	if writer != nil {
		next = s.nextOf[*writer]
	}
	hold, err := r.hold(ctx)
	if err != nil {
		return err
	}
	held := false
	goes := func(row *index.Removed) bool {
		holds := hold.holds(row)
		held = held || holds
		return !holds
	}
	if left := s.held.Sub(now); left <= 0 || left > shrinkPause { // else each request that is refused would look at all that is held
		ended, err := r.empty(ctx, want, now.Add(1), goes, emptied)
		if err != nil || emptied.reaches(want) {
			return err
		}
		if ended && held {
			s.held = now.Add(shrinkPause)
		}
	}
	if now.Before(next) {
		return nil
	}
	if now.Sub(s.thinned) >= thinPause || now.Before(s.thinned) {
		s.thinned = now
		parts := r.thinParts()
		for part := range parts {
			if err := r.thinVersions(ctx, part, parts, emptied); err != nil {
				return err
			}
		}
	}
	oldest := now // of what stays
	ended, err := r.empty(ctx, want, time.Time{}, func(row *index.Removed) bool {
		if writer != nil && row.Item.Writer != *writer {
			return false
		}
		if row.At.Before(now.Add(-r.Protected())) {
			return goes(row)
		}
		if row.At.Before(oldest) {
			oldest = row.At
		}
		return false
	}, emptied)
	if ended {
		s.remember(writer, later(oldest.Add(r.Protected()), now.Add(shrinkPause)))
	}
	return err
}

// remember notes until when nothing more may go. mu is held.
func (s *trashSpace) remember(writer *string, until time.Time) {
	if writer == nil {
		s.next = until
		return
	}
	if s.nextOf == nil || len(s.nextOf) >= maxShrinkers {
		s.nextOf = make(map[string]time.Time)
	}
	s.nextOf[*writer] = until
}

// giveWay makes space in the trash for an item of so many bytes that the index has refused, and returns whether anything went.
func (a *Access) giveWay(bytes int64) bool { return a.shrinkTrash(a.trashFull(bytes).short) }

// trashFull is trashRefusal when the index has found that there is no space, which others may have made since.
func (a *Access) trashFull(bytes int64) *TrashError {
	if full := a.trashRefusal(bytes); full != nil {
		return full
	}
	_, held := a.beyondTrash()
	return &TrashError{Trash: held.Bytes, Limit: a.trashLimit(), short: Emptied{Items: 1}}
}

// replaced is how many bytes of items the puts of a batch would replace now.
func (a *Access) replaced(b Batch) (bytes int64) {
	for _, put := range b.Puts {
		bytes += itemSize(a.itemAt(put.Upload.o.Key))
	}
	return bytes
}

func itemSize(item *index.Item) int64 {
	if item == nil {
		return 0
	}
	return item.Size
}

// trashRefusal tells with figures that the trash has no space for an item of so many bytes; nil: it has.
func (a *Access) trashRefusal(bytes int64) *TrashError {
	c, limit := a.r.index.Counters(), a.trashLimit()
	items, most := c.TrashItems+1, a.trashItems()
	switch {
	case limit < 0:
		return nil
	case c.TrashBytes+bytes > limit:
		return &TrashError{Trash: c.TrashBytes, Limit: limit, short: Emptied{Bytes: c.TrashBytes + bytes - limit, Items: items - most}}
	case items > most:
		return &TrashError{Items: true, Trash: c.TrashItems, Limit: most, short: Emptied{Items: items - most}}
	}
	return nil
}
