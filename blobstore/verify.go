package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
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

// Check says what Verify compares a blob with.
type Check struct {
	Want Info // what is recorded of it; what is not known of that is taken from what is stored with the blob
	// Digest and Sum, if not nil, are what the bytes must have where their BLAKE3 is not known: nothing else decides then.
	Digest hash.Hash
	Sum    []byte
	// Label gives the label for checksums that are made where there are none, or none that can be read; nil: none are made.
	Label func() ([]byte, error)
	// Pace, if not nil, is called before each read with its length in bytes, at most 256 KiB, and may wait; its error ends the reading.
	Pace func(n int64) error
}

// Verified is what Verify has read.
type Verified struct {
	Info
	Sums []byte // the checksums of its blocks, in the form of their file, of a blob in a file that is sound; else nil
	Made bool   // its checksums were missing or damaged, and were written
}

// Verify reads a whole blob and compares it with what is recorded of it; a difference is ErrCorrupt. The BLAKE3 decides: that
// of Check.Want, or, where that is not known, Check.Digest, or the BLAKE3 that is stored with the blob; if there is none
// either, the blob is what it is. Damage of its label, its trailer or its checksums alone is no error: the checksums are made
// anew. After a read error Verified has what was read until then. Bytes that were not in the page cache before are dropped from
// it afterwards, because a scrub would otherwise displace what clients read. Errors: ErrNotFound, ErrCorrupt, ErrNewer,
// ctx.Err(), that of Pace, as it is, those of Create if the checksums cannot be written (with Verified.Sums all the same), else
// I/O (which says nothing about the bytes).
func (s *Store) Verify(ctx context.Context, ref Ref, c Check) (Verified, error) {
	if ref.inLog() {
		return s.verifySmall(ctx, ref, c)
	}
	b := &Blob{s: s, info: c.Want}
	defer func() { _ = b.Close() }() // it was only read
	if err := b.openFiles(ref, true); err != nil {
		return Verified{}, err
	}
	cache := newPasser(b.file) // before anything of it is read
	defer cache.passed(0)
	if err := b.begin(ref, true); err != nil {
		return Verified{Info: Info{Size: b.fileSize}}, err
	}
	hasher := s.hashers.Get().(*blake3.Hasher)
	defer func() {
		hasher.Reset()
		s.hashers.Put(hasher)
	}()
	var blocks blockSummer
	var found Verified
	sinks := []io.Writer{hasher, &blocks}
	byDigest := c.Digest != nil && !c.Want.Hashed()
	if byDigest {
		sinks = append(sinks, c.Digest)
	}
	size, err := hashAll(ctx, io.MultiWriter(sinks...), b, cache, c.Pace)
	found.Size = size
	hasher.Sum(found.BLAKE3[:0])
	if err != nil {
		return found, err
	}
	switch {
	case byDigest:
		if got := c.Digest.Sum(nil); !bytes.Equal(got, c.Sum) {
			return found, fmt.Errorf("%w: digest %x, recorded %x", ErrCorrupt, got, c.Sum)
		}
	case b.info.Hashed() && found.BLAKE3 != b.info.BLAKE3:
		return found, fmt.Errorf("%w: BLAKE3 %x, recorded %x", ErrCorrupt, found.BLAKE3, b.info.BLAKE3)
	}
	return found, s.keepSums(ref, b.sums, blocks.all(), &found, c.Label)
}

// keepSums sets the checksums of a blob that is sound, and writes them if those that it has, nil for none, are not these.
func (s *Store) keepSums(ref Ref, has *sumsReader, sums []byte, found *Verified, label func() ([]byte, error)) error {
	h := header{info: found.Info}
	if ref.trailed() {
		h.flags = flagTrailer
	}
	sound := has != nil && has.header.info == found.Info && has.all(sums) == nil
	if has != nil {
		h.label = has.header.label
	}
	write := !sound && label != nil
	if write && has == nil {
		var err error
		if h.label, err = label(); err != nil {
			return err
		}
	}
	found.Sums = appendSums(nil, h, sums)
	if !write {
		return nil
	}
	id, err := ref.id()
	if err == nil {
		err = s.replaceSums(id, found.Sums)
	}
	found.Made = err == nil
	return err
}

