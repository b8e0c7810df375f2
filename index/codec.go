package index

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"packhouse/journal"
)

// The versions of records this program writes; doc.go has the layouts. A new
// layout gets a new number, and the old one stays readable.
const (
	itemV1     = 1 // first layout
	itemV2     = 2 // adds the open plan and the time when it was found
	dirV1      = 1
	refV1      = 1
	refV2      = 2 // of an item whose blob is a file: a hash of the row key
	trashV1    = 1
	countersV1 = 1
	countersV2 = 2 // adds open plans and what is kept
	countersV3 = 3 // adds what is missing and what is damaged
	countersV4 = 4 // adds what is unverified, and the rows of the history
	lockV1     = 1
	writerV1   = 1
	metaV1     = 1
	jobV1      = 1
	planV1     = 1
	keptV1     = 1
	changeV1   = 1
)

// itemFixed is the length of an item record before its four strings.
const itemFixed = 1 + 1 + 3*8 + 32

func appendTime(b []byte, t time.Time) []byte {
	return binary.LittleEndian.AppendUint64(b, uint64(t.UnixMilli()))
}

func appendShort[T string | []byte](b []byte, s T) []byte {
	return append(append(b, byte(len(s))), s...)
}

func appendLong[T string | []byte](b []byte, s T) []byte {
	return append(binary.LittleEndian.AppendUint16(b, uint16(len(s))), s...)
}

// appendItem writes the oldest layout that holds the item: few are part of a plan.
func appendItem(b []byte, item *Item) []byte {
	version := byte(itemV1)
	if item.Plan != 0 || !item.Found.IsZero() {
		version = itemV2
	}
	b = append(b, version, byte(item.Flags))
	b = binary.LittleEndian.AppendUint64(b, uint64(item.Size))
	b = appendTime(b, item.Created)
	b = appendTime(b, item.Modified)
	b = append(b, item.BLAKE3[:]...)
	b = appendShort(b, item.Ref)
	b = appendShort(b, item.Algorithm)
	b = appendShort(b, item.Sum)
	b = appendShort(b, item.Writer)
	if version == itemV1 {
		return b
	}
	b = binary.LittleEndian.AppendUint64(b, item.Plan)
	if item.Found.IsZero() {
		return binary.LittleEndian.AppendUint64(b, noTime)
	}
	return appendTime(b, item.Found)
}

// noTime stands for the zero time, in a place where there may be none.
const noTime = 1 << 63

func encodeItem(item *Item) []byte {
	n := itemFixed + 4 + 16 + len(item.Ref) + len(item.Algorithm) + len(item.Sum) + len(item.Writer)
	return appendItem(make([]byte, 0, n), item)
}

// A decoder turns records into values. It remembers the last algorithm and
// writer: in a listing they repeat, and need not be allocated for each row.
type decoder struct{ algorithm, writer string }

func (d *decoder) item(b []byte) (item Item, err error) {
	f := fields{b: b}
	version := f.u8()
	if version != itemV1 && version != itemV2 {
		return Item{}, damaged("item")
	}
	item.Flags = Flags(f.u8())
	item.Size = f.i64()
	item.Created = f.time()
	item.Modified = f.time()
	copy(item.BLAKE3[:], f.next(32))
	item.Ref = string(f.short())
	item.Algorithm = reuse(&d.algorithm, f.short())
	if sum := f.short(); len(sum) > 0 {
		item.Sum = append(make([]byte, 0, len(sum)), sum...)
	}
	item.Writer = reuse(&d.writer, f.short())
	if version == itemV2 {
		item.Plan = uint64(f.i64())
		item.Found = f.timeOrNone()
		f.bad = f.bad || item.Plan == 0 && item.Found.IsZero()
	}
	if !f.done() || item.Size < 0 || item.Ref == "" {
		return Item{}, damaged("item")
	}
	return item, nil
}

func reuse(last *string, b []byte) string {
	if string(b) != *last {
		*last = string(b)
	}
	return *last
}

func decodeItem(b []byte) (Item, error) {
	var d decoder
	return d.item(b)
}

func encodeDir(created time.Time) []byte {
	return appendTime(append(make([]byte, 0, 9), dirV1), created)
}

func decodeDir(b []byte) (created time.Time, err error) {
	f := fields{b: b}
	version := f.u8()
	created = f.time()
	if version != dirV1 || !f.done() {
		return time.Time{}, damaged("directory")
	}
	return created, nil
}

// A refTarget is what a ref belongs to: the item, the trash row or the kept row of this row key.
type refTarget struct {
	in   refPlace
	row  []byte // nil: only its hash is known
	hash uint64
}

