package blobstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// The file of checksums; doc.go has the layout.
const (
	sumsFormat1 = 1 // the first: CRC32C of blocks of 64 KiB, in groups with a checksum of their own
	sumsMagic   = "PHSUMS\r\n"
	sumsFixed   = 60 // bytes of the header before the label
	sumsPrefix  = 16 // of these, what every format has

	// flagTrailer says that the blob's file is of format 1.
	flagTrailer = 1 << 0

	blockSize   = 64 << 10
	groupBlocks = 1024 // blocks of a group, which so has 64 MiB

	// sumsHead is what is read of the file at once. In no format is the header longer. It holds all of the file for most blobs.
	sumsHead = 8 << 10
)

// errSums means that the checksums of a blob's blocks are missing or damaged, which says nothing of the blob.
var errSums = errors.New("no usable checksums of the blob")

// blockCount is the number of blocks of a payload.
func blockCount(size int64) int64 { return (size + blockSize - 1) / blockSize }

// blockSummer computes the checksums of the blocks of a payload that comes in pieces. It holds 4 bytes for each block.
type blockSummer struct {
	sums []byte // of whole blocks, little-endian
	crc  uint32 // of the block that is not whole yet
	n    int    // bytes of it
}

// Write never fails.
func (b *blockSummer) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		part := p[:min(len(p), blockSize-b.n)]
		p = p[len(part):]
		b.crc = crc32.Update(b.crc, castagnoli, part)
		if b.n += len(part); b.n == blockSize {
			b.end()
		}
	}
	return total, nil
}

func (b *blockSummer) end() {
	b.sums = binary.LittleEndian.AppendUint32(b.sums, b.crc)
	b.crc, b.n = 0, 0
}

// all ends the last block and returns the checksums of all.
func (b *blockSummer) all() []byte {
	if b.n > 0 {
		b.end()
	}
	return b.sums
}

// header is the beginning of a file of checksums.
type header struct {
	info  Info
	flags uint16
	label []byte
}

// appendSums appends a file of checksums; sums are those of the blocks.
func appendSums(b []byte, h header, sums []byte) []byte {
	start := len(b)
	b = append(b, sumsMagic...)
	b = binary.LittleEndian.AppendUint16(b, sumsFormat1)
	b = binary.LittleEndian.AppendUint16(b, h.flags)
	b = binary.LittleEndian.AppendUint32(b, uint32(sumsFixed+len(h.label)+4))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.info.Size))
	b = append(b, h.info.BLAKE3[:]...)
	b = binary.LittleEndian.AppendUint32(b, blockSize)
	b = append(b, h.label...)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
	for group := uint32(0); len(sums) > 0; group++ {
		part := sums[:min(len(sums), 4*groupBlocks)]
		sums = sums[len(part):]
		b = append(b, part...)
		b = binary.LittleEndian.AppendUint32(b, groupSum(h.info, group, part))
	}
	return b
}

// groupSum is the checksum of a group. That it covers blob and number tells a group of another file, or from another place,
// from the right one.
func groupSum(info Info, group uint32, sums []byte) uint32 {
	crc := crc32.Checksum(info.BLAKE3[:], castagnoli)
	crc = crc32.Update(crc, castagnoli, binary.LittleEndian.AppendUint32(nil, group))
	return crc32.Update(crc, castagnoli, sums)
}

