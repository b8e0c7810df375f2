package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"github.com/zeebo/blake3"

	"packhouse/index"
	"packhouse/repo/digest"
	"packhouse/repo/keys"
)

// Expectation is a digest the body must have.
type Expectation struct {
	Algorithm digest.Algorithm
	Sum       []byte
}

// PutRequest is one item to store.
type PutRequest struct {
	Key     string
	Body    io.Reader
	Size    int64 // bytes announced; a body that ends earlier is ErrIncomplete. Negative: unknown
	MaxSize int64 // ErrTooLarge beyond; 0: no limit
	Expect  []Expectation
	Backup  bool // storing this key completes a backup
	// Immutable: what is stored under this key never changes, so that an item there is not replaced, whoever stores it. The same bytes
	// succeed, and other ones are a DeniedError with Exists.
	Immutable bool
	Final     bool // clients store this key once at most: see policy.Permissions.AllowsReplacingFinal
}

// Vacant returns ErrIsDir if the directory at a key has items, so that none can be stored there, and ErrNotDir if a parent is an
// item. It is asked before bytes are read for that.
func (a *Access) Vacant(key string) error { return a.r.translate(a.at(key).r.index.Vacant(key)) }

// clearDirs is for who may store an item at key and is about to: more directories than give way to it in its commit are removed before, in
// commits of their own, if no item lies below key. So nobody can make a name unusable with very many directories. Of other directories it
// says nothing.
func (r *Repository) clearDirs(ctx context.Context, key string) error {
	if !errors.Is(r.index.Vacant(key), index.ErrManyDirs) {
		return nil
	}
	found := errors.New("found")
	err := r.index.Rows(ctx, index.ListOptions{Dir: key, Recursive: true}, func(*index.Row) error { return found })
	for err == nil && errors.Is(r.index.Vacant(key), index.ErrManyDirs) {
		if err = ctx.Err(); err == nil {
			_, err = r.apply(ctx, index.ClearDirs{Key: key})
		}
	}
	if errors.Is(err, found) || refused(err) {
		return nil // the directories stay, or have an item meanwhile
	}
	return r.translate(err)
}

// Put stores the body under the key, and replaces an item there, or a directory without items. When it returns nil the bytes,
// their directory entry and the index entry are on stable storage. After an error nothing of it is visible, and an existing item
// is unchanged.
//
// A principal that may only write new items (w without W) succeeds with bytes that are already stored, because a client that lost the
// first answer sends them again.
func (a *Access) Put(ctx context.Context, req PutRequest) (result PutResult, err error) {
	if err := keys.Check(req.Key); err != nil {
		return PutResult{}, err
	}
	if o := a.r.overlay; o != nil && o.layered(req.Key) {
		if entry, err := a.r.Entry(req.Key); err == nil && !entry.Dir && !a.mayReplace(req) {
			return PutResult{}, &DeniedError{Letters: "W", Key: req.Key, Exists: true}
		}
		defer func() {
			if err == nil {
				err = o.hide(req.Key, false)
			}
		}()
	}
	a = a.at(req.Key)
	mayReplace := a.mayReplace(req)
	entry, err := a.r.index.Get(req.Key)
	switch {
	case errors.Is(err, ErrNotFound):
		if err := a.May(req.Key, "wW"); err != nil {
			return PutResult{}, err
		}
		return a.store(ctx, req, nil, nil)
	case err != nil:
		return PutResult{}, a.r.translate(err)
	case a.May(req.Key, "wW") != nil:
		return PutResult{}, a.May(req.Key, "W")
	case entry.Dir:
		if err := errors.Join(a.r.clearDirs(ctx, req.Key), a.Vacant(req.Key)); err != nil {
			return PutResult{}, err
		}
		return a.store(ctx, req, nil, nil)
	case mayReplace:
		return a.store(ctx, req, &entry.Item, nil)
	}
	// Bytes are there only if they can be read.
	object, err := a.r.openSound(ctx, req.Key)
	if err == nil {
		_ = object.Close() // nothing was read
		err = a.proveStored(ctx, req, &object.Item)
	}
	switch {
	case err == nil:
		return a.compare(ctx, req, object.Item)
	case errors.Is(err, ErrCorrupt):
		return a.store(ctx, req, &entry.Item, &entry.Item)
	case errors.Is(err, ErrNotFound):
		now, err := a.r.index.Get(req.Key)
		if err == nil && now.Item.Ref == entry.Item.Ref { // its file is gone
			return a.store(ctx, req, &entry.Item, &entry.Item)
		}
		return a.store(ctx, req, nil, nil) // deleted since we looked
	}
	return PutResult{}, err
}

