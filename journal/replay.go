package journal

import (
	"context"
	"fmt"
	"sort"
	"time"
)

// Payload says where a payload lies.
type Payload struct {
	At     Position
	Length int64
}

// Replayed is a record that Replay found.
type Replayed struct {
	Position Position // of the record
	Group    Position // where its group begins: before Position also for a first record whose group began with the end of a segment
	Last     bool     // of its group
	Time     time.Time
	Epoch    uint64
	Kind     Kind
	Body     []byte    // not to be kept or changed
	Payloads []Payload // likewise
}

// Replay calls fn for each record of each whole group that begins at from or later, in order, after all of the group was
// read and verified. Then it drops what is left of a group that was being appended when the log stopped, durably, and the
// log can be appended to. doc.go says how that is told from damage.
//
// from is where a group begins, or the log ends, or the start of a segment: then it is all groups of which the first record
// lies in it or later. It is to be called once, after Open. On error the log cannot be appended to, and nothing that it
// promises to keep was changed; fn may have been called. Errors: those of fn as they are, ctx.Err(), ErrRemoved, ErrMissing,
// ErrBeyondEnd, ErrPosition, ErrVersion, ErrCorrupt (always a *DamageError), ErrFailed (of the dropping), else I/O.
func (l *Log) Replay(ctx context.Context, from Position, fn func(Replayed) error) error {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	l.mu.Lock()
	closed, replayed := l.closed, l.replayed
	l.mu.Unlock()
	switch {
	case closed:
		return ErrClosed
	case replayed:
		return errReplayed
	}
	w := &walk{l: l, segments: *l.segments.Load(), first: true}
	defer w.close()
	if err := w.begin(from); err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		broken, err := w.group()
		if err != nil {
			return err
		}
		if broken != nil {
			if err := w.torn(broken); err != nil {
				return err
			}
			if err := w.noteDropped(broken); err != nil {
				return err
			}
			return w.finish()
		}
		if err := w.deliver(fn); err != nil {
			return err
		}
	}
}

// walk is a replay under way.
type walk struct {
	l        *Log
	segments []*segment // those of the log from where the replay began

	index int          // of the segment it is in
	in    *openSegment // which is open
	read  *window
	at    Position // where the next record is to be

	start    Position // of the group it is in, or that is to begin: the log ends there if the group is not whole
	named    Position // what records of the group have as its position; before start only at the oldest segment
	first    bool     // no record was read yet
	rowsOnly bool     // payloads are not verified
	startIn  int      // index of the segment where that is
	found    []foundRecord
	payloads []Payload // of all records in found
	sums     []byte    // of the payload being verified
	rest     *window   // for bodies of earlier segments
}

// foundRecord is a record of the group that the walk is in.
type foundRecord struct {
	recordHeader
	index    int // of the segment
	payloads int // how many of payloads are of it and those before it
}

func (w *walk) close() {
	if w.in != nil {
		w.in.release()
	}
}

// enter goes to a segment.
func (w *walk) enter(index int) error {
	in, err := w.l.files.use(w.segments[index])
	if err != nil {
		return err
	}
	if w.in != nil {
		if before := w.in; in.identity != before.identity {
			err = &DamageError{File: in.name, What: "it is of another log"}
		} else if in.previous != before.salt {
			err = &DamageError{File: in.name, What: "it does not follow " + before.name}
		}
		w.in.release()
	}
	w.in, w.index = in, index
	if err != nil {
		return err
	}
	w.read, err = newWindow(in)
	return err
}

