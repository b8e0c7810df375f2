package index

import (
	"bytes"
	"cmp"
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

// Payload returns the bytes of an item in the log, by its ref: ErrCorrupt and an error of package journal when they are not
// what was stored, ErrCorrupt alone when it is the index that is damaged. unchecked: whatever lies there. They are in buffer if
// it has the capacity that journal.BufferSize says. When nothing has that ref any more it is ErrNotFound, or still the bytes,
// while their segment is there.
func (x *Index) Payload(ref string, unchecked bool, buffer []byte) ([]byte, error) {
	if x.payloads == nil {
		return nil, ErrNotFound
	}
	at, err := x.movedTo(ref)
	for err == nil {
		b, fault := x.readPayload(at, unchecked, buffer)
		if fault == nil {
			return b, nil
		}
		last := at
		if at, err = x.locate(ref); err != nil || at != last {
			continue // it was removed, or moved, since we looked
		}
		if errors.Is(fault, journal.ErrRemoved) || errors.Is(fault, journal.ErrMissing) {
			return nil, fmt.Errorf("%w: log: the segment of a payload is missing: %w", ErrCorrupt, fault)
		}
		return nil, x.logError(fault)
	}
	return nil, err
}

func (x *Index) readPayload(at journal.Place, unchecked bool, buffer []byte) ([]byte, error) {
	if unchecked {
		return x.payloads.ReadPayloadUnchecked(at.At(), at.Length)
	}
	return x.payloads.ReadPayload(at.At(), at.Length, buffer)
}

// movedTo is where a payload lies, if anything has its ref. A read asks no more: the bytes say by themselves whether they are right.
func (x *Index) movedTo(ref string) (at journal.Place, err error) {
	if _, ok := journal.ParseRef(ref); !ok {
		return at, ErrNotFound
	}
	err = x.view(func(v *view) error {
		at, err = location(v.Bucket(bucketMoved), ref)
		return err
	})
	return at, err
}

// locate finds where a payload lies: ErrNotFound when nothing has its ref.
func (x *Index) locate(ref string) (at journal.Place, err error) {
	err = x.view(func(v *view) error {
		if v.Bucket(bucketRefs).Get([]byte(ref)) == nil {
			return ErrNotFound
		}
		at, err = location(v.Bucket(bucketMoved), ref)
		return err
	})
	return at, err
}

// location is where the payload of a ref lies: where it was written first, unless it was moved since. moved is bucketMoved.
func location(moved getter, ref string) (at journal.Place, err error) {
	if value := moved.Get([]byte(ref)); value != nil {
		return decodeMoved(value)
	}
	at, ok := journal.ParseRef(ref)
	if !ok {
		return at, fmt.Errorf("%w: ref %x is none of the log", ErrCorrupt, ref)
	}
	return at, nil
}

// payloads is how many bytes a group brings.
func (g *group) payloads() (n int) {
	for _, m := range g.mutations {
		switch m := m.(type) {
		case Put:
			n += len(m.Payload)
		case Relocate:
			n += len(m.Payload)
		}
	}
	return n
}

// place gives a payload its place in the log. That of a group that fails stays empty.
func (t *tx) place(payload []byte) (at journal.Place, err error) {
	if t.group == nil {
		return at, errNoLog
	}
	p, err := t.group.Payload(payload)
	if err != nil {
		return at, err
	}
	t.hasPayloads = true
	segment := t.group.Segment()
	at = journal.Place{Segment: segment, Offset: int64(p - segment), Length: int64(len(payload))}
	return at, t.countPayload(at, +1)
}

// relocate stores a payload again. Its ref stays, as it says which bytes an item has; that they lie elsewhere now is a row of its own. The rows
// that say whose the payload is are in the same group, unchanged: the segment of those that the log has is about to go, and a file may be
// made anew from what the log has.
func (t *tx) relocate(m Relocate) error {
	ref := []byte(m.Ref)
	value := t.refs.Get(ref)
	if value == nil {
		return ErrConflict
	}
	target, err := decodeRef(value)
	if err == nil && target.row == nil {
		err = fmt.Errorf("%w: ref %x is in the log, and leads to no row", ErrCorrupt, m.Ref)
	}
	if err != nil {
		return err
	}
	was, err := location(t.moved, m.Ref)
	if err != nil {
		return err
	}
	at := m.Place
	switch {
	case m.Payload != nil:
		at, err = t.place(m.Payload)
	case at == was:
		return nil
	default:
		err = t.countPayload(at, +1)
	}
	if err != nil {
		return err
	}
	t.remove(t.movedTo, placeKey(was))
	t.put(t.moved, ref, encodeMoved(at))
	t.put(t.movedTo, placeKey(at), ref)
	owner := map[refPlace]*table{inItems: t.items, inTrash: t.trash, inKept: t.kept}[target.in]
	row := owner.Get(target.row)
	if row == nil {
		return fmt.Errorf("%w: ref %x leads to no row", ErrCorrupt, m.Ref)
	}
	t.set(t.refs, ref, bytes.Clone(value))
	t.set(owner, target.row, bytes.Clone(row))
	return t.countPayload(was, -1)
}

// dropPayload is for a ref that nothing has any more.
func (t *tx) dropPayload(ref string) error {
	if _, ok := journal.ParseRef(ref); !ok {
		return nil
	}
	at, err := location(t.moved, ref)
	if err != nil {
		return err
	}
	t.remove(t.moved, []byte(ref))
	t.remove(t.movedTo, placeKey(at))
	return t.countPayload(at, -1)
}

// adopt takes in a payload that lies at a place of the log, under a ref of another place if it was moved.
func (t *tx) adopt(ref string, at journal.Place) error {
	first, ok := journal.ParseRef(ref)
	if !ok {
		return nil
	}
	if at != (journal.Place{}) && at != first {
		t.put(t.moved, []byte(ref), encodeMoved(at))
		t.put(t.movedTo, placeKey(at), []byte(ref))
		return t.countPayload(at, +1)
	}
	return t.countPayload(first, +1)
}

// placeKey is the row of bucketMovedTo.
func placeKey(at journal.Place) []byte {
	return binary.BigEndian.AppendUint32(segmentKey(at.Segment), uint32(at.Offset))
}

const movedV1 = 1

func encodeMoved(at journal.Place) []byte {
	b := append(append(make([]byte, 0, 1+12+4), movedV1), placeKey(at)...)
	return binary.LittleEndian.AppendUint32(b, uint32(at.Length))
}

func decodeMoved(b []byte) (at journal.Place, err error) {
	f := fields{b: b}
	version := f.u8()
	place := f.next(12)
	length := f.u32()
	if version != movedV1 || !f.done() || length > MaxPayload {
		return at, damaged("moved payload")
	}
	return journal.Place{
		Segment: journal.Position(binary.BigEndian.Uint64(place)), Offset: int64(binary.BigEndian.Uint32(place[8:])), Length: int64(length),
	}, nil
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
			all = append(all, LogSegment{First: s.First, Bytes: x.sizeOf(s), Blobs: live.blobs, Live: live.bytes, Applied: s.End <= applied})
		}
		return nil
	})
	return all, err
}

