package blobstore

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"sync"

	"packhouse/blobstore/vfs"
	"packhouse/journal"
)

// Blob is a committed blob, open for reading. ReadAt is safe for concurrent use. Of a blob in a file whose checksums are known, every
// block is checked before any of its bytes are handed out.
type Blob struct {
	s     *Store
	file  vfs.File // nil: it lies in memory
	info  Info     // what the payload must be; without BLAKE3 where nobody knows that
	check bool     // against the checksums of blocks; else as it lies, but for a Section of all of it

	bytes  []byte  // of a blob in memory
	buffer *buffer // in which they lie; nil: in none
	closed bool    // and so bytes may be those of another blob

	fileSize int64

	// recheck is what OnDoubt was given; nil: what does not fit is damaged.
	recheck func() (sums []byte, err error)

	sumsMu  sync.Mutex  // held over a look at sums
	sums    *sumsReader // nil: they are missing or damaged; guarded by sumsMu
	sumsErr error       // why, when the blob was opened

	partMu sync.Mutex // held while part is filled and read
	part   *[]byte    // a block that was read for a part of it, checked; nil: none; guarded by partMu
	partOf int64      // which one
}

// Open opens a blob. want is what the caller has recorded of it: a size that the blob does not have is ErrCorrupt. What is not known is
// taken from what is stored with the blob. Errors: ErrNotFound, ErrCorrupt, ErrNewer, else I/O, which says nothing of the blob.
func (s *Store) Open(ref Ref, want Info) (*Blob, error) {
	if ref.inLog() {
		return s.openSmall(ref, want.Size, false)
	}
	b := &Blob{s: s, info: want}
	err := b.openFiles(ref, !s.unchecked)
	if err == nil {
		err = b.begin(ref, !s.unchecked)
	}
	if err != nil {
		_ = b.Close()
		return nil, err
	}
	return b, nil
}

// openFiles opens the file and the checksums, if they are to be used. They come first: while a blob is removed they are there for longer.
func (b *Blob) openFiles(ref Ref, checked bool) error {
	id, err := ref.id()
	if err != nil {
		return err
	}
	if checked || b.info.Size < 0 {
		b.sums, b.sumsErr = b.s.openSums(id)
	}
	if err := b.sumsErr; err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errSums) {
		return err
	}
	b.file, b.fileSize, err = b.s.open(ref)
	return err
}

// begin finds out what the payload must be, and how it can be checked, if it is to be.
func (b *Blob) begin(ref Ref, checked bool) error {
	if b.sums != nil && b.contradicts(ref, b.sums.header) {
		b.sums.close()
		b.sums, b.sumsErr = nil, errSums // another blob's
	}
	if b.sums != nil {
		b.info = b.sums.header.info
	} else if err := b.beginWithout(ref, checked); err != nil {
		return err
	}
	// Checksums that were there, or must be, are made anew when they are needed; those of other blobs by the next scrub.
	b.check = checked && (b.sums != nil || errors.Is(b.sumsErr, errSums) || !ref.trailed() && b.info.Hashed())
	return b.fits(ref)
}

// contradicts tells whether checksums are not those of the blob.
func (b *Blob) contradicts(ref Ref, h header) bool {
	return ref.trailed() != (h.flags&flagTrailer != 0) ||
		b.info.Size >= 0 && b.info.Size != h.info.Size ||
		b.info.Hashed() && b.info.BLAKE3 != h.info.BLAKE3
}

// beginWithout is for a blob whose checksums are not known: what its file says of itself. A trailer that is damaged does not
// count where the caller knows what the payload must be.
func (b *Blob) beginWithout(ref Ref, checked bool) error {
	if !ref.trailed() {
		if b.info.Size < 0 {
			b.info.Size = b.fileSize
		}
		return nil
	}
	if !checked && b.info.Size >= 0 {
		return nil
	}
	_, found, err := readTrailer(b.file, b.fileSize, nil)
	switch {
	case err != nil && (b.info.Size < 0 || !errors.Is(err, ErrCorrupt)):
		return err
	case err != nil:
		return nil
	case b.info.Size < 0:
		b.info = found
	case b.info.Size != found.Size:
		return fmt.Errorf("%w: payload of %d bytes for a blob of %d", ErrCorrupt, found.Size, b.info.Size)
	case !b.info.Hashed():
		b.info.BLAKE3 = found.BLAKE3
	}
	return nil
}

// fits wants the file to be as long as the payload and what belongs to it.
func (b *Blob) fits(ref Ref) error {
	least, most := int64(0), int64(0)
	if ref.trailed() {
		least, most = fixedSize, maxTrailer
	}
	if rest := b.fileSize - b.info.Size; rest < least || rest > most {
		return fmt.Errorf("%w: file of %d bytes for a blob of %d", ErrCorrupt, b.fileSize, b.info.Size)
	}
	return nil
}

// OnDoubt sets what decides when a block is not what its checksum says, or when there is no usable checksum of it: recheck reads all of
// the blob and compares its BLAKE3, as a scrub does. If the blob is sound, recheck returns its checksums (Verified.Sums), else an error,
// which then is that of the read. It is called from reads, perhaps by several at once, and before the first read.
func (b *Blob) OnDoubt(recheck func() (sums []byte, err error)) { b.recheck = recheck }