// begin finds where the replay begins.
func (w *walk) begin(from Position) error {
	all := w.segments
	i := sort.Search(len(all), func(i int) bool { return all[i].first > from }) - 1
	if i < 0 {
		return fmt.Errorf("%w: %d, the oldest segment begins at %d", ErrRemoved, from, all[0].first)
	}
	w.segments = all[i:]
	if err := w.enter(0); err != nil {
		return err
	}
	if from >= w.in.end() {
		if len(w.segments) == 1 {
			return fmt.Errorf("%w: %d, the last segment ends at %d", ErrBeyondEnd, from, w.in.end())
		}
		return fmt.Errorf("%w: %s", ErrMissing, fileName(w.in.end()))
	}
	w.at = max(from, w.in.first+segmentHeaderSize)
	return w.checkStart()
}

// checkStart makes sure that a group begins, or the log ends, where the replay begins: else a position of another log would
// cost records.
func (w *walk) checkStart() error {
	off := int64(w.at - w.in.first)
	if off == segmentHeaderSize {
		return w.skipRest()
	}
	if off == w.read.size {
		return nil
	}
	if off > w.read.size {
		return fmt.Errorf("%w: %d, %s ends at %d", ErrBeyondEnd, w.at, w.in.name, w.in.first+Position(w.read.size))
	}
	h, what, err := w.headerAt(w.at)
	if err != nil {
		return err
	}
	if what == "" {
		if h.group != h.position {
			return fmt.Errorf("%w: %d is within the group at %d", ErrPosition, w.at, h.group)
		}
		return nil
	}
	// Nothing there: the records before it must lead there.
	at := w.in.first + segmentHeaderSize
	for at < w.at {
		h, what, err := w.headerAt(at)
		if err != nil {
			return err
		}
		if what == "" {
			at += Position(h.size())
			continue
		}
		next, found, err := w.read.find(at+1, w.at, func(recordHeader) bool { return true })
		if err != nil {
			return err
		}
		if !found {
			return w.skipDamage(at)
		}
		at = next.position
	}
	if at > w.at {
		return fmt.Errorf("%w: %d is within a record", ErrPosition, w.at)
	}
	return nil
}

// skipRest goes behind the group that began in the segment before the one where the replay begins.
func (w *walk) skipRest() error {
	for {
		h, what, err := w.headerAt(w.at)
		if err != nil || what != "" || h.flags&flagFirst != 0 || h.group == h.position {
			return err
		}
		w.at += Position(h.size())
		if h.kind == kindEnd {
			if err := w.next(); err != nil {
				return err
			}
		}
	}
}

// skipDamage decides when no record is left between at and the start of the replay: what is not zeros was one, which is not
// replayed and does not matter now.
func (w *walk) skipDamage(at Position) error {
	zero, err := w.read.isZero(int64(at-w.in.first), int64(w.at-w.in.first))
	if err != nil {
		return err
	}
	if zero {
		return fmt.Errorf("%w: %d, the log ends at %d", ErrBeyondEnd, w.at, at)
	}
	return nil
}

// headerAt reads a record's header; what says why there is none.
func (w *walk) headerAt(at Position) (h recordHeader, what string, err error) {
	off := int64(at - w.in.first)
	if off+recordHeaderSize > min(w.read.size, w.in.size) {
		return h, "segment ends there", nil
	}
	b, err := w.read.at(off, recordHeaderSize)
	if err != nil {
		return h, "", err
	}
	h, what = decodeRecordHeader(b, w.in.salt, at)
	if what == "" && at+Position(h.size()) > w.in.end() {
		what = fmt.Sprintf("record of %d bytes is longer than its segment", h.size())
	}
	return h, what, nil
}

