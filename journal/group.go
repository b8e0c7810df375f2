package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"
	"time"
)

const (
	// keepBuffer is how large a group's buffer may be that is kept for the next one, whatever that needs.
	keepBuffer = 1 << 20

	// keepUnused is for how many groups a larger buffer is kept of which less than a quarter is needed.
	keepUnused = 16
)

// Group collects the records of one append. It gives each payload its place at once, so that what is written about
// it (a row with its position) can go into the body of the same group, and it encodes as it goes: while one
// group is written and synced, the next can be made. Its zero value is ready for Log.Begin.
//
// A record is payloads, none or more, and then a body. Not safe for concurrent use, but for Begin with it as the one before.
type Group struct {
	log        *Log
	generation uint64   // of the log when the group was begun
	start, at  Position // where it begins; where its next byte comes to lie

	sealing sync.Mutex // held over seal, as Begin of the next group may come while Append has this one
	sealed  bool       // guarded by sealing; nothing above or below changes when it is set

	segment *tail   // that the next byte comes to lie in
	buffer  []byte  // all parts, one behind the other
	unused  int     // how many groups in a row needed less than a quarter of it
	parts   []part  // one for each segment
	pieces  []piece // records as they lie in segments
	open    bool    // the last piece takes payloads
	record  int     // index of the first piece of the record being made
}

// part is what of a group lies in one segment.
type part struct {
	segment  *tail
	at       Position
	from, to int // in the buffer
}

// piece is a record, or of one whose payloads lie in several segments what lies in one.
type piece struct {
	recordHeader
	segment *tail
	from    int  // in the buffer
	ends    bool // it is the record that ends the segment
}

// Begin makes g a group that is placed behind after, or, when after is nil, behind all that was appended. No
// more can be added to after then. g's memory is used again: what was returned of a group that it was before stays true,
// and g must not be with Append.
//
// The places hold if after is appended next, and then g. If that fails, Append refuses g with ErrStale. Errors: ErrClosed,
// ErrFailed, ErrReadOnly; g then takes nothing.
func (l *Log) Begin(g, after *Group) error {
	buffer, unused := g.buffer[:0], 0
	if cap(buffer) > keepBuffer && len(g.buffer) < cap(buffer)/4 {
		unused = g.unused + 1
	}
	if unused > keepUnused {
		buffer, unused = nil, 0
	}
	*g = Group{log: l, sealed: true, buffer: buffer, unused: unused, parts: g.parts[:0], pieces: g.pieces[:0]}
	if after != nil {
		if err := after.seal(l.o.Now()); err != nil {
			return err
		}
		g.generation, g.start, g.segment = after.generation, after.at, after.segment
	} else {
		l.mu.Lock()
		defer l.mu.Unlock()
		if err := l.readyLocked(); err != nil {
			return err
		}
		g.generation, g.start, g.segment = l.generation, l.end, l.tails[0]
	}
	g.at, g.sealed = g.start, false
	g.beginPart()
	return nil
}

func (g *Group) beginPart() {
	g.parts = append(g.parts, part{segment: g.segment, at: g.at, from: len(g.buffer), to: len(g.buffer)})
}

// Start is where the group begins: what Replayed.Group will be.
func (g *Group) Start() Position { return g.start }

// End is where the next group begins, if nothing is added to this one.
func (g *Group) End() Position { return g.at }

// Size is how many bytes the group has in its buffer.
func (g *Group) Size() int { return len(g.buffer) }

// Payload adds p to the record being made and returns where it will lie: what ReadPayload is asked for, with len(p).
// p is copied. Errors: ErrTooLarge, and nothing was added.
func (g *Group) Payload(p []byte) (Position, error) {
	if g.sealed {
		return 0, errSealed
	}
	prefix := entryPrefix(int64(len(p)))
	if err := g.fit(prefix + int64(len(p))); err != nil {
		return 0, err
	}
	g.openPiece()
	h := &g.pieces[len(g.pieces)-1].recordHeader
	salt := g.segment.salt
	at := g.at + Position(prefix)

	from := len(g.buffer)
	g.buffer = binary.LittleEndian.AppendUint32(g.buffer, uint32(len(p)))
	for off := 0; off < len(p); off += blockSize {
		sum := sumOf(salt, at+Position(off), p[off:min(off+blockSize, len(p))])
		g.buffer = binary.LittleEndian.AppendUint32(g.buffer, sum)
	}
	if h.payloads == 0 {
		h.entriesSum = seed(salt, h.position)
	}
	h.entriesSum = crc32.Update(h.entriesSum, castagnoli, g.buffer[from:])
	g.buffer = append(g.buffer, p...)
	h.payloads++
	h.payloadBytes += uint32(prefix) + uint32(len(p))
	g.at = at + Position(len(p))
	return at, nil
}

