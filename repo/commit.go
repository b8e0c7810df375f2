package repo

import (
	"context"
	"errors"
	"time"

	"packhouse/index"
	"packhouse/repo/keys"
)

// Batch is a list of changes that Commit carries out in one index transaction.
type Batch struct {
	Puts     []BatchPut
	Deletes  []BatchDelete
	Requires []index.Require // items that must still be what they were
	Job      *index.Job      // stored with the outcome
	// Open makes the batch the first half of a compaction.
	Open *OpenPlan
	// Reservation is ended by a Commit that succeeds.
	Reservation *PlanReservation

	whole bool // Deletes remove the whole repository: no plan is open any more, and nothing kept
}

// BatchPut stores a finished upload under its key.
type BatchPut struct {
	Upload   *Upload
	IfAbsent bool   // ErrExists when an item is there
	IfRef    string // if not empty: ErrConflict unless the item there has this reference
	Backup   bool   // counts as a completed backup of the principal
	// Uncounted makes the item one that does not count, as what it is made of does not.
	Uncounted bool
}

// BatchDelete removes an item, if it still has Ref (when Ref is not empty).
type BatchDelete struct {
	Key, Ref      string
	IgnoreMissing bool
}

// PutResult is the result of a Put.
type PutResult struct {
	Item         index.Item
	Created      bool  // no item was there
	PreviousSize int64 // of the item replaced
	Unchanged    bool  // the same bytes were there already; nothing was written
}

// Replaced tells whether an item was replaced, perhaps by the same bytes.
func (r PutResult) Replaced() bool { return !r.Created && !r.Unchanged }

// Commit carries out everything in the batch in one index transaction, or nothing. The bytes of the uploads are already durable
// (Finish); when Commit returns nil, everything that refers to them is durable too. This is the commit order of the design: first
// bytes, then index, last unlink.
func (a *Access) Commit(ctx context.Context, b Batch) ([]PutResult, error) {
	done, err := a.commit(ctx, b)
	return done.puts, err
}

// CommitOpen is Commit of a batch with an OpenPlan.
func (a *Access) CommitOpen(ctx context.Context, b Batch) (Opened, error) {
	done, err := a.commit(ctx, b)
	return done.opened, err
}

// committed is what a batch did.
type committed struct {
	puts    []PutResult
	deleted int // items of Deletes
	opened  Opened
	removed bool // something is in the trash that was not
	held    bool // something is kept, or stays as a source of an open plan, that did not
}

// commit is Commit and CommitOpen, and says all that was done.
func (a *Access) commit(ctx context.Context, b Batch) (committed, error) {
	a = a.ofBatch(&b)
	c := &a.r.compactions
	if !c.bears(&b) {
		return a.commitThen(ctx, b, false)
	}
	// While mu is held nothing happens to locks, indexes or other plans.
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.Open != nil {
		c.began(a.r)
	}
	live := c.live
	if oldest, open, err := a.r.oldestPlan(); err == nil && open {
		live = max(live, oldest.Live)
	}
	done, err := a.commitThen(ctx, b, true)
	if err == nil && done.held {
		if err := a.r.trimKept(context.WithoutCancel(ctx), live); err != nil {
			a.r.env.Logger.Warn("could not delete packs kept after compactions that exceed their bound", "repository", a.r.Name(), "error", err)
		}
	}
	return done, err
}

// commitThen commits a batch. bears tells that it has something to do with open plans, and mu of the compactions is held.
func (a *Access) commitThen(ctx context.Context, b Batch, bears bool) (committed, error) {
	if b.Reservation != nil && b.Open == nil {
		_ = a.admitTrash(b.Reservation.removes) // it is carried out in any case, but more of what it removes can be kept then
	}
	at := a.r.changes.begin(a.r.env.Now())
	defer a.r.changes.end(at)
	now := *at
	muts, err := a.mutations(b, now)
	if err != nil {
		return committed{}, err
	}
	own := len(muts)
	var ic *indexCommit
	if bears {
		if muts, ic, err = a.alongside(b, now, muts); err != nil {
			return committed{}, err
		}
	}
	if err := ctx.Err(); err != nil {
		return committed{}, err // nothing was asked of the index yet
	}
	more, guarded, err := a.guarded(b.removals)
	if err != nil {
		return committed{}, err
	}
	defer guarded(errAsked) // a panic must not keep it
	others := len(muts)
	muts = append(muts, more...)
	results, err := a.r.apply(context.WithoutCancel(ctx), muts...)
	for a.makeWay(err, func() int64 { return a.replaced(b) }) {
		results, err = a.r.apply(context.WithoutCancel(ctx), muts...)
	}
	guarded(err)
	if bears && !refused(err) {
		a.noteLocks(b) // also when the outcome is unknown
	}
	if err != nil {
		var refused *index.GroupError
		if !errors.As(err, &refused) && !errors.Is(err, ErrNoSpace) {
			// The outcome is unknown until the next start, so the blobs stay:
			// Sweep will decide by what the index then says.
			for _, put := range b.Puts {
				put.Upload.ended = true
				put.Upload.release()
			}
		}
		return committed{}, a.r.refuse(a.withFigures(err, b))
	}
	done := a.settle(b, now, results[:own])
	if ic != nil {
		a.r.compactions.afterIndex(a.r, ic, now, results[own:others])
		done.held = len(ic.proves) > 0
	}
	if done.removed || done.held {
		a.r.kick()
	}
	return done, nil
}