// Checked tells whether every block has a checksum that it is compared with.
func (b *Blob) Checked() bool {
	b.sumsMu.Lock()
	defer b.sumsMu.Unlock()
	return b.check && b.sums != nil
}

// Unproven tells whether ranges of the blob are read as they lie, although reads are to be checked: it has no checksums yet. Verify makes them.
func (b *Blob) Unproven() bool { return b.file != nil && !b.s.unchecked && !b.Checked() }

// OpenAsIs opens what exists of a blob with size bytes of payload, and checks nothing: a truncated file gives a shorter Blob. Errors:
// ErrNotFound, ErrNewer, else I/O.
func (s *Store) OpenAsIs(ref Ref, size int64) (*Blob, error) {
	if ref.inLog() {
		return s.openSmall(ref, size, true)
	}
	file, fileSize, err := s.open(ref)
	if err != nil {
		return nil, err
	}
	return &Blob{s: s, file: file, info: Info{Size: min(size, fileSize)}}, nil
}

// openSmall reads a blob that lies in the log, whole: it is checked before any of it is used.
func (s *Store) openSmall(ref Ref, size int64, unchecked bool) (*Blob, error) {
	if s.log == nil {
		return nil, ErrNotFound
	}
	blob := &Blob{}
	var into []byte
	if place, ok := journal.ParseRef(string(ref)); ok {
		if blob.buffer = takeBuffer(place.Length); blob.buffer != nil {
			into = blob.buffer.bytes
		}
	}
	b, err := s.log.Payload(string(ref), unchecked, into)
	if err == nil && size >= 0 && int64(len(b)) != size {
		err = fmt.Errorf("%w: %d bytes in the log for a blob of %d", ErrCorrupt, len(b), size)
	}
	if err != nil {
		_ = blob.Close() // nothing is open
		return nil, err
	}
	blob.bytes, blob.info.Size = b, int64(len(b))
	return blob, nil
}

// Label returns the label given to Commit, and size and BLAKE3 at that time. Errors: ErrNotFound, ErrNewer, ErrCorrupt, also if what
// has the label is missing, else I/O.
func (s *Store) Label(ref Ref) (label []byte, info Info, err error) {
	return s.label(ref, nil)
}

// label is Label with a buffer to read into, see readTrailer.
func (s *Store) label(ref Ref, buffer []byte) (label []byte, info Info, err error) {
	b := &Blob{s: s, info: Info{Size: -1}}
	defer func() { _ = b.Close() }() // it was only read
	if err = b.openFiles(ref, true); err == nil {
		err = b.begin(ref, true)
	}
	switch {
	case err != nil:
		return nil, Info{}, err
	case b.sums != nil:
		return b.sums.header.label, b.info, nil
	case ref.trailed():
		return readTrailer(b.file, b.fileSize, buffer)
	}
	return nil, Info{}, fmt.Errorf("%w: no label", ErrCorrupt)
}

func (s *Store) open(ref Ref) (file vfs.File, fileSize int64, err error) {
	id, err := ref.id()
	if err != nil {
		return nil, 0, err
	}
	file, err = s.fs.Open(s.blobPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, ErrNotFound
	}
	if err != nil {
		return nil, 0, openError("open blob", id, err)
	}
	info, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return nil, 0, wrap("open blob", err)
	}
	return file, info.Size(), nil
}

// openError is of a file in a shard.
func openError(op string, id blobID, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return &DirError{BlobsDir + "/" + shardName(id.shard()), vfs.WithoutPath(err)} // its files are all of one mode
	}
	return wrap(op, err)
}

// readTrailer reads with one call; buffer is used if it has maxTrailer bytes, and then holds the label.
func readTrailer(file io.ReaderAt, fileSize int64, buffer []byte) (label []byte, info Info, err error) {
	if len(buffer) < maxTrailer {
		buffer = make([]byte, min(fileSize, maxTrailer))
	}
	tail := buffer[:min(fileSize, maxTrailer)]
	n, err := file.ReadAt(tail, fileSize-int64(len(tail)))
	if n < len(tail) {
		if errors.Is(err, io.EOF) {
			return nil, Info{}, fmt.Errorf("%w: file shrinks", ErrCorrupt)
		}
		return nil, Info{}, wrap("read trailer", err)
	}
	return parseTrailer(tail, fileSize)
}

// Size is the payload's, in bytes.
func (b *Blob) Size() int64 { return b.info.Size }

// ReadAt reads payload bytes only; io.EOF at the payload's end. What it has read before a block that is damaged, or cannot be read, it
// returns with the error.
func (b *Blob) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("%w: offset %d", ErrRange, off)
	}
	if off >= b.info.Size {
		return 0, io.EOF
	}
	end := min(off+int64(len(p)), b.info.Size)
	switch {
	case b.file == nil && b.closed:
		return 0, errClosed
	case b.file == nil:
		n = copy(p, b.bytes[off:])
	case b.check:
		n, err = b.readChecked(p, off, end)
	default:
		n, err = b.read(p[:end-off], off)
	}
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// read fills p with payload bytes as they lie.
func (b *Blob) read(p []byte, off int64) (int, error) {
	n, err := b.file.ReadAt(p, off)
	switch {
	case n == len(p):
		return n, nil
	case errors.Is(err, io.EOF):
		return n, fmt.Errorf("%w: file ends at %d", ErrCorrupt, off+int64(n))
	}
	return n, wrap("read blob", err)
}