// proveStored reads the item that a body may be the bytes of: who is told that they are stored trusts in that. A wrong byte that was not
// found yet is ErrDamaged, and the body mends it. The BLAKE3 of an adopted item is known afterwards.
func (a *Access) proveStored(ctx context.Context, req PutRequest, item *index.Item) error {
	if req.Size >= 0 && req.Size != item.Size || a.r.env.Unchecked && item.Flags&index.FlagUnverified == 0 {
		return nil
	}
	if err := a.r.Verify(ctx, index.Entry{Key: req.Key, Item: *item}, nil); err != nil {
		return err
	}
	if now, err := a.r.index.Get(req.Key); err == nil && now.Item.Ref == item.Ref {
		*item = now.Item
	}
	return nil
}

// compare reads the body without storing it and accepts it if it is what the item holds.
func (a *Access) compare(ctx context.Context, req PutRequest, item index.Item) (PutResult, error) {
	if err := a.r.Durable(); err != nil {
		return PutResult{}, err // a commit of which nobody knows may have put other bytes there
	}
	denied := &DeniedError{Letters: "W", Key: req.Key, Exists: true}
	if req.Size >= 0 && req.Size != item.Size {
		return PutResult{}, denied
	}
	sum := blake3.New()
	writers := []io.Writer{sum}
	hashes := make([]hash.Hash, len(req.Expect))
	for i, expect := range req.Expect {
		hashes[i] = expect.Algorithm.New()
		writers = append(writers, hashes[i])
	}
	n, err := copyBody(io.MultiWriter(writers...), io.LimitReader(req.Body, item.Size+1))
	if err != nil {
		return PutResult{}, err
	}
	if n > item.Size {
		return PutResult{}, denied
	}
	if req.Size >= 0 && n < req.Size {
		return PutResult{}, incomplete(req.Size, n)
	}
	for i, expect := range req.Expect {
		if err := expect.verify(hashes[i].Sum(nil)); err != nil {
			return PutResult{}, err
		}
	}
	if n != item.Size || !bytes.Equal(sum.Sum(nil), item.BLAKE3[:]) {
		return PutResult{}, denied
	}
	return a.unchanged(ctx, req.Key, item)
}

// unchanged is the answer to a body whose bytes are there already. Who stores them is about to refer to them: no client
// that has not heard of that may call them unused, and they are no plan's to remove.
func (a *Access) unchanged(ctx context.Context, key string, item index.Item) (PutResult, error) {
	if h := a.r.compactions.keys; h != nil && h.isPack(key) {
		at := a.r.changes.begin(a.r.env.Now())
		defer a.r.changes.end(at)
		if _, err := a.r.apply(ctx, index.Found{Key: key, Ref: item.Ref, Now: *at}); err != nil && !refused(err) {
			return PutResult{}, err
		}
	}
	return PutResult{Item: item, PreviousSize: item.Size, Unchanged: true}, a.r.Durable()
}