// removals are what a batch may remove or replace.
func (b *Batch) removals() []removal {
	all := make([]removal, 0, len(b.Deletes)+len(b.Puts))
	for _, d := range b.Deletes {
		all = append(all, removal{key: d.Key})
	}
	for _, put := range b.Puts {
		all = append(all, removal{key: put.Upload.o.Key, replace: &put.Upload.item.BLAKE3})
	}
	if b.Open != nil {
		for _, keys := range [][]string{b.Open.Sources, b.Open.Unused} {
			for _, key := range keys {
				all = append(all, removal{key: key})
			}
		}
	}
	return all
}

// alongside adds to the mutations of a batch what an index that it stores brings with it. mu of the compactions is held.
func (a *Access) alongside(b Batch, now time.Time, muts []index.Mutation) ([]index.Mutation, *indexCommit, error) {
	for _, put := range b.Puts {
		if put.Upload.o.Key == a.r.compactions.keys.index {
			return a.beforeIndex(put.Upload, now, muts)
		}
	}
	return muts, nil, nil
}

// noteLocks notes the locks that a batch stores and removes. mu of the compactions is held.
func (a *Access) noteLocks(b Batch) {
	c := &a.r.compactions
	for _, put := range b.Puts {
		if key := put.Upload.o.Key; c.keys.isLock(key) {
			c.lockChanged(a.sender(), key, false)
		}
	}
	for _, d := range b.Deletes {
		if c.keys.isLock(d.Key) {
			c.lockChanged(a.sender(), d.Key, true)
		}
	}
}

// withFigures says of a quota that the index found exceeded by how much.
func (a *Access) withFigures(err error, b Batch) error {
	if !errors.Is(err, ErrQuota) {
		return err
	}
	if errors.Is(err, index.ErrTrash) {
		return a.trashFull(a.replaced(b))
	}
	if errors.Is(err, index.ErrCharges) {
		return a.chargesError()
	}
	if errors.Is(err, index.ErrHistory) {
		return a.historyFull()
	}
	var refused *index.GroupError
	if open := b.openAt(); open >= 0 && errors.As(err, &refused) && refused.Position == open {
		return errors.Join(a.MayOpen(nil, 1, 0), err)
	}
	var bytes int64
	for _, put := range b.Puts {
		bytes += put.Upload.item.Counted() - put.Upload.credit
	}
	return a.refusal(bytes)
}

// mutations puts the deletions first: quota is tested on what the whole batch leaves.
func (a *Access) mutations(b Batch, now time.Time) ([]index.Mutation, error) {
	muts := make([]index.Mutation, 0, len(b.Requires)+len(b.Deletes)+len(b.Puts)+1)
	cause := a.cause(b.job())
	var spare *index.TrashBound // of what a plan removes
	if b.Reservation != nil {
		spare = a.trashBound(true, now)
	}
	for _, require := range b.Requires {
		muts = append(muts, require)
	}
	for _, d := range b.Deletes {
		if err := a.mayChange(d.Key, "D"); err != nil {
			return nil, err
		}
		muts = append(muts, index.Delete{
			Key: d.Key, IfRef: d.Ref, IgnoreMissing: d.IgnoreMissing, TrashUntil: a.r.trashUntil(a.r.env.Now()), TrashBound: spare,
			Now: now, Cause: cause,
		})
	}
	if b.Open != nil {
		open, err := a.openMutations(b.Open, now, cause)
		if err != nil {
			return nil, err
		}
		muts = append(muts, open...)
	}
	if b.whole {
		// Where removed items have a grace time, what a compaction removed before has its own.
		muts = append(muts, index.EndPlans{Now: now, LeaveKept: a.r.grace.Load() > 0})
	}
	limits := a.limits(b)
	for i, put := range b.Puts {
		u := put.Upload
		if err := a.mayChange(u.o.Key, "wW"); err != nil {
			return nil, err
		}
		admitted := u.commit || u.exempt || b.Reservation != nil
		u.item.Modified, u.item.Created = now, now // of an item that is there already the index keeps Created
		muts = append(muts, index.Put{
			Key: u.o.Key, Item: u.item, Payload: u.payload, IfRef: put.IfRef, IfAbsent: put.IfAbsent || put.IfRef == "" && a.May(u.o.Key, "W") != nil,
			Limit: limits[i], MaxCharges: a.maxCharges(), Exempt: u.exempt, Uncounted: put.Uncounted, TrashUntil: a.r.trashUntil(a.r.env.Now()),
			TrashBound: a.trashBound(admitted, now), Now: now, Backup: put.Backup,
			Commit: a.commitClass(b, u), Cause: a.addingCause(b.job(), admitted),
		})
	}
	if b.Open != nil {
		muts = append(muts, a.foundMutations(b.Open, now)...)
	}
	if b.Job != nil {
		muts = append(muts, index.PutJob{Job: *b.Job})
	}
	return muts, nil
}

