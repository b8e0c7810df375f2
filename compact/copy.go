package compact

import (
	"context"
	"errors"
	"hash"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/digest"
)

// An operation at work holds buffersEach buffers of bufferSize: one being read into, one being hashed,
// one being written.
const (
	bufferSize  = 1 << 20
	buffersEach = 3
)

var buffers = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}

// perform writes the output of one operation, durably but without a key.
func (r *run) perform(ctx context.Context, s *survey, i int, op *Operation, out *output, res *repo.PlanReservation) error {
	size := op.size()
	u, err := r.a.NewUpload(ctx, repo.UploadOptions{Key: op.Target, Size: size, Reservation: res})
	if err != nil {
		return err
	}
	out.op, out.upload, out.uncounted = i, u, r.uncounted(s, op)
	var naming hash.Hash
	if op.Target == "" && op.Naming.Algorithm.Name != digest.BLAKE3 {
		naming = op.Naming.Algorithm.New()
	}
	if err := r.copy(ctx, s, i, op, naming, written{r, u}); err != nil {
		return err
	}
	if u.Size() != size {
		return errors.New("output is not as long as its ranges") // a broken invariant, but no reason to stop the server
	}
	if op.Target != "" {
		out.key = op.Target
		return u.Finish(ctx, out.key, repo.Verified{})
	}
	if naming != nil {
		out.sum = naming.Sum(nil)
	} else {
		out.sum = u.BLAKE3()
	}
	out.key = op.Naming.key(out.sum)
	if err := r.a.May(out.key, "wW"); err != nil {
		return err // permissions below the namespace
	}
	if err := r.adopt(ctx, op.Naming, out); err != nil || out.upload == nil {
		return err
	}
	return u.Finish(ctx, out.key, repo.Verified{Algorithm: op.Naming.Algorithm.Name, Sum: out.sum})
}

// written counts what goes into an upload.
type written struct {
	r *run
	u *repo.Upload
}

func (w written) Write(p []byte) (int, error) {
	n, err := w.u.Write(p)
	w.r.written.Add(int64(n))
	return n, err
}

// copy reads the output of an operation into w, and into naming if that is not nil.
func (r *run) copy(ctx context.Context, s *survey, i int, op *Operation, naming hash.Hash, w io.Writer) error {
	src := newExtents(r, s, i, op)
	defer src.close()
	if op.size() <= bufferSize {
		return copySmall(ctx, src, naming, w)
	}
	return copyLarge(ctx, src, naming, w)
}

// copySmall uses one buffer, and does one step after the other.
func copySmall(ctx context.Context, src *extents, naming hash.Hash, w io.Writer) error {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	for {
		n, err := src.fill(ctx, *buffer)
		if n > 0 {
			if naming != nil {
				naming.Write((*buffer)[:n])
			}
			if _, err := w.Write((*buffer)[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// copyLarge reads, hashes and writes in parallel.
func copyLarge(ctx context.Context, src *extents, naming hash.Hash, w io.Writer) error {
	group, ctx := errgroup.WithContext(ctx)
	type chunk struct {
		buffer *[]byte
		n      int
	}
	free := make(chan *[]byte, buffersEach)
	for range buffersEach {
		free <- buffers.Get().(*[]byte)
	}
	read := make(chan chunk, buffersEach)
	hashed := read
	group.Go(func() error {
		defer close(read)
		for {
			var buffer *[]byte
			select {
			case buffer = <-free:
			case <-ctx.Done():
				return ctx.Err()
			}
			n, err := src.fill(ctx, *buffer)
			read <- chunk{buffer, n} // every buffer fits
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
		}
	})
	if naming != nil {
		hashed = make(chan chunk, buffersEach)
		group.Go(func() error {
			defer close(hashed)
			for c := range read {
				naming.Write((*c.buffer)[:c.n])
				hashed <- c
			}
			return nil
		})
	}
	group.Go(func() error {
		var failed error
		for c := range hashed {
			if failed == nil {
				_, failed = w.Write((*c.buffer)[:c.n])
			}
			free <- c.buffer
			if failed != nil {
				return failed // ends the reader, which ends the hasher; both chans take all buffers
			}
		}
		return nil
	})
	// The buffers are left to the collector when something failed: who holds one then is not worth knowing.
	if err := group.Wait(); err != nil {
		return err
	}
	for range buffersEach {
		buffers.Put(<-free)
	}
	return nil
}

// adopt checks whether an item with this content and name exists. If so, its bytes are hashed, and the item is kept if they are correct:
// the upload is discarded. Damaged bytes are replaced.
func (r *run) adopt(ctx context.Context, naming Naming, out *output) error {
	ref, right, err := r.standing(ctx, naming, out.key, out.sum)
	switch {
	case err != nil:
		return err
	case right:
		out.kept, out.existed = ref, true
		out.upload.Discard()
		out.upload = nil
	default:
		out.replace = ref
	}
	return nil
}

// standing returns the reference of the item under the key derived from sum, and whether its bytes are correct; empty if there is none.
func (r *run) standing(ctx context.Context, naming Naming, key string, sum []byte) (ref string, right bool, err error) {
	entry, err := r.own.Row(ctx, key)
	switch {
	case errors.Is(err, repo.ErrNotFound):
		return "", false, nil
	case err != nil:
		return "", false, err
	case entry.Dir:
		return "", false, r.own.Vacant(key)
	case entry.Item.Flags&(index.FlagDamaged|index.FlagMissing) != 0:
		return entry.Item.Ref, false, nil
	}
	got, err := r.own.Hash(ctx, key, naming.Algorithm)
	if err != nil && !errors.Is(err, repo.ErrCorrupt) && !errors.Is(err, repo.ErrNotFound) {
		return "", false, err
	}
	return entry.Item.Ref, err == nil && string(got) == string(sum), nil
}
