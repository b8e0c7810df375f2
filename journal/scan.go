package journal

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Scan reads and verifies all records of the segment that begins at first, as they lie in it, for scrub and rebuild: fn is
// called with each, whether the rest of its group is there or not, and with a *DamageError for what does not verify, of
// which Replayed has the Position alone. Behind damage it goes on with the next record that verifies. A record of which the
// payloads lie in two segments is one in each; the first has no body.
//
// It may be called while groups are appended: these are not read. Before Replay, or when that has found damage, it reads on
// to the end of what was written. Errors: that of fn, ctx.Err(), ErrRemoved, ErrVersion, ErrCorrupt when the segment's
// header is damaged or something cannot be read, ErrClosed, else I/O.
func (l *Log) Scan(ctx context.Context, first Position, fn func(Replayed, error) error) error {
	in, err := l.segmentAt(first)
	if err != nil {
		return err
	}
	defer in.release()
	durable := Position(l.durable.Load())
	end := min(in.end(), durable)
	read, err := newWindow(in)
	if err != nil {
		return err
	}
	w := &walk{l: l, in: in, read: read}
	for at := in.first + segmentHeaderSize; at < end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		r, next, err := w.record(at)
		damage, damaged := errors.AsType[*DamageError](err)
		switch {
		case damaged && damage.Err == nil:
			h, found, err := read.find(at+1, end, func(recordHeader) bool { return true })
			if err != nil {
				return err
			}
			if next = end; found {
				next = h.position
			} else if durable == endUnknown {
				if zero, err := read.isZero(int64(at-in.first), read.size); zero || err != nil {
					return err
				}
			}
			r = Replayed{Position: at}
		case err != nil:
			return err
		case r.Kind == kindEnd:
			return nil // the rest is not used
		}
		if err := fn(r, err); err != nil {
			return err
		}
		at = next
	}
	return nil
}

// record reads the record at a position, and says where the next one is.
func (w *walk) record(at Position) (r Replayed, next Position, err error) {
	h, what, err := w.headerAt(at)
	if err != nil {
		return r, 0, err
	}
	if what != "" {
		return r, 0, w.broken(at, what)
	}
	if h.flags&^flagsKnown != 0 {
		return r, 0, fmt.Errorf("%w: %s at %d: record with flags %x", ErrVersion, w.in.name, h.position-w.in.first, h.flags)
	}
	w.payloads = w.payloads[:0]
	broken, err := w.content(h)
	if err != nil {
		return r, 0, err
	}
	if broken != nil {
		return r, 0, broken
	}
	body, err := w.read.at(int64(at-w.in.first)+h.bodyAt(), int64(h.bodyBytes))
	if err != nil {
		return r, 0, err
	}
	r = Replayed{
		Position: h.position, Group: h.group, Last: h.flags&flagLast != 0, Time: time.Unix(0, h.time), Epoch: h.epoch,
		Kind: h.kind, Body: body, Payloads: w.payloads,
	}
	return r, at + Position(h.size()), nil
}
