package compact

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash"

	"packhouse/repo/digest"
)

// Operation record, format 1. Integers are varints as in encoding/binary; a string is its
// length and its bytes. The digest of a plan is taken over its records, each behind its length,
// so a change here makes kept results unreachable (they expire anyway).
//
//	flags u8 | target | algorithm | prefix | levels | n | n ranges | m | m keys to delete
//	range: 0 (key of the range before it) or 1 and the key | offset, zigzag | length
const (
	flagEmpty = 1 << iota
	flagPack
)

func appendOperation(b []byte, o *Operation) []byte {
	var flags byte
	if o.Empty {
		flags |= flagEmpty
	}
	if o.Frame == VGerPack {
		flags |= flagPack
	}
	b = append(b, flags)
	b = appendString(b, o.Target)
	b = appendString(b, o.Naming.Algorithm.Name)
	b = appendString(b, o.Naming.Prefix)
	b = binary.AppendUvarint(b, uint64(max(o.Naming.Levels, 0)))
	b = binary.AppendUvarint(b, uint64(len(o.Ranges)))
	last := ""
	for _, r := range o.Ranges {
		if r.Key == last {
			b = append(b, 0)
		} else {
			b = appendString(append(b, 1), r.Key)
			last = r.Key
		}
		b = binary.AppendVarint(b, r.Offset)
		b = binary.AppendUvarint(b, uint64(r.Length))
	}
	b = binary.AppendUvarint(b, uint64(len(o.Deletes)))
	for _, key := range o.Deletes {
		b = appendString(b, key)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func hashRecord(h hash.Hash, record []byte) {
	var length [binary.MaxVarintLen64]byte
	h.Write(length[:binary.PutUvarint(length[:], uint64(len(record)))])
	h.Write(record)
}

var errRecord = errors.New("operation record is damaged")

// reader takes varints and strings from the front of b; the first error sticks.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail() {
	if r.err == nil {
		r.err, r.b = errRecord, nil
	}
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads the length of a list whose entries take at least one byte each.
func (r *reader) count() int {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) bytes(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail()
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) string() string { return string(r.bytes(r.count())) }

// decodeOperation reads a record into o, whose slices it reuses; lookup knows the algorithms by name.
func decodeOperation(b []byte, o *Operation, lookup func(string) (digest.Algorithm, error)) error {
	r := &reader{b: b}
	flags := r.byte()
	o.Empty = flags&flagEmpty != 0
	o.Frame = Plain
	if flags&flagPack != 0 {
		o.Frame = VGerPack
	}
	o.Target = r.string()
	algorithm := r.string()
	o.Naming = Naming{Prefix: r.string(), Levels: int(r.uvarint())}
	o.Ranges = o.Ranges[:0]
	key := ""
	for range r.count() {
		if r.byte() != 0 {
			key = r.string()
		}
		o.Ranges = append(o.Ranges, Range{Key: key, Offset: r.varint(), Length: int64(r.uvarint())})
	}
	o.Deletes = o.Deletes[:0]
	for range r.count() {
		o.Deletes = append(o.Deletes, r.string())
	}
	if r.err == nil && len(r.b) > 0 {
		r.fail()
	}
	if r.err != nil || algorithm == "" {
		return r.err
	}
	var err error
	if o.Naming.Algorithm, err = lookup(algorithm); err != nil {
		return fmt.Errorf("operation record: %w", err)
	}
	return nil
}
