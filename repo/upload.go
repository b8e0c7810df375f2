package repo

import (
	"context"
	"errors"
	"hash"
	"time"

	"packhouse/blobstore"
	"packhouse/index"
	"packhouse/repo/digest"
)

// Small coordination objects (locks, sessions) are stored beyond the quota, so that a full
// repository can still be locked, pruned and compacted. Both bounds keep that from
// becoming a way around the quota.
const (
	maxExempt   = 64 << 10 // bytes of one such object
	exemptTotal = 16 << 20 // bytes of all of them
)

// spaceStep is by how many bytes the claim on the disk grows with a body of unknown length.
const spaceStep = 4 << 20

// UploadOptions describe a blob about to be written.
type UploadOptions struct {
	Key        string             // where it will be stored, if known yet
	Size       int64              // bytes announced; negative: unknown
	MaxSize    int64              // ErrTooLarge beyond; 0: no limit
	Algorithms []digest.Algorithm // sums wanted besides BLAKE3
	// Reservation, if set, has promised the bytes already (a plan reserves
	// for all its outputs); else the upload reserves for itself.
	Reservation *Reservation
}

// Upload is a blob on its way in. Nothing of it is visible before Commit. It
// must be ended: by Commit or by Discard. Not safe for concurrent use.
type Upload struct {
	a        *Access
	o        UploadOptions
	w        *blobstore.Writer
	hashes   []hash.Hash
	res      *reservation // nil under a plan's reservation
	credit   int64        // counted bytes of the item it replaces
	exempt   bool
	claim    *claim // on the disk; nil while exempt
	claimed  int64  // bytes that claim has promised in all
	ref      blobstore.Ref
	item     index.Item
	finished bool
	ended    bool
}

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
		used, _, limit := a.r.quota.current()
		return &Reservation{&reservation{q: &a.r.quota}, c, max(used, limit)}, nil
	}
	res, err := a.r.quota.reserve(net)
	if err != nil {
		c.end()
		return nil, err
	}
	return &Reservation{res, c, 0}, nil
}

// NewUpload starts a blob. It promises itself quota and disk space for the announced size; it does
// not check permissions: Commit does, and Put before it reads the body.
func (a *Access) NewUpload(ctx context.Context, o UploadOptions) (*Upload, error) {
	if err := a.r.writable(); err != nil {
		return nil, err
	}
	if o.MaxSize > 0 && o.Size > o.MaxSize {
		return nil, errTooLarge
	}
	u := &Upload{a: a, o: o}
	u.exempt = ephemeral(o.Key) && o.Size <= maxExempt && a.r.index.Counters().Exempt < exemptTotal
	if err := u.reserve(); err != nil {
		return nil, err
	}
	if !u.exempt && o.Reservation == nil {
		if err := u.claimTo(max(o.Size, 0)); err != nil {
			u.release()
			return nil, err
		}
	}
	w, err := a.r.blobs.Create(ctx)
	if err != nil {
		u.release()
		return nil, a.r.translate(err)
	}
	u.w = w
	for _, algorithm := range o.Algorithms {
		u.hashes = append(u.hashes, algorithm.New())
	}
	return u, nil
}

var errTooLarge error = &messageError{"body is larger than one item may be", ErrTooLarge}

// reserve makes the upload's own promise.
func (u *Upload) reserve() error {
	if u.o.Reservation != nil {
		return nil
	}
	if u.exempt {
		u.res = &reservation{q: &u.a.r.quota}
		return nil
	}
	if u.o.Key != "" {
		if entry, err := u.a.r.index.Get(u.o.Key); err == nil && !entry.Dir {
			u.credit = counted(entry.Item)
		}
	}
	more := u.o.Size - u.credit
	if u.o.Size < 0 {
		more = -u.credit // of unknown length: the promise grows with the body
	}
	res, err := u.a.r.quota.reserve(more)
	if err != nil {
		return err
	}
	u.res = res
	return nil
}

// counted is what an item adds to the usage that the quota limits.
func counted(item index.Item) int64 {
	if item.Flags&index.FlagExempt != 0 {
		return 0
	}
	return item.Size
}

// Write appends to the blob. Errors: ErrQuota, ErrTooLarge, ErrNoSpace, ErrReadOnly.
func (u *Upload) Write(p []byte) (int, error) {
	size := u.w.Size() + int64(len(p))
	if u.o.MaxSize > 0 && size > u.o.MaxSize {
		return 0, errTooLarge
	}
	if u.exempt && size > maxExempt {
		u.exempt = false
	}
	if u.res != nil && !u.exempt {
		if more := size - u.credit - u.res.bytes; more > 0 {
			if err := u.res.grow(more); err != nil {
				return 0, err
			}
		}
	}
	if u.o.Reservation == nil && !u.exempt && size > u.claimed {
		if err := u.claimTo(max(size, u.claimed+spaceStep)); err != nil {
			return 0, err
		}
	}
	for _, h := range u.hashes {
		h.Write(p) // a hash.Hash never returns an error
	}
	n, err := u.w.Write(p)
	if c := u.diskClaim(); c != nil {
		c.wrote(int64(n))
	}
	return n, u.a.r.translate(err)
}