// readChecked reads from off to end: whole blocks to where they belong, and one of which only a part is wanted beside.
func (b *Blob) readChecked(p []byte, off, end int64) (n int, err error) {
	for off < end {
		block := off / blockSize
		start, next := block*blockSize, min((block+1)*blockSize, b.info.Size)
		m := 0
		if off == start && end >= next {
			whole := end
			if end < b.info.Size {
				whole = end / blockSize * blockSize
			}
			m, err = b.readBlocks(p[n:int64(n)+whole-off], block)
		} else {
			m, err = b.readPart(p[n:int64(n)+min(end, next)-off], block, off-start)
		}
		n += m
		if err != nil {
			return n, err
		}
		off += int64(m)
	}
	return n, nil
}

// readBlocks fills p with blocks from first on, and returns how many of its bytes are right.
func (b *Blob) readBlocks(p []byte, first int64) (int, error) {
	n, err := b.read(p, first*blockSize)
	for done := 0; done < len(p); done += blockSize {
		data := p[done:min(done+blockSize, len(p))]
		if done+len(data) > n {
			return done, err
		}
		if err := b.checkBlock(first+int64(done/blockSize), data); err != nil {
			return done, err
		}
	}
	return len(p), nil
}

// readPart fills p with bytes of a block, which is read and checked once while nothing is read of others in the same way.
func (b *Blob) readPart(p []byte, block, off int64) (int, error) {
	b.partMu.Lock()
	defer b.partMu.Unlock()
	if b.part == nil || b.partOf != block {
		buffer := b.part
		if b.part = nil; buffer == nil {
			buffer = b.s.blocks.Get().(*[]byte)
		}
		data := (*buffer)[:min(blockSize, b.info.Size-block*blockSize)]
		if _, err := b.readBlocks(data, block); err != nil {
			b.s.blocks.Put(buffer)
			return 0, err
		}
		b.part, b.partOf = buffer, block
	}
	return copy(p, (*b.part)[off:]), nil
}

// checkBlock compares the bytes of a block with its checksum. If they do not fit, and recheck finds the blob sound, data is read again.
func (b *Blob) checkBlock(block int64, data []byte) error {
	err := b.compare(block, data)
	if err == nil || b.recheck == nil {
		return err
	}
	fresh, recheckErr := b.recheck()
	if recheckErr != nil {
		return recheckErr
	}
	sums, err := newSumsReader(fresh, nil, nil)
	if err != nil {
		return err
	}
	b.sumsMu.Lock()
	if b.sums != nil {
		b.sums.close()
	}
	b.sums = sums
	b.sumsMu.Unlock()
	if _, err := b.read(data, block*blockSize); err != nil {
		return err
	}
	return b.compare(block, data)
}

func (b *Blob) compare(block int64, data []byte) error {
	want, err := b.sum(block)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if got := crc32.Checksum(data, castagnoli); got != want {
		return fmt.Errorf("%w: block at %d: crc32c %08x, recorded %08x", ErrCorrupt, block*blockSize, got, want)
	}
	return nil
}

func (b *Blob) sum(block int64) (uint32, error) {
	b.sumsMu.Lock()
	defer b.sumsMu.Unlock()
	if b.sums == nil {
		return 0, errSums
	}
	return b.sums.sum(block)
}

// ReadAhead asks the system to start reading what a read of n payload bytes from off needs, and does not wait. It is a hint, which not
// every system supports, and safe for concurrent use.
func (b *Blob) ReadAhead(off, n int64) {
	file, ok := b.file.(vfs.Adviser)
	if !ok || off >= b.info.Size || n <= 0 {
		return
	}
	end := min(off+n, b.info.Size)
	if b.check {
		off, end = off/blockSize*blockSize, min((end+blockSize-1)/blockSize*blockSize, b.info.Size)
	}
	_ = file.WillNeed(off, end-off) // what is wrong there, ReadAt tells
}

// errClosed is of a blob in memory: a file says it by itself.
var errClosed = fmt.Errorf("read blob: %w", fs.ErrClosed)

// Close ends reading; a Section ends with it, and must not be used any more.
func (b *Blob) Close() error {
	b.sumsMu.Lock()
	if b.sums != nil {
		b.sums.close()
	}
	b.sumsMu.Unlock()
	if b.file == nil {
		b.closed = true
		if b.buffer != nil {
			b.buffer.give()
			b.buffer = nil
		}
		return nil
	}
	b.partMu.Lock()
	if b.part != nil {
		b.s.blocks.Put(b.part)
		b.part = nil
	}
	b.partMu.Unlock()
	if err := b.file.Close(); err != nil {
		return wrap("close blob", err)
	}
	return nil
}
