package compact

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/zeebo/blake3"

	"packhouse/index"
	"packhouse/repo"
)

// A V'Ger pack: magic and version, then blobs, each behind its length. Source: vger-rest, 4.1.
const (
	packHeader = "VGERPACK\x01"
	prefixSize = 4 // bytes of a blob's length, u32 little-endian
)

// openSources is how many items one operation keeps open: plans read items one after the other, or alternate between a few.
const openSources = 8

// readAhead is how many bytes of an operation's sources are requested from the disk in advance, in the current source and the next one.
const readAhead = 4 << 20

// extent is a sequence of adjacent ranges of a source.
type extent struct {
	first, next int   // the ranges from first on, before next
	start, end  int64 // of what is left of it, in the source
}

// extents reads the output of an operation from its sources. Adjacent ranges are read together. In a V'Ger pack the length prefixes are
// read together with the blobs, because the output has the same bytes, and compared meanwhile.
type extents struct {
	r      *run
	s      *survey
	op     int
	ranges []Range
	frame  Frame
	header string // of the output, not handed out yet

	now        extent
	wholeItem  bool      // the extent is a whole item
	whole      hash.Hash // its BLAKE3 then, of an item whose blocks are not checked while they are read; else nil
	ahead      extent    // what the disk was told of last, behind now
	hinted     int64     // bytes from now to there; 0 or negative: it is behind
	sources    int       // changes of the source from now to there
	prefix     int       // range whose prefix is looked for next
	prefixAt   int64     // in how many bytes it begins; behind the end of the bytes at hand often
	prefixSeen []byte    // bytes of it, when a buffer ended inside

	open []*repo.Object // most recently used last
}

func newExtents(r *run, s *survey, i int, op *Operation) *extents {
	x := &extents{r: r, s: s, op: i, ranges: op.Ranges, frame: op.Frame}
	if op.Frame == VGerPack {
		x.header = packHeader
	}
	return x
}

func (x *extents) close() {
	for _, object := range x.open {
		object.Close()
	}
}

// bounds returns the position of range i in its source, including its prefix.
func (x *extents) bounds(i int) (start, end int64) {
	rng := x.ranges[i]
	return bounds(x.s.sources[rng.Key].item.Size, rng, x.frame)
}

// key is the source of an extent.
func (x *extents) key(e extent) string { return x.ranges[e.first].Key }

// after returns the extent that follows e: as many ranges as are adjacent, with at least one byte.
func (x *extents) after(e extent) (extent, bool) {
	for e.next < len(x.ranges) {
		e.first = e.next
		key := x.key(e)
		e.start, e.end = x.bounds(e.first)
		for e.next++; e.next < len(x.ranges) && x.ranges[e.next].Key == key; e.next++ {
			start, end := x.bounds(e.next)
			if start != e.end {
				break
			}
			e.end = end
		}
		if e.start < e.end {
			return e, true
		}
	}
	return e, false
}

// advance goes on to the next extent.
func (x *extents) advance() bool {
	e, ok := x.after(x.now)
	if !ok {
		return false
	}
	if x.key(e) != x.key(x.now) {
		x.sources--
	}
	x.now, x.whole = e, nil
	x.wholeItem = e.start == 0 && e.end == x.s.sources[x.key(e)].item.Size
	return true
}

// hint requests readahead for what will be read next, up to readAhead bytes. Its error is that of the next source, found early: the source
// has changed.
func (x *extents) hint(ctx context.Context) error {
	if x.hinted <= 0 {
		x.ahead, x.hinted, x.sources = x.now, 0, 0
	}
	for x.hinted < readAhead {
		if x.ahead.start == x.ahead.end {
			e, ok := x.after(x.ahead)
			if !ok {
				return nil
			}
			if x.key(e) != x.key(x.ahead) {
				x.sources++
			}
			x.ahead = e
		}
		if x.sources > 1 {
			return nil // else what is open now would be closed for it
		}
		object, err := x.object(ctx, x.key(x.ahead))
		if err != nil {
			return x.wrong(x.ahead.first, err, "")
		}
		n := min(x.ahead.end-x.ahead.start, readAhead-x.hinted)
		object.ReadAhead(x.ahead.start, n)
		x.ahead.start += n
		x.hinted += n
	}
	return nil
}

// fill reads the next bytes of the output into p. It fills p completely except at the end, where err is io.EOF.
func (x *extents) fill(ctx context.Context, p []byte) (n int, err error) {
	n = copy(p, x.header)
	x.header = x.header[n:]
	body := n
	for n < len(p) {
		if x.now.start == x.now.end && !x.advance() {
			err = io.EOF
			break
		}
		part := p[n:min(int64(len(p)), int64(n)+x.now.end-x.now.start)]
		if err := x.readPart(ctx, part); err != nil {
			return n, err
		}
		n += len(part)
	}
	if x.frame == VGerPack {
		if err := x.checkPrefixes(p[body:n]); err != nil {
			return n, err
		}
	}
	return n, err
}