// itemTarget is that of an item. Items of blobs in the log are found by their refs, when the blobs are moved. Of other items a
// hash is enough to tell a wrong ref from the right one, and takes a seventh of the space.
func itemTarget(ref string, row []byte) refTarget {
	if _, inLog := journal.ParseRef(ref); inLog {
		return refTarget{row: row}
	}
	return refTarget{hash: hashOfRow(row)}
}

func hashOfRow(row []byte) uint64 {
	h := fnv.New64a()
	h.Write(row) // never fails
	return h.Sum64()
}

// refPlace is byte 1 of a ref record.
type refPlace byte

const (
	inItems refPlace = iota
	inTrash
	inKept
)

func encodeRef(r refTarget) []byte {
	if r.row == nil {
		return binary.LittleEndian.AppendUint64([]byte{refV2, byte(r.in)}, r.hash)
	}
	return append(append(make([]byte, 0, 2+len(r.row)), refV1, byte(r.in)), r.row...)
}

// decodeRef returns a row that shares memory with b.
func decodeRef(b []byte) (refTarget, error) {
	switch {
	case len(b) < 3 || refPlace(b[1]) > inKept || refPlace(b[1]) != inItems && len(b) != 2+trashKeySize:
	case b[0] == refV1:
		return refTarget{in: refPlace(b[1]), row: b[2:]}, nil
	case b[0] == refV2 && len(b) == 2+8 && refPlace(b[1]) == inItems:
		return refTarget{hash: binary.LittleEndian.Uint64(b[2:])}, nil
	}
	return refTarget{}, damaged("ref")
}

// leadsTo tells whether a ref is one of this row.
func (r refTarget) leadsTo(in refPlace, row []byte) bool {
	if r.row == nil {
		return r.in == in && r.hash == hashOfRow(row)
	}
	return r.in == in && bytes.Equal(r.row, row)
}

// A trashRecord is a Removed without what its row key says.
type trashRecord struct {
	at   time.Time
	key  string
	item Item
}

func encodeTrash(r *trashRecord) []byte {
	b := appendTime([]byte{trashV1}, r.at)
	return appendItem(appendLong(b, r.key), &r.item)
}

func decodeTrash(b []byte) (r trashRecord, err error) {
	f := fields{b: b}
	version := f.u8()
	r.at = f.time()
	key := f.long()
	if version != trashV1 || f.bad || len(key) == 0 || len(key) > maxKey {
		return trashRecord{}, damaged("trash")
	}
	r.key = string(key)
	r.item, err = decodeItem(f.b)
	return r, err
}

// parts are the fields of a counters record in their order, by the version that added them.
func (c *Counters) parts() [4][]*int64 {
	return [...][]*int64{
		{&c.Items, &c.Bytes, &c.Exempt, &c.TrashItems, &c.TrashBytes},
		{&c.Plans, &c.OpenBytes, &c.ReturnedBytes, &c.KeptItems, &c.KeptBytes},
		{&c.MissingItems, &c.MissingBytes, &c.DamagedItems},
		{&c.UnverifiedItems, &c.UnverifiedBytes, &c.Changes},
	}
}

func allZero(part []*int64) bool {
	return !slices.ContainsFunc(part, func(n *int64) bool { return *n != 0 })
}

// encodeCounters writes the oldest layout that holds them.
func encodeCounters(c Counters) []byte {
	parts := c.parts()
	version := len(parts)
	for version > countersV1 && allZero(parts[version-1]) {
		version--
	}
	b := append(make([]byte, 0, 1+16*8), byte(version))
	for _, part := range parts[:version] {
		for _, n := range part {
			b = binary.LittleEndian.AppendUint64(b, uint64(*n))
		}
	}
	return b
}

func decodeCounters(b []byte) (c Counters, err error) {
	f := fields{b: b}
	version, parts := int(f.u8()), c.parts()
	if version < countersV1 || version > countersV4 {
		return Counters{}, damaged("counters")
	}
	for _, part := range parts[:version] {
		for _, n := range part {
			*n = f.i64()
		}
	}
	if !f.done() || c.negative() || version > countersV1 && allZero(parts[version-1]) {
		return Counters{}, damaged("counters")
	}
	return c, nil
}

func encodeLock(l *Lock) []byte {
	b := []byte{lockV1}
	b = binary.LittleEndian.AppendUint64(b, uint64(l.Acquired.UnixMicro()))
	b = binary.LittleEndian.AppendUint64(b, uint64(l.Since.UnixMicro()))
	b = binary.LittleEndian.AppendUint64(b, uint64(l.TTL))
	return appendLong(appendLong(b, l.Holder), l.Data)
}