// Record ends a record of the payloads added since the one before it, with body. kind is not 0. body is copied.
// Errors: ErrTooLarge, and nothing was added.
func (g *Group) Record(kind Kind, body []byte) error {
	switch {
	case g.sealed:
		return errSealed
	case kind == kindEnd:
		return errKind
	}
	if err := g.fit(int64(len(body))); err != nil {
		return err
	}
	g.openPiece()
	h := &g.pieces[len(g.pieces)-1].recordHeader
	if len(body) > 0 {
		h.bodyBytes, h.bodySum = uint32(len(body)), sumOf(g.segment.salt, g.at, body)
	}
	g.buffer = append(g.buffer, body...)
	g.at += Position(len(body))
	g.open = false
	for i := g.record; i < len(g.pieces); i++ {
		if !g.pieces[i].ends {
			g.pieces[i].kind = kind
		}
	}
	g.record = len(g.pieces)
	return nil
}

// fit goes on in the next segment if n bytes more do not fit into the record in this one. Behind each record there is space
// for the one that ends the segment.
func (g *Group) fit(n int64) error {
	if n > g.log.MaxRecord() {
		return fmt.Errorf("%w: %d bytes, at most %d fit", ErrTooLarge, n, g.log.MaxRecord())
	}
	need := Position(n) + recordHeaderSize
	if !g.open {
		need += recordHeaderSize
	}
	if g.at+need <= g.segment.end() {
		return nil
	}
	return g.next()
}

// Skip lets a group to which nothing was added begin in the next segment; the rest of this one stays unused.
// Errors: as of Begin.
func (g *Group) Skip() error {
	if g.sealed {
		return errSealed
	}
	return g.next()
}

// InOne tells whether all records of the group lie in one segment, so that the group is whole as long as that is there.
func (g *Group) InOne() bool {
	return !slices.ContainsFunc(g.pieces, func(p piece) bool { return !p.ends && p.segment != g.segment })
}

// next goes on in the next segment.
func (g *Group) next() error {
	next, err := g.log.segmentAfter(g.segment)
	if err != nil {
		return err
	}
	if g.open {
		g.pieces[len(g.pieces)-1].flags |= flagMore
		g.open = false
	}
	g.addPiece(true)
	g.parts[len(g.parts)-1].to = len(g.buffer)
	g.segment = next
	g.at = next.first + segmentHeaderSize
	g.beginPart()
	return nil
}

// openPiece begins a record if none is begun.
func (g *Group) openPiece() {
	if !g.open {
		g.addPiece(false)
		g.open = true
	}
}

// addPiece begins a record, or adds the one that ends the segment. seal will write its header.
func (g *Group) addPiece(ends bool) {
	h := recordHeader{position: g.at, group: g.start, epoch: g.segment.epoch}
	g.pieces = append(g.pieces, piece{recordHeader: h, segment: g.segment, from: len(g.buffer), ends: ends})
	var space [recordHeaderSize]byte
	g.buffer = append(g.buffer, space[:]...)
	g.at += recordHeaderSize
}

// seal completes the group: its headers can be written when it is known which record is the last.
func (g *Group) seal(now time.Time) error {
	g.sealing.Lock()
	defer g.sealing.Unlock()
	switch {
	case g.sealed:
		return nil
	case g.open || g.record < len(g.pieces):
		return errOpenRecord
	case len(g.pieces) == 0:
		return errEmpty
	}
	g.sealed = true
	g.parts[len(g.parts)-1].to = len(g.buffer)
	first := 0
	for g.pieces[first].ends {
		first++
	}
	g.pieces[first].flags |= flagFirst
	g.pieces[len(g.pieces)-1].flags |= flagLast
	previous := uint32(0)
	for i := range g.pieces {
		p := &g.pieces[i]
		p.time, p.previous = now.UnixNano(), previous
		p.encode(g.buffer[p.from:], p.segment.salt)
		previous = p.sum
	}
	return nil
}