// verifySmall is Verify of a blob that lies in the log. The log says itself whether its bytes are right; what they must be, the caller knows.
func (s *Store) verifySmall(ctx context.Context, ref Ref, c Check) (Verified, error) {
	if err := ctx.Err(); err != nil {
		return Verified{}, err
	}
	if at, ok := journal.ParseRef(string(ref)); ok && c.Pace != nil {
		if err := c.Pace(at.Length); err != nil {
			return Verified{}, err
		}
	}
	blob, err := s.openSmall(ref, -1, false)
	if err != nil {
		return Verified{}, err
	}
	defer blob.Close()
	found := Verified{Info: Info{Size: blob.Size(), BLAKE3: blake3.Sum256(blob.bytes)}}
	if c.Want.Size >= 0 && found.Size != c.Want.Size || c.Want.Hashed() && found.BLAKE3 != c.Want.BLAKE3 {
		return found, fmt.Errorf("%w: %d bytes, BLAKE3 %x; recorded %d bytes, BLAKE3 %x",
			ErrCorrupt, found.Size, found.BLAKE3, c.Want.Size, c.Want.BLAKE3)
	}
	return found, nil
}

func hashAll(ctx context.Context, hasher io.Writer, blob *Blob, cache *passer, pace func(n int64) error) (size int64, err error) {
	buffer := make([]byte, min(max(blob.info.Size, 1), verifyBuffer))
	ahead := int64(0)
	for size < blob.info.Size {
		if err := ctx.Err(); err != nil {
			return size, err
		}
		if pace != nil {
			if err := pace(min(int64(len(buffer)), blob.info.Size-size)); err != nil {
				return size, err
			}
		}
		blob.ReadAhead(ahead, size+verifyAhead-ahead)
		ahead = size + verifyAhead
		n, err := blob.read(buffer[:min(int64(len(buffer)), blob.info.Size-size)], size)
		hasher.Write(buffer[:n]) // never fails
		size += int64(n)
		if size-cache.gone >= verifyStep {
			cache.passed(size)
		}
		if err != nil {
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

// Walk calls fn for every committed blob with its label, in no particular order; for rebuilding an index. For a blob whose
// label cannot be read, err is set to ErrCorrupt, ErrNewer or an I/O error, and ref is a guess where nothing tells the format
// of its file; and so is err for a blob that has its marker in incoming/ and is not what is recorded with it: its upload was
// interrupted, most likely. Blobs that are added or removed meanwhile may or may not be included. An error of fn ends the walk
// and is returned. The names of one shard and of the markers are held in memory; fn may keep label.
func (s *Store) Walk(ctx context.Context, fn func(ref Ref, label []byte, info Info, err error) error) error {
	entries, err := s.fs.ReadDir(incomingDir(s.dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return wrap("walk blobs", err)
	}
	w := walk{s: s, buffer: make([]byte, maxTrailer), marked: make(map[blobID]bool), fn: fn}
	for _, entry := range entries {
		if id, ok := parseName(entry.Name()); ok {
			w.marked[id] = true
		}
	}
	for shard := range 256 {
		if err := w.shard(ctx, byte(shard)); err != nil {
			return err
		}
	}
	return nil
}

type walk struct {
	s      *Store
	buffer []byte          // for readTrailer
	marked map[blobID]bool // have a marker
	fn     func(Ref, []byte, Info, error) error
}

func (w *walk) shard(ctx context.Context, shard byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := w.s.fs.ReadDir(w.s.shardDir(shard))
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
		ref, label, info, err := w.blob(ctx, id)
		if errors.Is(err, ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			continue // removed since the directory was read
		}
		if err := w.fn(ref, label, info, err); err != nil {
			return err
		}
	}
	return nil
}

// blob finds out what a file in a shard is.
func (w *walk) blob(ctx context.Context, id blobID) (ref Ref, label []byte, info Info, err error) {
	ref = id.refTo(kindFile)
	sums, err := w.s.openSums(id)
	switch {
	case err == nil:
		if sums.header.flags&flagTrailer != 0 {
			ref = id.refTo(kindTrailed)
		}
		sums.close()
	case errors.Is(err, ErrNewer):
		return ref, nil, Info{}, err
	default:
		// Only a file of format 1 says itself what it is.
		file, fileSize, err := w.s.open(ref)
		if err != nil {
			return ref, nil, Info{}, err
		}
		defer file.Close()
		if _, _, err := readTrailer(file, fileSize, w.buffer); err == nil || errors.Is(err, ErrNewer) {
			ref = id.refTo(kindTrailed)
		}
	}
	label, info, err = w.s.label(ref, w.buffer)
	if err == nil && w.marked[id] {
		_, err = w.s.Verify(ctx, ref, Check{Want: info})
	}
	return ref, bytes.Clone(label), info, err
}
