package repo

import (
	"context"
	"errors"
	"hash"
	"sync"

	"packhouse/blobstore"
	"packhouse/index"
	"packhouse/repo/digest"
	"packhouse/repo/keys"
)

// Hash computes a digest of the item's bytes as they are on disk now, so that
// damage shows: also of an item that is marked as damaged, for a client's check goes on with the next item after
// a wrong digest, and ends at an error. Callers that ask for the same at once share one computation.
func (a *Access) Hash(ctx context.Context, key string, algorithm digest.Algorithm) ([]byte, error) {
	if err := keys.Check(key); err != nil {
		return nil, err
	}
	if err := a.May(key, "r"); err != nil {
		return nil, err
	}
	r := a.r.read(key)
	object, err := r.openAny(ctx, key)
	if err != nil {
		return nil, err
	}
	defer object.Close()
	return r.hashes.do(ctx, algorithm.Name+" "+object.Item.Ref, func() ([]byte, error) {
		return r.hash(context.WithoutCancel(ctx), index.Entry{Key: key, Item: object.Item}, algorithm.New())
	})
}

// hash reads an item, and as it lies if its bytes are wrong: that is noticed on the way, and no reason to end.
func (r *Repository) hash(ctx context.Context, entry index.Entry, h hash.Hash) ([]byte, error) {
	var err error = errDamaged
	var own *blobstore.Blob
	if entry.Item.Flags&index.FlagDamaged == 0 {
		if own, err = r.blobs.Open(refOf(entry.Item), infoOf(entry.Item)); err == nil {
			own.OnDoubt(func() ([]byte, error) { return r.recheck(ctx, entry) })
			err = sumOf(own, h)
		}
	}
	if errors.Is(err, ErrCorrupt) {
		h.Reset()
		if own, err = r.blobs.OpenAsIs(refOf(entry.Item), entry.Item.Size); err == nil {
			err = sumOf(own, h)
		}
	}
	switch {
	case err == nil:
		return h.Sum(nil), nil
	case errors.Is(err, blobstore.ErrNotFound):
		return nil, ErrNotFound // removed since we looked
	case own == nil:
		return nil, r.translate(err)
	}
	return nil, Errorf(ErrCorrupt, "the stored bytes of this item cannot be read")
}

// sumOf hashes a blob, and closes it.
func sumOf(b *blobstore.Blob, h hash.Hash) error {
	defer b.Close()
	section, err := b.Section(0, b.Size())
	if err != nil {
		return err
	}
	_, err = copyBody(h, section)
	return err
}

// hashSlots is how many digests one repository computes at once, each of which keeps a processor busy.
const hashSlots = 8

// hashings are the computations of a repository, of which those who want the same share one. One that runs goes on
// when its callers leave: a client that gave up asks again, and must not begin anew each time. One that still
// waits for a place ends with its last caller, so that no client starts more than it waits for.
type hashings struct {
	slots chan struct{} // a token for each that runs

	mu     sync.Mutex          // held for a look at the map only
	wanted map[string]*hashing // guarded by mu
}

type hashing struct {
	callers int           // guarded by hashings.mu
	started bool          // has a place; guarded by hashings.mu
	left    chan struct{} // closed when the last caller leaves before that
	done    chan struct{} // closed when sum and err are there
	sum     []byte
	err     error
}

func newHashings() *hashings {
	return &hashings{slots: make(chan struct{}, hashSlots), wanted: make(map[string]*hashing)}
}

// do returns what compute gives for the name, or ctx.Err() when ctx ends before.
func (s *hashings) do(ctx context.Context, name string, compute func() ([]byte, error)) ([]byte, error) {
	s.mu.Lock()
	h := s.wanted[name]
	if h == nil {
		h = &hashing{left: make(chan struct{}), done: make(chan struct{})}
		s.wanted[name] = h
		go s.run(h, name, compute)
	}
	h.callers++
	s.mu.Unlock()
	select {
	case <-h.done:
		return h.sum, h.err
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.callers--; h.callers == 0 && !h.started {
		delete(s.wanted, name) // who asks from now on begins another
		close(h.left)
	}
	return nil, ctx.Err()
}

func (s *hashings) run(h *hashing, name string, compute func() ([]byte, error)) {
	select {
	case s.slots <- struct{}{}:
	case <-h.left:
		return
	}
	defer func() { <-s.slots }()
	s.mu.Lock()
	h.started = h.callers > 0
	s.mu.Unlock()
	if !h.started {
		return // left at the same moment
	}
	h.sum, h.err = compute()
	s.mu.Lock()
	delete(s.wanted, name)
	s.mu.Unlock()
	close(h.done)
}