// group reads and verifies the group at w.at. broken says where it is not whole; an error is what a torn group cannot be the
// cause of.
func (w *walk) group() (broken *DamageError, err error) {
	w.start, w.named, w.startIn, w.found, w.payloads = w.at, w.at, w.index, w.found[:0], w.payloads[:0]
	previous := uint32(0)
	for {
		h, what, err := w.headerAt(w.at)
		if err != nil {
			return nil, err
		}
		if what != "" {
			return w.broken(w.at, what), nil
		}
		if w.first && h.flags&flagFirst != 0 && h.group < w.at {
			w.named, previous = h.group, h.previous
		}
		w.first = false
		if err := w.belongs(h); err != nil {
			return nil, err
		}
		if h.previous != previous {
			return w.broken(w.at, "record does not follow the one before it"), nil
		}
		if broken, err := w.content(h); broken != nil || err != nil {
			return broken, err
		}
		previous = h.sum
		w.found = append(w.found, foundRecord{h, w.index, len(w.payloads)})
		w.at += Position(h.size())
		if h.kind == kindEnd {
			if err := w.next(); err != nil {
				return nil, err
			}
			continue
		}
		if h.flags&flagLast != 0 {
			return nil, nil
		}
	}
}

func (w *walk) broken(at Position, what string) *DamageError {
	return &DamageError{File: w.in.name, Offset: int64(at - w.in.first), What: what}
}

// belongs refuses a record that is whole and cannot be the next one of the group. No torn write makes one.
func (w *walk) belongs(h recordHeader) error {
	what := ""
	switch {
	case h.flags&^flagsKnown != 0:
		return fmt.Errorf("%w: %s at %d: record with flags %x", ErrVersion, w.in.name, h.position-w.in.first, h.flags)
	case h.group != w.named:
		what = fmt.Sprintf("record belongs to a group at %d, not %d", h.group, w.named)
	case h.epoch != w.in.epoch:
		what = fmt.Sprintf("record is of epoch %d, its segment of %d", h.epoch, w.in.epoch)
	case h.kind == kindEnd && (h.flags != 0 || h.payloadBytes != 0 || h.bodyBytes != 0):
		what = "record that ends the segment is more than a header"
	case h.flags&flagMore != 0 && (h.flags&flagLast != 0 || h.bodyBytes != 0):
		what = "record that is continued has a body"
	default:
		return nil
	}
	return w.broken(h.position, what)
}

// next goes to the segment behind one that is full: it was there, durably, before the end of this one was written.
func (w *walk) next() error {
	end := w.in.end()
	if w.index+1 == len(w.segments) || w.segments[w.index+1].first != end {
		return fmt.Errorf("%w: %s", ErrMissing, fileName(end))
	}
	err := w.enter(w.index + 1)
	w.at = end + segmentHeaderSize
	return err
}

// deliver calls fn with the records of the group that was read.
func (w *walk) deliver(fn func(Replayed) error) error {
	from := 0 // payloads of the record begin there, as it may lie in several segments
	for _, r := range w.found {
		if r.kind == kindEnd || r.flags&flagMore != 0 {
			continue
		}
		body, err := w.body(r)
		if err != nil {
			return err
		}
		err = fn(Replayed{
			Position: r.position, Group: r.group, Last: r.flags&flagLast != 0,
			Time: time.Unix(0, r.time), Epoch: r.epoch, Kind: r.kind,
			Body: body, Payloads: w.payloads[from:r.payloads:r.payloads],
		})
		if err != nil {
			return err
		}
		from = r.payloads
	}
	return nil
}

// body reads a body that was verified.
func (w *walk) body(r foundRecord) ([]byte, error) {
	in, read := w.in, w.read
	if r.index != w.index {
		var err error
		if in, err = w.l.files.use(w.segments[r.index]); err != nil {
			return nil, err
		}
		defer in.release()
		if w.rest == nil || w.rest.of != in {
			if w.rest, err = newWindow(in); err != nil {
				return nil, err
			}
		}
		read = w.rest
	}
	off := int64(r.position-in.first) + r.bodyAt()
	b, err := read.at(off, int64(r.bodyBytes))
	if err != nil {
		return nil, err
	}
	if len(b) > 0 && sumOf(in.salt, r.position+Position(r.bodyAt()), b) != r.bodySum {
		return nil, &DamageError{File: in.name, Offset: off, What: "body changed while it was read"}
	}
	return b, nil
}
