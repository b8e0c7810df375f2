package repo

import (
	"context"
	"hash"

	"packhouse/blobstore"
	"packhouse/index"
	"packhouse/repo/digest"
	"packhouse/repo/keys"
	"packhouse/repo/layout"
)

// maxExempt is how many bytes a coordination object (a lock, a session) may have to be stored beyond the quota; see exempt.go.
const maxExempt = keys.MaxCoordination

// spaceStep is by how many bytes the reservation of the disk grows with a body of unknown length.
const spaceStep = 4 << 20

// UploadOptions describe a blob about to be written.
type UploadOptions struct {
	Key        string             // where it will be stored, if known yet
	Size       int64              // bytes announced; negative: unknown
	MaxSize    int64              // ErrTooLarge beyond; 0: no limit
	Algorithms []digest.Algorithm // sums wanted besides BLAKE3
	// Reservation, if set, has the bytes already (a plan reserves
	// for all its outputs); else the upload reserves for itself.
	Reservation *PlanReservation
}

// Upload is a blob that is being written. Nothing of it is visible before Commit. It must be ended by Commit or Discard. Not safe for
// concurrent use.
type Upload struct {
	a        *Access
	o        UploadOptions
	w        *blobstore.Writer
	hashes   []hash.Hash
	res      *quotaReservation // nil under a plan's reservation
	credit   int64             // counted bytes of the item it replaces
	exempt   bool
	commit   bool             // of a commit key
	begun    uint64           // step at which an index began to be stored, see compactions
	disk     *diskReservation // on the disk; nil while exempt
	inodes   *inodeReservation
	reserved int64         // bytes that were reserved of the disk in all
	ref      blobstore.Ref // of a file; empty: it lies in payload, or nowhere yet
	payload  []byte        // a small blob, which Commit stores in the log
	item     index.Item
	finished bool
	ended    bool
}

// NewUpload starts a blob. It reserves quota and disk space for the announced size; it does
// not check permissions: Commit does, and Put before it reads the body.
func (a *Access) NewUpload(ctx context.Context, o UploadOptions) (*Upload, error) {
	var before *index.Item
	if o.Key != "" && o.Reservation == nil {
		before = a.at(o.Key).itemAt(o.Key)
	}
	return a.newUpload(ctx, o, before)
}

// itemAt is the item at a key, nil if there is none that can be read. By the time of a commit it may be another: what must be right is
// decided there.
func (a *Access) itemAt(key string) *index.Item {
	entry, err := a.r.index.Get(key)
	if err != nil || entry.Dir {
		return nil
	}
	return &entry.Item
}

