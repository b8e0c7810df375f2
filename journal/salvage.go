package journal

import (
	"context"
	"errors"
	"slices"
)

// Salvaged is what Salvage found.
type Salvaged struct {
	// Follows tells that nothing is missing since the position from which it was to look: all groups follow each other, and the first one that position,
	// in a log of that identity.
	Follows bool
	Groups  int64 // that are whole
	// Damaged counts the places behind which the next whole group had to be looked for. A torn group at the end of the log is none, nor is
	// a segment that is not there any more.
	Damaged  int64
	Segments []string // the files in which those places are
}

// Salvage calls fn for each record of each group that is whole and begins at from or later, in order of their positions, whatever is damaged or
// missing before and between them. It is for an index that is made anew. follows tells that nothing is missing since from, see
// Salvaged. Payloads are not read, and not in Replayed: one may be damaged although its record is whole, which reading it tells.
//
// The log must be open for reading only. Payloads can be read meanwhile and afterwards. Errors: those of fn as they are,
// ctx.Err(), ErrVersion, ErrClosed; damage and what cannot be read is no error.
func (l *Log) Salvage(ctx context.Context, from Position, identity uint64, fn func(r Replayed, follows bool) error) (Salvaged, error) {
	if !l.o.ReadOnly {
		return Salvaged{}, errSalvage
	}
	s := &salvage{l: l, from: from, identity: identity, next: -1, fn: fn, segments: *l.segments.Load()}
	index, at := 0, from
	for index < len(s.segments) {
		if index+1 < len(s.segments) && s.segments[index+1].first <= at {
			index++
			continue
		}
		var err error
		if index, at, err = s.stretch(ctx, index, at); err != nil {
			return s.found, err
		}
	}
	s.found.Follows = s.next >= 0
	return s.found, nil
}

var errSalvage = errors.New("a log is salvaged that is not open for reading only")

// salvage is one under way.
type salvage struct {
	l        *Log
	from     Position
	identity uint64
	fn       func(Replayed, bool) error
	segments []*segment

	next    Position // where the group begins that follows; negative: none does
	suspect string   // the file in which something is not whole; it is damage if a group follows
	found   Salvaged
}

// begins tells of the first record of a group, or the first in a segment of one whose first record only ends the segment before.
func begins(h recordHeader) bool { return h.group == h.position || h.flags&flagFirst != 0 }

// stretch delivers the groups from the first one in a segment that begins at a position or behind it, as long as each is whole, and returns where
// to look for the next one.
func (s *salvage) stretch(ctx context.Context, index int, at Position) (nextIndex int, next Position, err error) {
	w := &walk{l: s.l, segments: s.segments, first: true, rowsOnly: true}
	defer w.close()
	if err := w.enter(index); err != nil {
		return s.lost(index, err)
	}
	if first := w.in.first + segmentHeaderSize; at < first {
		if at == s.from && at >= w.in.first {
			s.from = first
		}
		at = first
	}
	if at == s.from && at <= w.in.first+Position(w.read.size) && w.in.identity == s.identity {
		s.next = at
	}
	h, there, err := w.read.find(at, w.in.end(), begins)
	if err != nil || !there {
		return s.lost(index, err)
	}
	if s.next == at && h.position != at {
		s.suspect = w.in.name // what follows is not whole
	}
	for w.at = h.position; ; {
		if err := ctx.Err(); err != nil {
			return 0, 0, err
		}
		broken, err := w.group()
		switch {
		case err != nil && !passedOver(err):
			return 0, 0, err
		case broken != nil || err != nil:
			s.behind(w, broken, err)
			return w.startIn, w.start + 1, nil
		}
		if err := s.deliver(w); err != nil {
			return 0, 0, err
		}
	}
}

// passedOver tells of errors that are damage, or a segment that is not there.
func passedOver(err error) bool {
	return errors.Is(err, ErrCorrupt) || errors.Is(err, ErrMissing) || errors.Is(err, ErrRemoved)
}

// lost ends the search in a segment: because nothing is left in it (err is nil), or as it cannot be read.
func (s *salvage) lost(index int, err error) (nextIndex int, next Position, _ error) {
	switch {
	case err == nil:
	case errors.Is(err, ErrCorrupt):
		s.suspect = fileName(s.segments[index].first)
	case !passedOver(err):
		return 0, 0, err
	}
	return index + 1, 0, nil
}

// behind notes why the group that the walk is in is not whole. Where nothing but zeros lies, and where a segment is not there, nothing is
// damaged.
func (s *salvage) behind(w *walk, broken *DamageError, err error) {
	if damage, ok := errors.AsType[*DamageError](err); ok {
		broken = damage
	}
	switch {
	case broken == nil: // a segment is not there
		return
	case err == nil && len(w.found) == 0: // perhaps the log ends there
		if unused, err := w.read.isZero(broken.Offset, w.read.size); err == nil && unused {
			return
		}
	}
	s.suspect = broken.File
}

// deliver calls fn with the records of the group that was read.
func (s *salvage) deliver(w *walk) error {
	follows := s.next >= 0 && w.start == s.next
	if !follows && s.suspect != "" {
		s.found.Damaged++
		if !slices.Contains(s.found.Segments, s.suspect) {
			s.found.Segments = append(s.found.Segments, s.suspect)
		}
	}
	s.suspect, s.next = "", -1
	if follows {
		s.next = w.at
	}
	s.found.Groups++
	return w.deliver(func(r Replayed) error { return s.fn(r, follows) })
}
