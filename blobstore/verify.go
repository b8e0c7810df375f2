package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/zeebo/blake3"

	"packhouse/blobstore/vfs"
	"packhouse/journal"
)

const (
	verifyBuffer = 256 << 10 // bytes read between two looks at ctx
	verifyAhead  = 2 << 20   // bytes on their way from the disk before those being hashed
	verifyStep   = 8 << 20   // bytes after which the page cache is told to let go of them
)

// Verify reads a whole blob and compares it with its trailer; a difference is ErrCorrupt. It returns what it read, so that the
// caller can compare it with the index; after a read error, what it read until then. pace, if not nil, is called before each read
// with its length in bytes, at most 256 KiB, and may wait; its error ends the reading and is returned unchanged. Bytes that were
// not in the page cache before are dropped from it afterwards, because a scrub would otherwise displace what clients read.
// Errors: ErrNotFound, ErrCorrupt, ctx.Err(), pace's, else I/O (which says nothing about the bytes).
func (s *Store) Verify(ctx context.Context, ref Ref, pace func(n int64) error) (Info, error) {
	if ref.inLog() {
		return s.verifySmall(ctx, ref, pace)
	}
	file, fileSize, err := s.open(ref)
	if err != nil {
		return Info{}, err
	}
	defer file.Close()
	cache := newPasser(file) // before anything is read
	defer cache.passed(0)
	_, recorded, err := readTrailer(file, fileSize, nil)
	if err != nil {
		return Info{}, err
	}
	hasher := s.hashers.Get().(*blake3.Hasher)
	defer func() {
		hasher.Reset()
		s.hashers.Put(hasher)
	}()
	blob := &Blob{file: file, size: recorded.Size}
	var found Info
	found.Size, err = hashAll(ctx, hasher, blob, cache, pace)
	hasher.Sum(found.BLAKE3[:0])
	if err != nil {
		return found, err
	}
	if found != recorded {
		return found, fmt.Errorf("%w: BLAKE3 %x, recorded %x", ErrCorrupt, found.BLAKE3, recorded.BLAKE3)
	}
	return found, nil
}

// verifySmall is Verify of a blob that lies in the log. The log says itself whether its bytes are right; what they must be, the caller knows.
func (s *Store) verifySmall(ctx context.Context, ref Ref, pace func(n int64) error) (Info, error) {
	if err := ctx.Err(); err != nil {
		return Info{}, err
	}
	if at, ok := journal.ParseRef(string(ref)); ok && pace != nil {
		if err := pace(at.Length); err != nil {
			return Info{}, err
		}
	}
	blob, err := s.openSmall(ref, -1, false)
	if err != nil {
		return Info{}, err
	}
	defer blob.Close()
	return Info{Size: blob.size, BLAKE3: blake3.Sum256(blob.bytes)}, nil
}

func hashAll(ctx context.Context, hasher io.Writer, blob *Blob, cache *passer, pace func(n int64) error) (size int64, err error) {
	buffer := make([]byte, min(max(blob.size, 1), verifyBuffer))
	ahead := int64(0)
	for size < blob.size {
		if err := ctx.Err(); err != nil {
			return size, err
		}
		if pace != nil {
			if err := pace(min(int64(len(buffer)), blob.size-size)); err != nil {
				return size, err
			}
		}
		blob.ReadAhead(ahead, size+verifyAhead-ahead)
		ahead = size + verifyAhead
		n, err := blob.ReadAt(buffer, size)
		hasher.Write(buffer[:n]) // never fails
		size += int64(n)
		if size-cache.gone >= verifyStep {
			cache.passed(size)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return size, err
		}
	}
	return size, nil
}

// passer reads a file once from start to end, and leaves nothing of it in the page cache that was not there.
type passer struct {
	file vfs.Adviser // nil: the cache is left alone
	gone int64       // bytes let go of
}

func newPasser(file vfs.File) *passer {
	adviser, ok := file.(vfs.Adviser)
	if !ok {
		return &passer{}
	}
	if cached, err := adviser.Cached(); cached || err != nil {
		return &passer{} // clients read it, or just wrote it; or nobody can say
	}
	return &passer{file: adviser}
}

// passed lets go of what lies before end; 0: of the whole file.
func (p *passer) passed(end int64) {
	if p.file == nil {
		return
	}
	from, n := p.gone, end-p.gone
	if end == 0 {
		from, n = 0, 0
	}
	_ = p.file.DontNeed(from, n) // a hint
	p.gone = end
}

// Walk calls fn for every committed blob with its label, in no particular order; for rebuilding an index. For a file whose trailer
// cannot be read, err is set to ErrCorrupt (or an I/O error). Blobs that are added or removed meanwhile may or may not be
// included. An error of fn ends the walk and is returned. The names of one shard are held in memory; fn may keep label.
func (s *Store) Walk(ctx context.Context, fn func(ref Ref, label []byte, info Info, err error) error) error {
	buffer := make([]byte, maxTrailer)
	for shard := range 256 {
		if err := s.walkShard(ctx, byte(shard), buffer, fn); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) walkShard(ctx context.Context, shard byte, buffer []byte, fn func(Ref, []byte, Info, error) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := s.fs.ReadDir(s.shardDir(shard))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // see MissingShards
	}
	if err != nil {
		return wrap("walk blobs", err)
	}
	for _, entry := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		id, ok := parseName(entry.Name())
		if !ok || id.shard() != shard {
			continue
		}
		label, info, err := s.labelInto(id, buffer)
		if errors.Is(err, ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			continue // removed since the directory was read
		}
		if err := fn(id.ref(), label, info, err); err != nil {
			return err
		}
	}
	return nil
}

// labelInto is Label with a buffer to read into; the label is a copy.
func (s *Store) labelInto(id blobID, buffer []byte) ([]byte, Info, error) {
	file, fileSize, err := s.open(id.ref())
	if err != nil {
		return nil, Info{}, err
	}
	defer file.Close()
	label, info, err := readTrailer(file, fileSize, buffer)
	return append([]byte(nil), label...), info, err
}
