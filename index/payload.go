package index

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"

	"packhouse/journal"
)

// MaxPayload is the most bytes that an item in the log may have.
const MaxPayload = 128 << 10

// maxPayloads bounds the payloads of one transaction, in bytes.
const maxPayloads = 8 << 20

// errNoLog refuses a payload where there is no log.
var errNoLog = errors.New("a payload, and the index has no log")

// HasLog tells whether Put takes payloads.
func (x *Index) HasLog() bool { return x.log != nil }

// Payload returns the bytes of an item in the log, by its ref: ErrNotFound when its segment is not there any more (the item has another
// ref by now, or is gone), ErrCorrupt when they are not what was stored.
func (x *Index) Payload(ref string) ([]byte, error) {
	p, ok := journal.ParseRef(ref)
	if !ok || x.log == nil {
		return nil, ErrNotFound
	}
	b, err := x.log.ReadPayload(p)
	if errors.Is(err, journal.ErrNotFound) {
		return nil, ErrNotFound
	}
	return b, x.logError(err)
}

// payloadsOf is how much place the payloads of groups take in the log.
func payloadsOf(groups []*group) (n int) {
	for _, g := range groups {
		n += g.payloads()
	}
	return n
}

func (g *group) payloads() (n int) {
	for _, m := range g.mutations {
		switch m := m.(type) {
		case Put:
			if m.Payload != nil {
				n += journal.PayloadSize(len(m.Payload))
			}
		case Relocate:
			n += journal.PayloadSize(len(m.Payload))
		}
	}
	return n
}

// place gives a payload its place in the log, and returns the ref.
func (t *tx) place(payload []byte) (ref string, err error) {
	if t.next == (journal.Payload{}) {
		return "", errNoLog
	}
	at := t.next
	at.Length = len(payload)
	t.next.Offset += journal.PayloadSize(len(payload))
	t.payloads = append(t.payloads, payload)
	ref = at.Ref()
	return ref, t.countPayload(ref, +1)
}

// relocate stores a payload again, and has what refers to it refer to that.
func (t *tx) relocate(m Relocate) error {
	value := t.refs.Get([]byte(m.Ref))
	if value == nil {
		return ErrConflict
	}
	target, err := decodeRef(value)
	if err != nil {
		return err
	}
	target.row = bytes.Clone(target.row)
	ref, err := t.place(m.Payload)
	if err != nil {
		return err
	}
	if err := t.refer(target, ref); err != nil {
		return err
	}
	t.remove(t.refs, []byte(m.Ref))
	t.put(t.refs, []byte(ref), encodeRef(target))
	return t.countPayload(m.Ref, -1)
}

// refer gives an item, in whatever bucket, another ref.
func (t *tx) refer(target refTarget, ref string) error {
	switch target.in {
	case inTrash:
		record, err := decodeTrash(t.trash.Get(target.row))
		if err != nil {
			return err
		}
		record.item.Ref = ref
		t.put(t.trash, target.row, encodeTrash(&record))
	case inKept:
		record, err := decodeKept(t.kept.Get(target.row))
		if err != nil {
			return err
		}
		record.item.Ref = ref
		t.put(t.kept, target.row, encodeKept(&record))
	default:
		item, err := decodeItem(t.items.Get(target.row))
		if err != nil {
			return err
		}
		item.Ref = ref
		t.put(t.items, target.row, encodeItem(&item))
	}
	return nil
}

// LogSegment is a segment of the log, and what of it is needed still.
type LogSegment struct {
	First journal.Position
	Bytes int64 // it takes on the disk
	Blobs int64 // payloads that something refers to
	Live  int64 // their sizes, in bytes
	// Applied tells whether the file has all rows of the segment: then nothing but the payloads is needed of it.
	Applied bool
}

// Segments lists the segments of the log, the oldest first; none where there is no log. The last one is being written to.
func (x *Index) Segments() (all []LogSegment, err error) {
	if x.log == nil {
		return nil, nil
	}
	x.pending.mu.Lock()
	applied := x.pending.applied
	x.pending.mu.Unlock()
	err = x.view(func(v *view) error {
		for _, s := range x.log.Segments() {
			live, err := decodeSegment(v.Bucket(bucketSegments).Get(segmentKey(s.First)))
			if err != nil {
				return err
			}
			all = append(all, LogSegment{First: s.First, Bytes: int64(s.End - s.First), Blobs: live.blobs, Live: live.bytes, Applied: s.End <= applied})
		}
		return nil
	})
	return all, err
}

// Payloads lists the refs to payloads in a segment, at most most of them.
func (x *Index) Payloads(first journal.Position, most int) (refs []string, err error) {
	from := journal.Payload{Segment: first}.Ref()
	prefix := from[:len(from)-8] // without offset and length
	err = x.scan(context.Background(), walk{bucket: bucketRefs, from: []byte(prefix)}, func(row, _ []byte) ([]byte, error) {
		if !strings.HasPrefix(string(row), prefix) || len(refs) == most {
			return nil, errEnd
		}
		refs = append(refs, string(row))
		return nil, nil
	})
	return refs, err
}

// removeSegments unlinks the segments of which nothing is needed. The last one is kept.
func (x *Index) removeSegments() error {
	all, err := x.Segments()
	if err != nil {
		return err
	}
	for _, s := range all[:max(len(all)-1, 0)] {
		if s.Applied && s.Blobs == 0 {
			if err := x.log.Remove(s.First); err != nil {
				return err
			}
		}
	}
	return nil
}

// A segment is what lies in a segment of the log.
type segment struct {
	blobs int64 // payloads that a ref leads to
	bytes int64 // their sizes
}

func segmentKey(first journal.Position) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(first))
}

// countPayload adds (sign +1) or takes away (-1) what a ref leads to from what is live in its segment, if it is in the log. A segment
// without a row has nothing that is live.
func (t *tx) countPayload(ref string, sign int64) error {
	p, ok := journal.ParseRef(ref)
	if !ok {
		return nil
	}
	row := segmentKey(p.Segment)
	s, err := decodeSegment(t.segments.Get(row))
	if err != nil {
		return err
	}
	s.blobs += sign
	s.bytes += sign * int64(p.Length)
	switch {
	case s.blobs < 0 || s.bytes < 0:
		return fmt.Errorf("%w: more was taken from a segment than was in it", ErrCorrupt)
	case s.blobs == 0:
		t.remove(t.segments, row)
	default:
		t.put(t.segments, row, encodeSegment(s))
	}
	return nil
}

const segmentV1 = 1

func encodeSegment(s segment) []byte {
	b := append(make([]byte, 0, 1+2*8), segmentV1)
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, uint64(s.blobs)), uint64(s.bytes))
}

// decodeSegment takes a missing row for zeros.
func decodeSegment(b []byte) (s segment, err error) {
	if b == nil {
		return segment{}, nil
	}
	f := fields{b: b}
	version := f.u8()
	s.blobs, s.bytes = f.i64(), f.i64()
	if version != segmentV1 || !f.done() || s.blobs < 1 || s.bytes < 0 || s.bytes > math.MaxInt64/2 {
		return segment{}, damaged("segment")
	}
	return s, nil
}
