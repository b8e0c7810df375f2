package journal

import "encoding/binary"

// A Place says where a payload lies, by its segment: that is what has to be there for it.
type Place struct {
	Segment Position // where the segment begins
	Offset  int64    // of the payload, from there
	Length  int64    // bytes
}

// At is the position of the payload.
func (p Place) At() Position { return p.Segment + Position(p.Offset) }

// kindPlace is the first byte of a ref to a payload of the log; others are package blobstore's.
const kindPlace = 2

// Ref is a place as rows have it: 17 bytes, the first of which says that it is one; then segment u64, offset u32 and length u32,
// big-endian, so that refs to payloads sort by their places.
func (p Place) Ref() string {
	b := binary.BigEndian.AppendUint64([]byte{kindPlace}, uint64(p.Segment))
	b = binary.BigEndian.AppendUint32(b, uint32(p.Offset))
	return string(binary.BigEndian.AppendUint32(b, uint32(p.Length)))
}

// ParseRef is the inverse of Ref; ok is false for what is no ref to a payload.
func ParseRef(ref string) (p Place, ok bool) {
	if len(ref) != 1+8+4+4 || ref[0] != kindPlace {
		return Place{}, false
	}
	b := []byte(ref)
	p = Place{Position(binary.BigEndian.Uint64(b[1:])), int64(binary.BigEndian.Uint32(b[9:])), int64(binary.BigEndian.Uint32(b[13:]))}
	return p, p.Segment >= 0
}