// openAt is the position of the index.OpenPlan among the mutations of a batch, -1 when it has none.
func (b Batch) openAt() int {
	if b.Open == nil {
		return -1
	}
	return len(b.Requires) + len(b.Deletes) + len(b.Open.Unused)
}

// commitClass is that of the one upload of a batch, if it is one of a commit key. What a plan makes is held against the limit as a whole.
func (a *Access) commitClass(b Batch, u *Upload) *index.CommitClass {
	if len(b.Puts) > 1 || !u.commit {
		return nil
	}
	return a.r.commit.of()
}

// mayChange is May of a key that comes from a plan.
func (a *Access) mayChange(key, letters string) error {
	if err := keys.Check(key); err != nil {
		return err
	}
	return a.May(key, letters)
}

// limits are those of a batch's puts. The last that counts is held against the limit, when all the others have been
// counted; between two of them usage may pass it.
func (a *Access) limits(b Batch) []int64 {
	limits := make([]int64, len(b.Puts))
	last := -1
	for i, put := range b.Puts {
		limits[i] = -1
		if !put.Upload.exempt {
			last = i
		}
	}
	if limit := a.limit(); last >= 0 && limit >= 0 {
		if b.Reservation != nil {
			limit = max(limit, b.Reservation.atMost)
		}
		limits[last] = limit
	}
	return limits
}

// settle does what follows a durable commit: counts, markers, trash.
func (a *Access) settle(b Batch, now time.Time, results []index.Result) (done committed) {
	results = results[len(b.Requires):]
	var delta, commits int64
	for i, d := range b.Deletes {
		if previous := results[i].Previous; previous != nil {
			delta -= previous.Counted()
			commits -= a.r.commit.counts(d.Key, previous.Counted())
			done.deleted++
		}
	}
	results = results[len(b.Deletes):]
	if b.Open != nil {
		var more int64
		done.opened, more = a.opened(b.Open, now, results)
		delta += more
		results = results[len(b.Open.Unused)+1:]
	}
	if b.whole {
		delta += results[0].Delta
		results = results[1:]
	}
	done.removed, done.held = done.deleted > 0 || b.whole, done.opened.Removed > 0 || done.opened.Plan != 0
	done.puts = make([]PutResult, len(b.Puts))
	for i, put := range b.Puts {
		u := put.Upload
		stored := *results[i].Moved
		out := PutResult{Item: stored, Created: results[i].Previous == nil}
		added := stored.Counted()
		ofCommit := a.r.commit.counts(u.o.Key, added)
		if previous := results[i].Previous; previous != nil {
			ofCommit -= a.r.commit.counts(u.o.Key, previous.Counted())
			added -= previous.Counted()
			out.PreviousSize = previous.Size
			done.removed = true
		}
		done.puts[i] = out
		u.ended = true
		if b.Reservation == nil && !u.exempt { // else a compaction made it of what was there, or it is a lock
			a.r.growth.added.Add(stored.Size)
		}
		u.disk.end()
		u.inodes.end()
		if u.res != nil {
			u.res.commit(added, ofCommit)
		} else {
			delta, commits = delta+added, commits+ofCommit
		}
		if u.commit && a.r.commit.isIndex(u.o.Key) {
			a.r.indexStored()
		}
		if u.ref == "" {
			continue
		}
		if err := a.r.blobs.Settle(u.ref); err != nil {
			a.r.env.Logger.Warn("could not unlink the name of a stored blob in incoming; the next start does", "error", err)
		}
	}
	// In one step: between two, others could reserve the bytes of one of them.
	if b.Reservation != nil {
		b.Reservation.quota.commit(delta, commits)
		b.Reservation.disk.end()
		b.Reservation.endPlan(true)
	} else {
		a.r.quota.add(delta, commits)
	}
	return done
}