// readPart fills part from the current extent.
func (x *extents) readPart(ctx context.Context, part []byte) error {
	if err := x.r.e.throttle(ctx, int64(len(part)), x.r.background); err != nil {
		return err
	}
	key := x.key(x.now)
	if err := x.hint(ctx); err != nil {
		return err
	}
	object, err := x.object(ctx, key)
	if err != nil {
		return x.wrong(x.now.first, err, "")
	}
	if x.wholeItem && x.now.start == 0 && !object.Checked() && object.Item.Flags&index.FlagUnverified == 0 {
		x.whole = blake3.New()
	}
	if n, err := object.ReadAt(part, x.now.start); errors.Is(err, repo.ErrDamaged) {
		return x.wrong(x.now.first, err, "") // it is marked and logged
	} else if n < len(part) {
		x.r.e.o.Logger.Error("item cannot be read", "key", key, "offset", x.now.start, "error", err)
		return x.wrong(x.now.first, repo.ErrCorrupt, "the stored bytes cannot be read")
	}
	x.r.read.Add(int64(len(part)))
	x.now.start += int64(len(part))
	x.hinted -= int64(len(part))
	if x.whole == nil {
		return nil
	}
	x.whole.Write(part)
	if x.now.start == x.now.end && object.Item.Flags&index.FlagDamaged == 0 && [32]byte(x.whole.Sum(nil)) != object.Item.BLAKE3 {
		// Verify reads it again, and marks it if it is damaged indeed.
		entry := index.Entry{Key: key, Item: object.Item}
		pace := func(n int64) error { return x.r.e.throttle(ctx, n, x.r.background) }
		return x.wrong(x.now.first, errors.Join(repo.ErrCorrupt, x.r.repo.Verify(ctx, entry, pace)), "")
	}
	return nil
}

// wrong is an error of range i.
func (x *extents) wrong(i int, err error, format string, args ...any) error {
	var plan *PlanError
	if errors.As(err, &plan) || errors.Is(err, context.Canceled) {
		return err
	}
	return &PlanError{
		Operation: x.op, Range: i, Key: x.ranges[i].Key, Offset: x.ranges[i].Offset,
		Err: err, Detail: fmt.Sprintf(format, args...),
	}
}

// object opens a source, which must still be the item that the survey found.
func (x *extents) object(ctx context.Context, key string) (*repo.Object, error) {
	last := len(x.open) - 1
	for i := last; i >= 0; i-- {
		if object := x.open[i]; object.Key == key {
			copy(x.open[i:], x.open[i+1:])
			x.open[last] = object
			return object, nil
		}
	}
	object, err := x.openSource(ctx, key)
	if err != nil {
		return nil, err
	}
	unproven := object.Unproven() && !x.wholeItem || object.Item.Flags&index.FlagUnverified != 0
	if unproven && object.Item.Flags&index.FlagDamaged == 0 { // one that is damaged is being salvaged
		// A wrong byte in the range would get checksums that say that it is right. So all of the source is read once, which makes its own; one
		// that was adopted is held against the digest in its name.
		entry := index.Entry{Key: key, Item: object.Item}
		object.Close()
		pace := func(n int64) error { return x.r.e.throttle(ctx, n, x.r.background) }
		if err := x.r.repo.Verify(ctx, entry, pace); err != nil {
			return nil, err
		}
		if object, err = x.openSource(ctx, key); err != nil {
			return nil, err
		}
	}
	if len(x.open) == openSources {
		x.open[0].Close()
		x.open = append(x.open[:0], x.open[1:]...)
	}
	x.open = append(x.open, object)
	return object, nil
}

func (x *extents) openSource(ctx context.Context, key string) (*repo.Object, error) {
	object, err := x.r.a.OpenRange(ctx, key)
	switch {
	case errors.Is(err, repo.ErrNotFound):
		return nil, errGone
	case err != nil:
		return nil, err
	case object.Item.Ref != x.s.sources[key].item.Ref:
		object.Close()
		return nil, errChanged
	}
	return object, nil
}

var (
	errChanged = fmt.Errorf("%w: the item is not what it was when the plan began", repo.ErrConflict)
	errGone    = fmt.Errorf("%w: the item was deleted while the plan ran", repo.ErrConflict)
)

// checkPrefixes compares the length prefixes in p, the next bytes of the output behind its header.
func (x *extents) checkPrefixes(p []byte) error {
	for {
		if len(x.prefixSeen) == 0 && x.prefixAt >= int64(len(p)) {
			x.prefixAt -= int64(len(p))
			return nil
		}
		p = p[x.prefixAt:]
		x.prefixAt = 0
		if x.prefix == len(x.ranges) {
			return nil
		}
		n := min(prefixSize-len(x.prefixSeen), len(p))
		x.prefixSeen = append(x.prefixSeen, p[:n]...)
		p = p[n:]
		if len(x.prefixSeen) < prefixSize {
			return nil
		}
		got := int64(binary.LittleEndian.Uint32(x.prefixSeen))
		if want := x.ranges[x.prefix].Length; got != want {
			return x.wrong(x.prefix, repo.ErrInvalid, "the item says that this blob has %d bytes, the plan %d", got, want)
		}
		x.prefixAt = x.ranges[x.prefix].Length
		x.prefixSeen = x.prefixSeen[:0]
		x.prefix++
	}
}