// claimTo makes the upload's own claim on the disk one of so many bytes in all.
func (u *Upload) claimTo(bytes int64) (err error) {
	if u.claim == nil {
		u.claim, err = u.a.r.claim(bytes, u.a.r.reserve.Load())
	} else {
		err = u.claim.grow(bytes - u.claimed)
	}
	if err == nil {
		u.claimed = bytes
	}
	return err
}

// diskClaim is what the bytes are counted against: the plan's claim, or the upload's own, or none.
func (u *Upload) diskClaim() *claim {
	if u.o.Reservation != nil {
		return u.o.Reservation.claim
	}
	return u.claim
}

// Size is the number of bytes written so far.
func (u *Upload) Size() int64 { return u.w.Size() }

// Sum is the digest of what was written, by the i-th of UploadOptions.Algorithms.
func (u *Upload) Sum(i int) []byte { return u.hashes[i].Sum(nil) }

// BLAKE3 is the digest of what was written, which the blob store computes anyway. Before Finish only.
func (u *Upload) BLAKE3() []byte {
	sum := u.w.BLAKE3()
	return sum[:]
}

// Verified is a digest that the bytes were checked against (or named by).
type Verified struct {
	Algorithm string
	Sum       []byte
}

// Finish makes the bytes durable under no name yet: key is where Commit will put them. When
// it returns nil only Commit or Discard may follow.
func (u *Upload) Finish(ctx context.Context, key string, verified Verified) error {
	now := u.a.r.env.Now()
	u.item = index.Item{
		Created: now, Modified: now, Algorithm: verified.Algorithm, Sum: verified.Sum, Writer: u.a.p.Name,
	}
	if entry, err := u.a.r.index.Get(key); err == nil && !entry.Dir {
		u.item.Created = entry.Item.Created
	}
	text, err := encodeLabel(u.a.r.dialect, key, u.item, u.exempt)
	if err != nil {
		return err
	}
	// From here the outcome matters more than the client's patience: what is durable is
	// either referenced or removed.
	ref, info, err := u.w.Commit(context.WithoutCancel(ctx), text)
	if err != nil {
		return u.a.r.translate(err)
	}
	u.o.Key, u.ref, u.finished = key, ref, true
	u.item.Size, u.item.BLAKE3, u.item.Ref = info.Size, info.BLAKE3, string(ref)
	return nil
}

// Item is what Commit will store, after Finish.
func (u *Upload) Item() index.Item { return u.item }

// Discard gives the upload up: its bytes and its promise of quota. After
// Commit it does nothing, so that it can be deferred.
func (u *Upload) Discard() {
	if u.ended {
		return
	}
	u.ended = true
	u.release()
	if !u.finished {
		u.w.Abort()
		return
	}
	// No index record refers to the blob, and none can any more.
	if err := u.a.r.blobs.Remove(u.ref); err != nil {
		u.a.r.env.Logger.Warn("unfinished blob stays until the next start", "error", err)
	}
}

// release ends the upload's own promises.
func (u *Upload) release() {
	if u.res != nil {
		u.res.release()
	}
	u.claim.end()
}

// Batch is what Commit makes one index transaction.
type Batch struct {
	Puts     []BatchPut
	Deletes  []BatchDelete
	Requires []index.Require // items that must still be what they were
	Job      *index.Job      // stored with the outcome
	// Reservation is ended by a Commit that succeeds.
	Reservation *Reservation
}

// BatchPut stores a finished upload under its key.
type BatchPut struct {
	Upload   *Upload
	IfAbsent bool   // ErrExists when an item is there
	IfRef    string // if not empty: ErrConflict unless the item there has this reference
	Backup   bool   // counts as a completed backup of the principal
}

// BatchDelete removes an item, if it still has Ref (when Ref is not empty).
type BatchDelete struct {
	Key, Ref      string
	IgnoreMissing bool
}

// PutResult is what a Put found and did.
type PutResult struct {
	Item         index.Item
	Created      bool  // no item was there
	PreviousSize int64 // of the item replaced
	Unchanged    bool  // the same bytes were there already; nothing was written
}

