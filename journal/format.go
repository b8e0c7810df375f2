package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
)

// Position is a place in a log: bytes since it began, over all segments. A segment that begins at position p covers
// p … p+size, its file's headers included, so that a position also says the segment and the offset in its file.
type Position int64

// Kind says what a record is for. The log passes every one on.
type Kind uint8

const (
	kindEnd Kind = iota // the rest of the segment is unused; never a caller's

	KindRows       // changes of rows
	KindSeal       // reserved: nothing of this epoch follows
	KindRelocation // reserved: blobs that lie elsewhere now
)

const (
	format1 = 1 // the first

	segmentMagic      = "PHLOG\r\n\x00"
	segmentHeaderSize = 4096
	segmentSumAt      = segmentHeaderSize - 4

	recordMagic      = "\xa7PHr"
	recordHeaderSize = 68
	recordSumAt      = recordHeaderSize - 4

	flagLast   = 1 << 0 // last of its group
	flagMore   = 1 << 1 // no body: its payloads are of the next record of the group that has a kind
	flagFirst  = 1 << 2 // first of its group, but for one that ends the segment before
	flagsKnown = flagLast | flagMore | flagFirst

	blockSize = 64 << 10 // bytes of a payload under one checksum

	minSegmentSize = segmentHeaderSize + 4096
	maxSegmentSize = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seed is where a checksum of the bytes at a position begins: bytes of another segment, of a former use of the
// file or from another place do not pass.
func seed(salt uint64, at Position) uint32 {
	h := salt + uint64(at)*0x9e3779b97f4a7c15
	return uint32(h>>32) ^ uint32(h)
}

// sumOf is the CRC32C of the bytes at a position.
func sumOf(salt uint64, at Position, b []byte) uint32 {
	return crc32.Update(seed(salt, at), castagnoli, b)
}

// segmentHeader is the first block of a segment.
type segmentHeader struct {
	identity uint64   // of the log
	first    Position // where the segment begins
	size     int64    // positions that it covers
	epoch    uint64
	salt     uint64
	previous uint64 // salt of the segment before it; 0: the log began here
	created  int64  // Unix ns
}

func (h segmentHeader) end() Position { return h.first + Position(h.size) }

func fileName(first Position) string { return fmt.Sprintf("%016x", uint64(first)) }

// parseName is the inverse of fileName; other names are not ours.
func parseName(name string) (first Position, ok bool) {
	n, err := strconv.ParseInt(name, 16, 64)
	if err != nil || n < 0 || fileName(Position(n)) != name {
		return 0, false
	}
	return Position(n), true
}

func (h segmentHeader) encode() []byte {
	b := make([]byte, 0, segmentHeaderSize)
	b = append(b, segmentMagic...)
	b = binary.LittleEndian.AppendUint32(b, format1)
	b = binary.LittleEndian.AppendUint32(b, 0)
	for _, v := range []uint64{
		h.identity, uint64(h.first), uint64(h.size), h.epoch, h.salt, h.previous, uint64(h.created),
	} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = b[:segmentSumAt]
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// wholeHeader tells why the block that encode makes is not there as it was written, of whatever format: magic, format and
// checksum stay where they are.
func wholeHeader(b []byte) (what string) {
	if len(b) < segmentHeaderSize {
		return "file is shorter than a segment's header"
	}
	if string(b[:8]) != segmentMagic {
		return "no header of a segment"
	}
	if got, want := crc32.Checksum(b[:segmentSumAt], castagnoli), binary.LittleEndian.Uint32(b[segmentSumAt:]); got != want {
		return fmt.Sprintf("segment header has crc32c %08x, recorded %08x", got, want)
	}
	return ""
}

// decodeSegmentHeader reads a block that is as it was written. what says why it is no header of a segment; newer: it is of a
// format that this version does not know, which is nobody's fault.
func decodeSegmentHeader(b []byte) (h segmentHeader, what string, newer bool) {
	if format := binary.LittleEndian.Uint32(b[8:]); format != format1 {
		return h, fmt.Sprintf("format %d, known is %d", format, format1), format > format1
	}
	h = segmentHeader{
		identity: binary.LittleEndian.Uint64(b[16:]),
		first:    Position(binary.LittleEndian.Uint64(b[24:])),
		size:     int64(binary.LittleEndian.Uint64(b[32:])),
		epoch:    binary.LittleEndian.Uint64(b[40:]),
		salt:     binary.LittleEndian.Uint64(b[48:]),
		previous: binary.LittleEndian.Uint64(b[56:]),
		created:  int64(binary.LittleEndian.Uint64(b[64:])),
	}
	switch {
	case binary.LittleEndian.Uint32(b[12:]) != 0 || len(bytes.TrimRight(b[72:segmentSumAt], "\x00")) > 0:
		return h, "segment header has fields that format 1 does not know", false
	case h.size < minSegmentSize || h.size > maxSegmentSize || h.first < 0 || h.end() < h.first:
		return h, fmt.Sprintf("segment header says %d bytes from position %d", h.size, h.first), false
	}
	return h, "", false
}

// recordHeader is what a record begins with.
type recordHeader struct {
	kind         Kind
	flags        uint32   // 24 bits
	position     Position // of the record
	group        Position // where its group begins
	epoch        uint64
	time         int64  // Unix ns
	previous     uint32 // sum of the record before it in the group; 0: the first
	payloads     uint32 // entries
	payloadBytes uint32 // of all entries
	bodyBytes    uint32
	entriesSum   uint32 // of the lengths and block sums of all entries; 0: there are none
	bodySum      uint32 // 0: there is no body
	sum          uint32 // of the header before it; known when it is encoded or was decoded
}

func (h *recordHeader) size() int64 {
	return recordHeaderSize + int64(h.payloadBytes) + int64(h.bodyBytes)
}

// bodyAt is the offset of the body from the record's start.
func (h *recordHeader) bodyAt() int64 { return recordHeaderSize + int64(h.payloadBytes) }

// encode writes the header to b and sets its sum.
func (h *recordHeader) encode(b []byte, salt uint64) {
	b = b[:recordHeaderSize]
	copy(b, recordMagic)
	binary.LittleEndian.PutUint32(b[4:], uint32(h.kind)|h.flags<<8)
	binary.LittleEndian.PutUint64(b[8:], uint64(h.position))
	binary.LittleEndian.PutUint64(b[16:], uint64(h.group))
	binary.LittleEndian.PutUint64(b[24:], h.epoch)
	binary.LittleEndian.PutUint64(b[32:], uint64(h.time))
	binary.LittleEndian.PutUint32(b[40:], h.previous)
	binary.LittleEndian.PutUint32(b[44:], h.payloads)
	binary.LittleEndian.PutUint32(b[48:], h.payloadBytes)
	binary.LittleEndian.PutUint32(b[52:], h.bodyBytes)
	binary.LittleEndian.PutUint32(b[56:], h.entriesSum)
	binary.LittleEndian.PutUint32(b[60:], h.bodySum)
	h.sum = sumOf(salt, h.position, b[:recordSumAt])
	binary.LittleEndian.PutUint32(b[recordSumAt:], h.sum)
}

// decodeRecordHeader reads what encode makes at position at; what says why it is none. Whether its fields make sense is not
// looked at.
func decodeRecordHeader(b []byte, salt uint64, at Position) (h recordHeader, what string) {
	b = b[:recordHeaderSize]
	if string(b[:4]) != recordMagic {
		return h, "no record begins there"
	}
	h = recordHeader{
		kind:         Kind(b[4]),
		flags:        binary.LittleEndian.Uint32(b[4:]) >> 8,
		position:     Position(binary.LittleEndian.Uint64(b[8:])),
		group:        Position(binary.LittleEndian.Uint64(b[16:])),
		epoch:        binary.LittleEndian.Uint64(b[24:]),
		time:         int64(binary.LittleEndian.Uint64(b[32:])),
		previous:     binary.LittleEndian.Uint32(b[40:]),
		payloads:     binary.LittleEndian.Uint32(b[44:]),
		payloadBytes: binary.LittleEndian.Uint32(b[48:]),
		bodyBytes:    binary.LittleEndian.Uint32(b[52:]),
		entriesSum:   binary.LittleEndian.Uint32(b[56:]),
		bodySum:      binary.LittleEndian.Uint32(b[60:]),
		sum:          binary.LittleEndian.Uint32(b[recordSumAt:]),
	}
	if got := sumOf(salt, at, b[:recordSumAt]); got != h.sum {
		return h, fmt.Sprintf("record header has crc32c %08x, recorded %08x", got, h.sum)
	}
	if h.position != at {
		return h, fmt.Sprintf("record is of position %d", h.position)
	}
	return h, ""
}

// plausible tells whether b begins with what looks like the header of a record at position at: all that can be said of a
// segment whose own header, and so its salt, is lost.
func plausible(b []byte, at Position) bool {
	return len(b) >= recordHeaderSize && string(b[:4]) == recordMagic &&
		Position(binary.LittleEndian.Uint64(b[8:])) == at && Position(binary.LittleEndian.Uint64(b[16:])) <= at
}

// blocksOf is how many blocks a payload has.
func blocksOf(length int64) int64 { return (length + blockSize - 1) / blockSize }

// entryPrefix is what lies before the bytes of a payload: its length and its block sums.
func entryPrefix(length int64) int64 { return 4 + 4*blocksOf(length) }