// store is the path of one write. before is the item that was there when Put looked, nil if there was none. damaged, if set, is
// that item, whose bytes are wrong or gone. It may not be overwritten but mended: with the very bytes that were lost.
func (a *Access) store(ctx context.Context, req PutRequest, before, damaged *index.Item) (PutResult, error) {
	algorithms := make([]digest.Algorithm, len(req.Expect))
	for i, expect := range req.Expect {
		algorithms[i] = expect.Algorithm
	}
	u, err := a.newUpload(ctx, UploadOptions{
		Key: req.Key, Size: req.Size, MaxSize: req.MaxSize, Algorithms: algorithms,
	}, before)
	if err != nil {
		return PutResult{}, err
	}
	defer u.Discard()
	n, err := copyBody(u, req.Body)
	if err != nil {
		return PutResult{}, err
	}
	if req.Size >= 0 && n != req.Size {
		return PutResult{}, incomplete(req.Size, n)
	}
	var verified Verified
	for i, expect := range req.Expect {
		if err := expect.verify(u.Sum(i)); err != nil {
			return PutResult{}, err
		}
		verified = Verified{Algorithm: expect.Algorithm.Name, Sum: expect.Sum}
	}
	if err := u.Finish(ctx, req.Key, verified); err != nil {
		return PutResult{}, err
	}
	put := BatchPut{Upload: u, Backup: req.Backup, IfAbsent: damaged == nil && !a.mayReplace(req)}
	if damaged != nil {
		if !mends(u.item, *damaged) {
			return PutResult{}, &DeniedError{Letters: "W", Key: req.Key, Exists: true}
		}
		put.IfRef = damaged.Ref
	}
	var record *index.TakeBackBackup
	if req.Backup && a.r.snapshots.rewrites {
		if record, err = a.backupBefore(ctx); err != nil {
			return PutResult{}, err
		}
	}
	results, err := a.Commit(ctx, Batch{Puts: []BatchPut{put}})
	if errors.Is(err, ErrExists) {
		return a.lostRace(ctx, u)
	}
	if err != nil {
		return PutResult{}, err
	}
	if record != nil {
		a.backupRecorded(*record, results[0].Item.Modified)
	}
	a.itemChanged(ctx, req.Key, false)
	return results[0], nil
}

// mends tells whether bytes that were just received are those that an item had. Of an item that was adopted and that nobody
// has found sound, the digest in its name says that, if it has one.
func mends(received, had index.Item) bool {
	if had.Flags&index.FlagUnverified == 0 {
		return received.BLAKE3 == had.BLAKE3
	}
	return received.Size == had.Size && had.Algorithm != "" && received.Algorithm == had.Algorithm && bytes.Equal(received.Sum, had.Sum)
}

// lostRace answers for a new item that somebody else stored first.
func (a *Access) lostRace(ctx context.Context, u *Upload) (PutResult, error) {
	object, err := a.r.openSound(ctx, u.o.Key)
	if err == nil {
		_ = object.Close() // nothing was read
		if item := object.Item; item.BLAKE3 == u.item.BLAKE3 && item.Size == u.item.Size {
			return a.unchanged(ctx, u.o.Key, item)
		}
	}
	return PutResult{}, &DeniedError{Letters: "W", Key: u.o.Key, Exists: true}
}

func (e Expectation) verify(got []byte) error {
	if bytes.Equal(e.Sum, got) {
		return nil
	}
	return &DigestError{Algorithm: e.Algorithm.Name, Want: e.Sum, Got: got}
}

func incomplete(want, got int64) error {
	return Errorf(ErrIncomplete, "body ended early: %d bytes announced, %d received", want, got)
}

// buffers are what bodies pass through; their size is what one upload or download costs in memory.
var buffers = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

// copyBody copies all of src. An error of src is ErrIncomplete, an error of dst is returned as it is.
func copyBody(dst io.Writer, src io.Reader) (int64, error) {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	var total int64
	for filled := 0; ; {
		n, err := src.Read((*buffer)[filled:])
		filled += n
		// Small reads are gathered: a socket gives less at a time than a write should take.
		if filled > 0 && (err != nil || filled == len(*buffer)) {
			if _, err := dst.Write((*buffer)[:filled]); err != nil {
				return total, err
			}
			total += int64(filled)
			filled = 0
		}
		switch {
		case err == io.EOF:
			return total, nil
		case err != nil:
			return total, fmt.Errorf("%w: %w", ErrIncomplete, err)
		}
	}
}
