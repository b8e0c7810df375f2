package repo

import (
	"context"
	"errors"
	"hash"
	"io"
	"io/fs"
	"sync"
	"time"

	"packhouse/blobstore"
	"packhouse/index"
	"packhouse/repo/digest"
	"packhouse/repo/keys"
)

// Hash computes a digest of the item's bytes as they are on disk now, so that
// damage shows: also of an item that is marked as damaged, for a client's check goes on with the next item after
// a wrong digest, and ends at an error. Callers that ask for the same at once share one computation. It is stopped when all have
// left or the repository is closed.
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
	sum, err := r.hashes.do(ctx, algorithm.Name+" "+object.Item.Ref, func(ctx context.Context) ([]byte, error) {
		return r.hash(ctx, index.Entry{Key: key, Item: object.Item}, algorithm.New())
	})
	return sum, r.translate(err)
}

// hash reads an item, and as it lies if its bytes are wrong: that is noticed on the way, and no reason to end.
func (r *Repository) hash(ctx context.Context, entry index.Entry, h hash.Hash) ([]byte, error) {
	var err error = errDamaged
	var own *blobstore.Blob
	if entry.Item.Flags&index.FlagDamaged == 0 {
		if own, err = r.blobs.Open(refOf(entry.Item), infoOf(entry.Item)); err == nil {
			own.OnDoubt(func() ([]byte, error) { return r.recheck(ctx, entry) })
			err = sumOf(ctx, own, h)
		}
	}
	if errors.Is(err, ErrCorrupt) {
		h.Reset()
		if own, err = r.blobs.OpenAsIs(refOf(entry.Item), entry.Item.Size); err == nil {
			err = sumOf(ctx, own, h)
		}
	}
	switch {
	case err == nil:
		return h.Sum(nil), nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, blobstore.ErrNotFound):
		return nil, ErrNotFound // removed since we looked
	case own == nil:
		return nil, r.translate(err)
	}
	return nil, Errorf(ErrCorrupt, "the stored bytes of this item cannot be read")
}

// sumOf hashes a blob, and closes it. It ends with ctx.
func sumOf(ctx context.Context, b *blobstore.Blob, h hash.Hash) error {
	defer b.Close()
	section, err := b.Section(0, b.Size())
	if err != nil {
		return err
	}
	_, err = copyBody(h, readerUntil{ctx, section})
	return err
}

// readerUntil reads from Reader until ctx ends.
type readerUntil struct {
	ctx context.Context
	io.Reader
}

func (r readerUntil) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(p)
}

// hashSlots is how many digests one repository computes at once, each of which keeps a processor busy.
const hashSlots = 8

// hashPatience is how long a computation goes on for nobody. A BorgStore client that has waited for 30 s gives up and asks again
// 5 s later: what takes longer would begin anew each time.
const hashPatience = 10 * time.Second

// hashings are the computations of a repository, of which those who want the same share one. One that runs is stopped when its
// last caller has left and none has come within hashPatience, one that still waits for a place at once, so that no client starts
// more than it waits for. All are stopped when the repository is closed.
type hashings struct {
	slots  chan struct{} // a token for each that runs
	active sync.WaitGroup

	mu     sync.Mutex          // held for a look at the fields below only
	wanted map[string]*hashing // those that are not stopped
	closed bool
}

type hashing struct {
	callers int         // guarded by hashings.mu
	started bool        // has a place; guarded by hashings.mu
	leaving *time.Timer // stops it, since the last caller has left; nil: none has; guarded by hashings.mu
	stop    context.CancelCauseFunc

	done chan struct{} // closed when sum and err are there
	sum  []byte
	err  error
}

func newHashings() *hashings {
	return &hashings{slots: make(chan struct{}, hashSlots), wanted: make(map[string]*hashing)}
}

// close stops all computations and waits for them. Their callers get fs.ErrClosed.
func (s *hashings) close() {
	s.mu.Lock()
	s.closed = true
	for name, h := range s.wanted {
		s.stopLocked(name, h, fs.ErrClosed)
	}
	s.mu.Unlock()
	s.active.Wait()
}

// stopLocked has a computation end; who asks for the same from now on begins another.
func (s *hashings) stopLocked(name string, h *hashing, cause error) {
	if s.wanted[name] == h {
		delete(s.wanted, name)
	}
	h.stop(cause)
}

// do returns what compute gives for the name, or ctx.Err() when ctx ends before. The context of compute ends when it is stopped.
func (s *hashings) do(ctx context.Context, name string, compute func(context.Context) ([]byte, error)) ([]byte, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, fs.ErrClosed
	}
	h := s.wanted[name]
	if h == nil {
		h = &hashing{done: make(chan struct{})}
		own, stop := context.WithCancelCause(context.WithoutCancel(ctx))
		h.stop = stop
		s.wanted[name] = h
		s.active.Go(func() { s.run(own, h, name, compute) })
	}
	h.callers++
	if h.leaving != nil {
		h.leaving.Stop()
	}
	s.mu.Unlock()
	select {
	case <-h.done:
		return h.sum, h.err
	case <-ctx.Done():
	}
	s.leave(name, h)
	return nil, ctx.Err()
}

// leave is called by a caller that waits no longer.
func (s *hashings) leave(name string, h *hashing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.callers--
	switch {
	case h.callers > 0:
	case !h.started:
		s.stopLocked(name, h, context.Canceled)
	default:
		h.leaving = time.AfterFunc(hashPatience, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if h.callers == 0 {
				s.stopLocked(name, h, context.Canceled)
			}
		})
	}
}

func (s *hashings) run(ctx context.Context, h *hashing, name string, compute func(context.Context) ([]byte, error)) {
	h.sum, h.err = s.inTurn(ctx, h, compute)
	s.mu.Lock()
	s.stopLocked(name, h, nil)
	if h.leaving != nil {
		h.leaving.Stop()
	}
	s.mu.Unlock()
	close(h.done)
}

// inTurn computes when there is a place.
func (s *hashings) inTurn(ctx context.Context, h *hashing, compute func(context.Context) ([]byte, error)) ([]byte, error) {
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-s.slots }()
	s.mu.Lock()
	h.started = true
	s.mu.Unlock()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return compute(ctx)
}