func decodeLock(id string, b []byte) (Lock, error) {
	f := fields{b: b}
	version := f.u8()
	l := Lock{ID: id}
	l.Acquired = time.UnixMicro(f.i64()).UTC()
	l.Since = time.UnixMicro(f.i64()).UTC()
	l.TTL = time.Duration(f.i64())
	l.Holder = string(f.long())
	if data := f.long(); len(data) > 0 {
		l.Data = append(make([]byte, 0, len(data)), data...)
	}
	if version != lockV1 || !f.done() || l.TTL < 0 {
		return Lock{}, damaged("lock")
	}
	return l, nil
}

// A keptRecord is a trash record, with how it came to be kept.
type keptRecord struct {
	trashRecord
	proven bool
	by     string
}

func encodeKept(r *keptRecord) []byte {
	proven := byte(0)
	if r.proven {
		proven = 1
	}
	return append(appendLong([]byte{keptV1, proven}, r.by), encodeTrash(&r.trashRecord)...)
}

func decodeKept(b []byte) (r keptRecord, err error) {
	f := fields{b: b}
	version, proven, by := f.u8(), f.u8(), string(f.long())
	if version != keptV1 || proven > 1 || f.bad {
		return keptRecord{}, damaged("kept")
	}
	r.proven, r.by = proven == 1, by
	r.trashRecord, err = decodeTrash(f.b)
	return r, err
}

func encodePlan(p *Plan) []byte {
	b := appendTime([]byte{planV1}, p.At)
	for _, n := range [...]int64{p.Live, p.Sources, p.Bytes} {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	for _, s := range [...]string{p.Principal, p.Address, p.Lock, p.Job} {
		b = appendLong(b, s)
	}
	return b
}

func decodePlan(row, b []byte) (p Plan, err error) {
	f := fields{b: b}
	version := f.u8()
	p.At = f.time()
	p.Live, p.Sources, p.Bytes = f.i64(), f.i64(), f.i64()
	p.Principal, p.Address = string(f.long()), string(f.long())
	p.Lock, p.Job = string(f.long()), string(f.long())
	if version != planV1 || !f.done() || len(row) != planKeySize || p.Live < 0 || p.Sources < 1 || p.Bytes < 0 {
		return Plan{}, damaged("plan")
	}
	p.ID = binary.BigEndian.Uint64(row)
	return p, nil
}

func encodeWriter(at time.Time) []byte {
	return appendTime(append(make([]byte, 0, 9), writerV1), at)
}

func decodeWriter(b []byte) (at time.Time, err error) {
	f := fields{b: b}
	version := f.u8()
	at = f.time()
	if version != writerV1 || !f.done() {
		return time.Time{}, damaged("writer")
	}
	return at, nil
}

// encodeOpaque wraps bytes that are the caller's own: meta values, job records.
func encodeOpaque(version byte, value []byte) []byte {
	return append(append(make([]byte, 0, 1+len(value)), version), value...)
}

// decodeOpaque returns a copy, never nil.
func decodeOpaque(kind string, version byte, b []byte) ([]byte, error) {
	if len(b) < 1 || b[0] != version {
		return nil, damaged(kind)
	}
	return append(make([]byte, 0, len(b)-1), b[1:]...), nil
}

func damaged(kind string) error {
	return fmt.Errorf("%w: %s record does not decode", ErrCorrupt, kind)
}

// fields reads a record from its start. What lies beyond the end reads as
// zeros and sets bad; nothing is allocated.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) next(n int) []byte {
	if n > len(f.b) {
		f.b, f.bad = nil, true
		return nil
	}
	p := f.b[:n]
	f.b = f.b[n:]
	return p
}

func (f *fields) u8() byte {
	if p := f.next(1); p != nil {
		return p[0]
	}
	return 0
}

func (f *fields) u32() uint32 {
	if p := f.next(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

func (f *fields) i64() int64 {
	if p := f.next(8); p != nil {
		return int64(binary.LittleEndian.Uint64(p))
	}
	return 0
}

func (f *fields) time() time.Time { return time.UnixMilli(f.i64()).UTC() }

func (f *fields) timeOrNone() time.Time {
	ms := f.i64()
	if uint64(ms) == noTime {
		return time.Time{}
	}
	t := time.UnixMilli(ms).UTC()
	f.bad = f.bad || t.IsZero()
	return t
}

func (f *fields) short() []byte { return f.next(int(f.u8())) }

func (f *fields) long() []byte {
	if p := f.next(2); p != nil {
		return f.next(int(binary.LittleEndian.Uint16(p)))
	}
	return nil
}

// done reports whether the record had all its fields and nothing after them.
func (f *fields) done() bool { return !f.bad && len(f.b) == 0 }