// newUpload is NewUpload for a caller that has looked which item is at the key: before, nil for none.
func (a *Access) newUpload(ctx context.Context, o UploadOptions, before *index.Item) (*Upload, error) {
	a = a.at(o.Key)
	if err := a.r.writable(); err != nil {
		return nil, err
	}
	if c := a.r.index.Counters(); a.r.inMemory && c.Items+c.TrashItems >= memoryItems {
		return nil, errMemoryFull
	}
	if o.MaxSize > 0 && o.Size > o.MaxSize {
		return nil, errTooLarge
	}
	u := &Upload{a: a, o: o}
	if h := a.r.compactions.keys; h != nil && o.Key == h.index {
		u.begun = a.r.compactions.indexBegins()
	}
	u.exempt = o.Size <= maxExempt && a.mayBeExempt(o.Key, o.Size)
	u.commit = o.Reservation == nil && a.r.commit.has(o.Key, o.Size)
	if err := u.reserve(before); err != nil {
		return nil, a.r.refuse(err)
	}
	if !u.exempt && o.Reservation == nil {
		if err := u.reserveTo(max(o.Size, 0)); err != nil {
			u.release()
			return nil, a.r.refuse(err)
		}
	}
	size := o.Size
	if o.Reservation != nil {
		size = index.MaxPayload + 1 // the outputs of a plan are committed together, and would be in memory until then
	}
	if err := u.reserveInodes(); err != nil {
		u.release()
		return nil, a.r.refuse(err)
	}
	w, err := a.r.blobs.Create(ctx, size)
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

var errTooLarge error = Errorf(ErrTooLarge, "body is larger than one item may be")

// reserve makes the upload's own reservation; before is the item that it will replace, nil for none.
func (u *Upload) reserve(before *index.Item) error {
	if u.o.Reservation != nil {
		return nil
	}
	if before == nil && !u.exempt && !u.commit {
		if err := u.a.admitCharge(); err != nil {
			return err
		}
	}
	u.res = u.a.noReservation()
	if u.commit {
		u.res.bound = u.a.r.commitBound
	}
	if u.exempt {
		return nil
	}
	if err := u.a.admitReplaced(before); err != nil && !u.commit {
		return err
	}
	if err := u.a.admitChange(u.commit); err != nil {
		return err
	}
	if before != nil {
		u.credit = before.Counted()
		if before.Flags&index.FlagExempt == 0 {
			u.credit = before.Size // that of a pack which a compaction left uncounted is taken back, if it is other bytes
		}
		if before.Flags&(index.FlagMissing|index.FlagReturned) == index.FlagMissing && before.Plan == 0 {
			u.credit = 0 // a missing item holds nothing
		}
	}
	more := u.o.Size - u.credit
	if u.o.Size < 0 {
		more = -u.credit // of unknown length: the reservation grows with the body
	}
	return u.res.grow(more)
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
	if u.commit && !u.a.r.commit.has(u.o.Key, size) {
		u.commit = false
		u.res.leaveClass()
		if u.disk != nil {
			u.disk.leaveClass()
		}
	}
	if u.res != nil && !u.exempt {
		if more := size - u.credit - u.res.bytes; more > 0 {
			if err := u.res.grow(more); err != nil {
				return 0, u.a.r.refuse(err)
			}
		}
	}
	if u.o.Reservation == nil && !u.exempt && size > u.reserved {
		err := u.reserveTo(max(size, u.reserved+spaceStep))
		if err != nil && size < u.reserved+spaceStep {
			err = u.reserveTo(size) // what has come may fit where a whole step does not
		}
		if err != nil {
			return 0, u.a.r.refuse(err)
		}
	}
	for _, h := range u.hashes {
		h.Write(p) // a hash.Hash never returns an error
	}
	n, err := u.w.Write(p)
	if d := u.diskReservation(); d != nil {
		d.wrote(int64(n))
	}
	return n, u.a.r.refuse(u.a.r.translate(err))
}

// reserveTo makes the upload's own reservation of the disk one of so many bytes in all.
func (u *Upload) reserveTo(bytes int64) (err error) {
	switch {
	case u.disk != nil:
		err = u.disk.grow(bytes - u.reserved)
	case u.commit:
		u.disk, err = u.a.r.reserveCommitDisk(bytes)
	default:
		u.disk, err = u.a.r.reserveDisk(bytes, u.a.r.reserve.Load())
	}
	if err == nil {
		u.reserved = bytes
	}
	return err
}

// diskReservation is what the bytes are counted against: the plan's, or the upload's own; nil: none.
func (u *Upload) diskReservation() *diskReservation {
	if u.o.Reservation != nil {
		return u.o.Reservation.disk
	}
	return u.disk
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

// Finish makes the bytes durable, without a key; key is the one that Commit will use. Those of a small blob stay in memory: Commit makes
// them durable together with the row. After it returns nil only Commit or Discard may follow.
func (u *Upload) Finish(ctx context.Context, key string, verified Verified) error {
	now := u.a.r.env.Now()
	u.item = index.Item{
		Created: now, Modified: now, Algorithm: verified.Algorithm, Sum: verified.Sum, Writer: u.a.p.Name,
	}
	if payload, info, ok := u.w.Small(); ok {
		u.o.Key, u.payload, u.finished = key, payload, true
		u.item.Size, u.item.BLAKE3 = info.Size, info.BLAKE3
		return nil
	}
	if before := u.a.itemAt(key); before != nil { // the label says when the key first had an item
		u.item.Created = before.Created
	}
	text, err := layout.EncodeLabel(u.a.r.dialect, key, u.item, u.exempt)
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

// Discard discards the upload and releases its reservation of quota. After Commit it does nothing, so that it can be deferred.
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
	if u.ref == "" {
		return // nothing was written
	}
	// No index record refers to the blob, and none can any more.
	if err := u.a.r.blobs.Remove(u.ref); err != nil {
		u.a.r.env.Logger.Warn("could not remove an unfinished upload; the next start removes it", "error", err)
	}
}

// release ends the upload's own reservations.
func (u *Upload) release() {
	if u.res != nil {
		u.res.release()
	}
	u.disk.cancel()
	u.inodes.end()
}
