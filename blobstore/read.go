package blobstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"packhouse/blobstore/vfs"
	"packhouse/journal"
)

// Blob is a committed blob, open for reading. ReadAt is safe for concurrent use.
type Blob struct {
	file   vfs.File // nil: it lies in memory
	bytes  []byte
	buffer *buffer // in which bytes lie; nil: in none
	closed bool    // and so bytes may be those of another blob
	size   int64   // of the payload
}

// Open opens a blob: ErrNotFound, or ErrCorrupt when the file is not as long as its size and a trailer.
// size is the payload size the index recorded; negative means: read it from the trailer.
func (s *Store) Open(ref Ref, size int64) (*Blob, error) {
	if ref.inLog() {
		return s.openSmall(ref, size, false)
	}
	file, fileSize, err := s.open(ref)
	if err != nil {
		return nil, err
	}
	if size < 0 {
		_, info, err := readTrailer(file, fileSize, nil)
		if err != nil {
			_ = file.Close()
			return nil, err
		}
		size = info.Size
	}
	if rest := fileSize - size; rest < fixedSize || rest > maxTrailer {
		_ = file.Close()
		return nil, fmt.Errorf("%w: file of %d bytes for a blob of %d", ErrCorrupt, fileSize, size)
	}
	return &Blob{file: file, size: size}, nil
}

// OpenAsIs opens what exists of a blob with size bytes of payload: a truncated file gives a shorter Blob. Errors: ErrNotFound,
// else I/O.
func (s *Store) OpenAsIs(ref Ref, size int64) (*Blob, error) {
	if ref.inLog() {
		return s.openSmall(ref, size, true)
	}
	file, fileSize, err := s.open(ref)
	if err != nil {
		return nil, err
	}
	return &Blob{file: file, size: min(size, fileSize)}, nil
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
	blob.bytes, blob.size = b, int64(len(b))
	return blob, nil
}

// Label returns what the trailer of a blob contains: the label given to Commit, and size and BLAKE3 at that time.
// Errors: ErrNotFound, ErrCorrupt, else I/O.
func (s *Store) Label(ref Ref) (label []byte, info Info, err error) {
	file, fileSize, err := s.open(ref)
	if err != nil {
		return nil, Info{}, err
	}
	defer file.Close()
	return readTrailer(file, fileSize, nil)
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
	if errors.Is(err, fs.ErrPermission) {
		return nil, 0, &DirError{BlobsDir + "/" + shardName(id.shard()), vfs.WithoutPath(err)} // its files are all of one mode
	}
	if err != nil {
		return nil, 0, wrap("open blob", err)
	}
	info, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return nil, 0, wrap("open blob", err)
	}
	return file, info.Size(), nil
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
func (b *Blob) Size() int64 { return b.size }

// ReadAt reads payload bytes only; io.EOF at the payload's end.
func (b *Blob) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("%w: offset %d", ErrRange, off)
	}
	if off >= b.size {
		return 0, io.EOF
	}
	if b.file == nil {
		if b.closed {
			return 0, errClosed
		}
		n := copy(p, b.bytes[off:])
		if n < len(p) {
			return n, io.EOF
		}
		return n, nil
	}
	want := min(int64(len(p)), b.size-off)
	n, err := b.file.ReadAt(p[:want], off)
	switch {
	case int64(n) == want && want == int64(len(p)):
		return n, nil
	case int64(n) == want:
		return n, io.EOF
	case errors.Is(err, io.EOF):
		return n, fmt.Errorf("%w: file ends at %d", ErrCorrupt, off+int64(n))
	}
	return n, wrap("read blob", err)
}

// Section returns a reader of n payload bytes from off, in a form that net/http can
// send by sendfile (an *io.LimitedReader over the *os.File; a further io.LimitReader or io.CopyN
// around it would undo that). off+n beyond the end is ErrRange.
// Only one Section of a Blob may be in use at a time; it shares the file's position.
func (b *Blob) Section(off, n int64) (io.Reader, error) {
	if off < 0 || n < 0 || off > b.size || n > b.size-off {
		return nil, fmt.Errorf("%w: %d bytes from %d of a blob of %d", ErrRange, n, off, b.size)
	}
	if b.file == nil {
		if b.closed {
			return nil, errClosed
		}
		return bytes.NewReader(b.bytes[off : off+n]), nil
	}
	file, ok := b.file.(vfs.OSFiler)
	if !ok {
		return io.NewSectionReader(b, off, n), nil
	}
	if _, err := file.OSFile().Seek(off, io.SeekStart); err != nil {
		return nil, wrap("read blob", err)
	}
	return &io.LimitedReader{R: file.OSFile(), N: n}, nil
}

// ReadAhead asks the system to start reading n payload bytes from off, and does not wait. It is a hint, which not every system
// supports, and safe for concurrent use.
func (b *Blob) ReadAhead(off, n int64) {
	if file, ok := b.file.(vfs.Adviser); ok && off < b.size {
		_ = file.WillNeed(off, min(n, b.size-off)) // what is wrong there, ReadAt tells
	}
}

// errClosed is of a blob in memory: a file says it by itself.
var errClosed = fmt.Errorf("read blob: %w", fs.ErrClosed)

// Close ends reading; a Section ends with it, and must not be used any more.
func (b *Blob) Close() error {
	if b.file == nil {
		b.closed = true
		if b.buffer != nil {
			b.buffer.give()
			b.buffer = nil
		}
		return nil
	}
	if err := b.file.Close(); err != nil {
		return wrap("close blob", err)
	}
	return nil
}