// Commit makes everything in the batch true in one index transaction, or nothing. The uploads
// are durable already (Finish); when Commit returns nil so is all that refers to them.
// This is the commit order of the design: bytes first, index second, unlink last.
func (a *Access) Commit(ctx context.Context, b Batch) ([]PutResult, error) {
	outcome, _, err := a.commit(ctx, b)
	return outcome, err
}

// commit also returns how many items the batch deleted.
func (a *Access) commit(ctx context.Context, b Batch) ([]PutResult, int, error) {
	muts, err := a.mutations(b)
	if err != nil {
		return nil, 0, err
	}
	if err := ctx.Err(); err != nil {
		return nil, 0, err // nothing was asked of the index yet
	}
	results, err := a.r.apply(context.WithoutCancel(ctx), muts...)
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
		return nil, 0, a.withFigures(err, b)
	}
	outcome, deleted := a.settle(b, results)
	return outcome, deleted, nil
}

// withFigures says of a quota that the index found exceeded by how much.
func (a *Access) withFigures(err error, b Batch) error {
	if !errors.Is(err, ErrQuota) {
		return err
	}
	var bytes int64
	for _, put := range b.Puts {
		bytes += counted(put.Upload.item) - put.Upload.credit
	}
	used, _, limit := a.r.quota.current()
	return &QuotaError{Used: used, Wanted: used + bytes, Limit: limit, Request: bytes}
}

// mutations puts the deletions first: quota is tested on what the whole batch leaves.
func (a *Access) mutations(b Batch) ([]index.Mutation, error) {
	now := a.r.env.Now()
	muts := make([]index.Mutation, 0, len(b.Requires)+len(b.Deletes)+len(b.Puts)+1)
	for _, require := range b.Requires {
		muts = append(muts, require)
	}
	for _, d := range b.Deletes {
		if err := a.mayChange(d.Key, "D"); err != nil {
			return nil, err
		}
		muts = append(muts, index.Delete{
			Key: d.Key, IfRef: d.Ref, IgnoreMissing: d.IgnoreMissing, TrashUntil: a.r.trashUntil(d.Key, now), Now: now,
		})
	}
	limits := a.limits(b)
	for i, put := range b.Puts {
		u := put.Upload
		if err := a.mayChange(u.o.Key, "wW"); err != nil {
			return nil, err
		}
		u.item.Modified = now
		muts = append(muts, index.Put{
			Key: u.o.Key, Item: u.item, IfRef: put.IfRef, IfAbsent: put.IfAbsent || put.IfRef == "" && a.May(u.o.Key, "W") != nil,
			Limit: limits[i], Exempt: u.exempt, TrashUntil: a.r.trashUntil(u.o.Key, now), Now: now, Backup: put.Backup,
		})
	}
	if b.Job != nil {
		muts = append(muts, index.PutJob{Job: *b.Job})
	}
	return muts, nil
}

// mayChange is May of a key that comes from a plan.
func (a *Access) mayChange(key, letters string) error {
	if err := CheckKey(key); err != nil {
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
	if _, _, limit := a.r.quota.current(); last >= 0 && limit >= 0 {
		if b.Reservation != nil {
			limit = max(limit, b.Reservation.atMost)
		}
		limits[last] = limit
	}
	return limits
}

// settle does what follows a durable commit: counts, markers, trash.
func (a *Access) settle(b Batch, results []index.Result) (outcome []PutResult, deleted int) {
	results = results[len(b.Requires):]
	var delta int64
	for i := range b.Deletes {
		if previous := results[i].Previous; previous != nil {
			delta -= counted(*previous)
			deleted++
		}
	}
	removed := deleted > 0
	results = results[len(b.Deletes):]
	outcome = make([]PutResult, len(b.Puts))
	for i, put := range b.Puts {
		u := put.Upload
		stored := u.item
		if u.exempt {
			stored.Flags |= index.FlagExempt
		}
		out := PutResult{Item: stored, Created: results[i].Previous == nil}
		added := counted(stored)
		if previous := results[i].Previous; previous != nil {
			added -= counted(*previous)
			out.PreviousSize = previous.Size
			removed = true
		}
		outcome[i] = out
		u.ended = true
		u.claim.end()
		if u.res != nil {
			u.res.commit(added)
		} else {
			delta += added
		}
		if err := a.r.blobs.Settle(u.ref); err != nil {
			a.r.env.Logger.Warn("marker of a stored blob stays until the next start", "error", err)
		}
	}
	// In one step: between two, others would be promised the bytes of one of them.
	if b.Reservation != nil {
		b.Reservation.r.commit(delta)
		b.Reservation.claim.end()
	} else {
		a.r.quota.add(delta)
	}
	if removed {
		a.r.kick()
	}
	return outcome, deleted
}

// Now is the repository's clock, for dialects that store times.
func (r *Repository) Now() time.Time { return r.env.Now() }