// parseHeader reads the header of a file of checksums that begins with head: at least sumsHead bytes, or the whole file. The label is
// part of head. It returns the length of the header. A sound header of another format is ErrNewer, anything else that
// appendSums does not make is errSums.
func parseHeader(head []byte) (h header, length int, err error) {
	damaged := func(what string, args ...any) (header, int, error) {
		return header{}, 0, fmt.Errorf("%w: header: %s", errSums, fmt.Sprintf(what, args...))
	}
	if len(head) < sumsPrefix+4 || string(head[:8]) != sumsMagic {
		return damaged("no magic number")
	}
	total := int64(binary.LittleEndian.Uint32(head[12:]))
	if total < sumsPrefix+4 || total > int64(len(head)) {
		return damaged("length %d", total)
	}
	head = head[:total]
	covered, recorded := head[:total-4], binary.LittleEndian.Uint32(head[total-4:])
	if got := crc32.Checksum(covered, castagnoli); got != recorded {
		return damaged("crc32c %08x, recorded %08x", got, recorded)
	}
	if format := binary.LittleEndian.Uint16(head[8:]); format != sumsFormat1 {
		return header{}, 0, fmt.Errorf("%w: checksums of format %d, known is %d", ErrNewer, format, sumsFormat1)
	}
	if h.flags = binary.LittleEndian.Uint16(head[10:]); h.flags&^flagTrailer != 0 {
		return header{}, 0, fmt.Errorf("%w: checksums with unknown flags %#x", ErrNewer, h.flags)
	}
	if len(covered) < sumsFixed || len(covered) > sumsFixed+MaxLabel {
		return damaged("length %d", total)
	}
	if size := binary.LittleEndian.Uint32(head[56:]); size != blockSize {
		return damaged("blocks of %d bytes", size)
	}
	h.info.Size = int64(binary.LittleEndian.Uint64(head[16:]))
	if h.info.Size < 0 {
		return damaged("payload of %d bytes", h.info.Size)
	}
	copy(h.info.BLAKE3[:], head[24:])
	h.label = covered[sumsFixed:]
	return h, int(total), nil
}

// sumsReader gives the checksums of blocks from a file of checksums, of which it holds the beginning and one group. Not safe for
// concurrent use.
type sumsReader struct {
	header header
	head   []byte // of the file
	length int    // of the header
	file   io.ReaderAt
	closer io.Closer // of file; nil: head is all

	group int64  // of sums
	sums  []byte // checked; nil: none yet
}

// newSumsReader reads the header of a file of checksums; head is its beginning, see parseHeader. The file is closed, at once, if nothing
// more is needed of it.
func newSumsReader(head []byte, file io.ReaderAt, closer io.Closer) (*sumsReader, error) {
	h, length, err := parseHeader(head)
	if err != nil {
		if closer != nil {
			_ = closer.Close() // it was only read
		}
		return nil, err
	}
	blocks := blockCount(h.info.Size)
	groups := (blocks + groupBlocks - 1) / groupBlocks
	if closer != nil && int64(length)+4*(blocks+groups) <= int64(len(head)) {
		_ = closer.Close() // likewise
		file, closer = nil, nil
	}
	return &sumsReader{header: h, head: head, length: length, file: file, closer: closer}, nil
}

// sum is the checksum of a block. Errors: errSums, whatever it is that cannot be read.
func (r *sumsReader) sum(block int64) (uint32, error) {
	if group := block / groupBlocks; r.sums == nil || group != r.group {
		if err := r.load(group); err != nil {
			return 0, err
		}
	}
	return binary.LittleEndian.Uint32(r.sums[4*(block%groupBlocks):]), nil
}

// load reads a group.
func (r *sumsReader) load(group int64) error {
	r.sums = nil
	first := group * groupBlocks
	n := 4 * min(groupBlocks, blockCount(r.header.info.Size)-first)
	off := int64(r.length) + group*4*(groupBlocks+1)
	b, err := r.bytes(off, n+4)
	if err != nil {
		return fmt.Errorf("%w: group %d: %v", errSums, group, err)
	}
	got, recorded := groupSum(r.header.info, uint32(group), b[:n]), binary.LittleEndian.Uint32(b[n:])
	if got != recorded {
		return fmt.Errorf("%w: group %d: crc32c %08x, recorded %08x", errSums, group, got, recorded)
	}
	r.group, r.sums = group, b[:n]
	return nil
}

// bytes are n bytes of the file from off.
func (r *sumsReader) bytes(off, n int64) ([]byte, error) {
	if off+n <= int64(len(r.head)) {
		return r.head[off : off+n], nil
	}
	if r.file == nil {
		return nil, io.ErrUnexpectedEOF
	}
	b := make([]byte, n)
	_, err := r.file.ReadAt(b, off)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}

// all compares with the checksums of all blocks. Errors: errSums.
func (r *sumsReader) all(want []byte) error {
	for block := int64(0); len(want) > 0; block++ {
		sum, err := r.sum(block)
		if err != nil {
			return err
		}
		if other := binary.LittleEndian.Uint32(want); sum != other {
			return fmt.Errorf("%w: block %d has %08x, recorded %08x", errSums, block, other, sum)
		}
		want = want[4:]
	}
	return nil
}

func (r *sumsReader) close() {
	if r.closer != nil {
		_ = r.closer.Close() // it was only read
	}
}