// sizeOf is how many bytes a segment takes at most: what lies between its first position and that of the next can have been removed.
func (x *Index) sizeOf(s journal.Segment) int64 {
	return min(int64(s.End-s.First), cmp.Or(x.opts.SegmentSize, segmentSize))
}

// Payloads lists refs of which the payloads lie in a segment, at most most of them.
func (x *Index) Payloads(first journal.Position, most int) (refs []string, err error) {
	prefix := segmentKey(first)
	err = x.view(func(v *view) error {
		moved := v.Bucket(bucketMoved)
		from := journal.Place{Segment: first}.Ref()
		from = from[:len(from)-8] // without offset and length
		c := v.Bucket(bucketRefs).Cursor()
		for ref, _ := c.Seek([]byte(from)); strings.HasPrefix(string(ref), from) && len(refs) < most; ref, _ = c.Next() {
			if moved.Get(ref) == nil {
				refs = append(refs, string(ref))
			}
		}
		c = v.Bucket(bucketMovedTo).Cursor()
		for place, ref := c.Seek(prefix); bytes.HasPrefix(place, prefix) && len(refs) < most; place, ref = c.Next() {
			refs = append(refs, string(ref))
		}
		return nil
	})
	return refs, err
}

// removeSegments unlinks the segments of which nothing is needed. The last one is kept. What a damaged index says is no reason to
// remove anything, nor is what a file says that lost its name: another one, which has not as many rows, may be opened with the log.
func (x *Index) removeSegments() error {
	if x.Attached() != nil {
		return nil // who changes something is told
	}
	all, err := x.Segments()
	if err != nil {
		return err
	}
	for _, s := range all[:max(len(all)-1, 0)] {
		if !s.Applied || s.Blobs > 0 || x.Damage() != nil {
			continue
		}
		refs, err := x.Payloads(s.First, 1)
		if err != nil {
			return err
		}
		if len(refs) > 0 { // a page is older than the others, perhaps
			err := fmt.Errorf("%w: segment %x has no row, and ref %x leads to it", ErrCorrupt, s.First, refs[0])
			x.note(err)
			return err
		}
		if err := x.log.RemoveSegment(s.First); err != nil {
			return err
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

// parseSegmentKey is the inverse of segmentKey.
func parseSegmentKey(row []byte) (journal.Position, error) {
	if len(row) != 8 || row[0]&0x80 != 0 {
		return 0, damaged("segment")
	}
	return journal.Position(binary.BigEndian.Uint64(row)), nil
}

// countPayload adds (sign +1) or takes away (-1) a payload from what is live in its segment. A segment without a row has nothing that
// is live.
func (t *tx) countPayload(p journal.Place, sign int64) error {
	row := segmentKey(p.Segment)
	s, err := decodeSegment(t.segments.Get(row))
	if err != nil {
		return err
	}
	s.blobs += sign
	s.bytes += sign * p.Length
	switch {
	case s.blobs < 0 || s.bytes < 0:
		return fmt.Errorf("%w: more was taken from a segment than was in it", ErrCorrupt)
	case s.blobs == 0:
		t.set(t.segments, row, nil)
	default:
		t.set(t.segments, row, encodeSegment(s))
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
