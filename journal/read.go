package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"sort"
	"sync"
)

// BufferSize is the capacity that ReadPayload wants for a payload of so many bytes.
func BufferSize(length int64) int64 { return entryPrefix(length) + length }

// ReadPayload reads a payload whole and verifies it: at and length are what Group.Payload was given and returned. The
// bytes are in buffer if it has the capacity that BufferSize says, else in a new one. Errors: as OpenPayload.
func (l *Log) ReadPayload(at Position, length int64, buffer []byte) ([]byte, error) {
	in, err := l.segmentOf(at, length)
	if err != nil {
		return nil, err
	}
	defer in.release()
	prefix := entryPrefix(length)
	if int64(cap(buffer)) < prefix+length {
		buffer = make([]byte, prefix+length)
	}
	buffer = buffer[:prefix+length]
	if err := in.readFull(buffer, int64(at-in.first)-prefix); err != nil {
		return nil, err
	}
	if err := in.checkLength(buffer, at, length); err != nil {
		return nil, err
	}
	body := buffer[prefix:]
	for off := int64(0); off < length; off += blockSize {
		sum := binary.LittleEndian.Uint32(buffer[4+off/blockSize*4:])
		if err := in.checkBlock(body[off:min(off+blockSize, length)], at+Position(off), sum); err != nil {
			return nil, err
		}
	}
	return body, nil
}

// PayloadReader reads a payload, whole or by ranges. Its methods are safe for concurrent use, and it stays
// readable when its segment is removed.
type PayloadReader struct {
	in     *openSegment
	at     Position
	length int64
	sums   []byte

	once sync.Once
}

// OpenPayload opens a payload; its length and sums are read at once. It must be closed. Errors: ErrRemoved, ErrBeyondEnd,
// ErrCorrupt (a *DamageError; also when there is no payload of that length at the position), ErrVersion, ErrClosed, else
// I/O.
func (l *Log) OpenPayload(at Position, length int64) (*PayloadReader, error) {
	in, err := l.segmentOf(at, length)
	if err != nil {
		return nil, err
	}
	prefix := make([]byte, entryPrefix(length))
	if err = in.readFull(prefix, int64(at-in.first)-int64(len(prefix))); err == nil {
		err = in.checkLength(prefix, at, length)
	}
	if err != nil {
		in.release()
		return nil, err
	}
	return &PayloadReader{in: in, at: at, length: length, sums: prefix[4:]}, nil
}

// Size is the payload's length in bytes.
func (p *PayloadReader) Size() int64 { return p.length }

// Close lets go of the segment. It may be called twice.
func (p *PayloadReader) Close() error {
	p.once.Do(p.in.release)
	return nil
}

// blocks are buffers for blocks of which a part is wanted.
var blocks = sync.Pool{New: func() any { return new([blockSize]byte) }}

// ReadAt reads and verifies the blocks that hold the bytes asked for, and fills b with these. What it returns with an error
// is verified, too.
func (p *PayloadReader) ReadAt(b []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("read a payload from %d", off)
	}
	for n < len(b) && off < p.length {
		block := off / blockSize * blockSize
		size := min(blockSize, p.length-block)
		var copied int
		if off == block && int64(len(b)-n) >= size {
			copied, err = int(size), p.readBlock(b[n:n+int(size)], block)
		} else {
			copied, err = p.readPart(b[n:], off, block, size)
		}
		if err != nil {
			return n, err
		}
		n += copied
		off += int64(copied)
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// readPart copies what is wanted of a block.
func (p *PayloadReader) readPart(b []byte, off, block, size int64) (int, error) {
	buffer := blocks.Get().(*[blockSize]byte)
	defer blocks.Put(buffer)
	if err := p.readBlock(buffer[:size], block); err != nil {
		return 0, err
	}
	return copy(b, buffer[off-block:size]), nil
}

// readBlock reads and verifies a block.
func (p *PayloadReader) readBlock(b []byte, block int64) error {
	at := p.at + Position(block)
	if err := p.in.readFull(b, int64(at-p.in.first)); err != nil {
		return err
	}
	return p.in.checkBlock(b, at, binary.LittleEndian.Uint32(p.sums[block/blockSize*4:]))
}

// segmentOf opens the segment of a payload, which is all in it, and durable.
func (l *Log) segmentOf(at Position, length int64) (*openSegment, error) {
	if length < 0 || length > maxSegmentSize || at < 0 {
		return nil, fmt.Errorf("%w: %d bytes at %d", ErrPosition, length, at)
	}
	if int64(at) > l.durable.Load()-length {
		return nil, fmt.Errorf("%w: %d bytes at %d", ErrBeyondEnd, length, at)
	}
	in, err := l.segmentAt(at)
	if err != nil {
		return nil, err
	}
	least := in.first + segmentHeaderSize + recordHeaderSize + Position(entryPrefix(length))
	if at < least || at+Position(length) > in.end() {
		in.release()
		return nil, &DamageError{File: in.name, Offset: int64(at - in.first), What: fmt.Sprintf("no payload of %d bytes can be there", length)}
	}
	return in, nil
}

// segmentAt opens the segment that covers a position.
func (l *Log) segmentAt(at Position) (*openSegment, error) {
	all := *l.segments.Load()
	i := sort.Search(len(all), func(i int) bool { return all[i].first > at }) - 1
	if i < 0 {
		return nil, fmt.Errorf("%w: %d", ErrRemoved, at)
	}
	in, err := l.files.use(all[i])
	if errors.Is(err, ErrMissing) {
		return nil, fmt.Errorf("%w: %d", ErrRemoved, at)
	}
	if err == nil && at >= in.end() {
		in.release()
		return nil, fmt.Errorf("%w: %d", ErrRemoved, at)
	}
	return in, err
}

func (o *openSegment) readFull(b []byte, off int64) error {
	n, err := o.file.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return &DamageError{File: o.name, Offset: off, What: fmt.Sprintf("file ends before the %d bytes there", len(b))}
	}
	return unreadable(o.name, off, err)
}

// checkLength looks at what lies before a payload.
func (o *openSegment) checkLength(prefix []byte, at Position, length int64) error {
	if got := binary.LittleEndian.Uint32(prefix); length > math.MaxUint32 || int64(got) != length {
		return &DamageError{File: o.name, Offset: int64(at - o.first), What: fmt.Sprintf("payload of %d bytes, recorded %d", length, got)}
	}
	return nil
}

func (o *openSegment) checkBlock(b []byte, at Position, want uint32) error {
	if sum := sumOf(o.salt, at, b); sum != want {
		return &DamageError{File: o.name, Offset: int64(at - o.first), What: fmt.Sprintf("payload has crc32c %08x, recorded %08x", sum, want)}
	}
	return nil
}
