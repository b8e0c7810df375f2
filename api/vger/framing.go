package vger

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// packHeader is how every pack begins: the magic and version 1.
const packHeader = "VGERPACK\x01"

// framing checks the layout of a pack while its bytes pass through Write: the header, then blobs, each behind
// its length (4 bytes, little-endian), exactly to the end; and that blobs are where they are
// expected. It needs no memory beyond the expectations.
type framing struct {
	expected []blob // by offset; those still ahead
	position uint64
	head     []byte // of what is being gathered: the header, or a length
	header   bool   // the header is good
	bad      bool   // an expected blob is not there
	data     uint64 // bytes of the current blob still to come
}

// newFraming sorts expected, which it keeps.
func newFraming(expected []blob) *framing {
	slices.SortFunc(expected, func(a, b blob) int { return cmp.Compare(a.offset, b.offset) })
	return &framing{expected: expected, head: make([]byte, 0, len(packHeader))}
}

// Write implements io.Writer; it never fails.
func (f *framing) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		var taken int
		if f.data > 0 {
			taken = int(min(f.data, uint64(len(p))))
			f.data -= uint64(taken)
		} else {
			taken = f.gather(p)
		}
		f.position += uint64(taken)
		p = p[taken:]
	}
	return n, nil
}

// gather takes bytes of the header or of a length.
func (f *framing) gather(p []byte) int {
	inHeader := f.position < uint64(len(packHeader))
	want := 4
	if inHeader {
		want = len(packHeader)
	}
	taken := min(want-len(f.head), len(p))
	f.head = append(f.head, p[:taken]...)
	if len(f.head) < want {
		return taken
	}
	if inHeader {
		f.header = string(f.head) == packHeader
	} else {
		f.data = uint64(binary.LittleEndian.Uint32(f.head))
		f.found(blob{f.position + uint64(taken), f.data})
	}
	f.head = f.head[:0]
	return taken
}

// found strikes a blob off the expectations.
func (f *framing) found(b blob) {
	for len(f.expected) > 0 && f.expected[0].offset <= b.offset {
		if f.expected[0] != b {
			f.bad = true
		}
		f.expected = f.expected[1:]
	}
}

// headerValid tells whether the header is whole and known.
func (f *framing) headerValid() bool { return f.header }

// blobsValid tells, at the end of the pack, whether every byte belongs to a blob and every expected blob was there.
func (f *framing) blobsValid() bool {
	return f.header && !f.bad && f.data == 0 && len(f.head) == 0 && len(f.expected) == 0
}
