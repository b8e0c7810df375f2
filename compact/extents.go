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

// openSources is how many items one operation holds open: plans go through one after the
// other, or alternate between a few.
const openSources = 8

// extents reads the output of an operation from its sources. Ranges that lie one behind the other are
// read as one. Of a V'Ger pack the length prefixes are read with the blobs, for they
// are the same bytes in the output, and compared on the way.
type extents struct {
	r      *run
	s      *survey
	op     int
	ranges []Range
	frame  Frame
	header string // of the output, not handed out yet

	next       int   // range behind the current extent
	first      int   // range with which the current extent begins
	start      int64 // of what is left of the extent, in its source
	end        int64
	whole      hash.Hash // BLAKE3 of an extent that is a whole item, else nil
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

// bounds are the bytes of range i in its source, its prefix included.
func (x *extents) bounds(i int) (start, end int64) {
	rng := x.ranges[i]
	start, _ = resolve(x.s.sources[rng.Key].item.Size, rng)
	end = start + rng.Length
	if x.frame == VGerPack {
		start -= prefixSize
	}
	return start, end
}

// advance takes the next extent: as many ranges as lie one behind the other.
func (x *extents) advance() bool {
	for x.next < len(x.ranges) {
		x.first = x.next
		key := x.ranges[x.first].Key
		x.start, x.end = x.bounds(x.first)
		for x.next++; x.next < len(x.ranges) && x.ranges[x.next].Key == key; x.next++ {
			start, end := x.bounds(x.next)
			if start != x.end {
				break
			}
			x.end = end
		}
		if x.start < x.end {
			x.whole = nil
			if x.start == 0 && x.end == x.s.sources[key].item.Size {
				x.whole = blake3.New()
			}
			return true
		}
	}
	return false
}

// fill reads the next bytes of the output into p, whole p but at the end: then err is io.EOF.
func (x *extents) fill(ctx context.Context, p []byte) (n int, err error) {
	n = copy(p, x.header)
	x.header = x.header[n:]
	body := n
	for n < len(p) {
		if x.start == x.end && !x.advance() {
			err = io.EOF
			break
		}
		part := p[n:min(int64(len(p)), int64(n)+x.end-x.start)]
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
	key := x.ranges[x.first].Key
	object, err := x.object(ctx, key)
	if err != nil {
		return x.wrong(x.first, err, "")
	}
	if n, err := object.ReadAt(part, x.start); n < len(part) {
		x.r.e.o.Logger.Error("item cannot be read", "key", key, "offset", x.start, "error", err)
		return x.wrong(x.first, repo.ErrCorrupt, "the stored bytes cannot be read")
	}
	x.r.read.Add(int64(len(part)))
	x.start += int64(len(part))
	if x.whole == nil {
		return nil
	}
	x.whole.Write(part)
	if x.start == x.end && [32]byte(x.whole.Sum(nil)) != object.Item.BLAKE3 {
		// Verify reads it again, and marks it if it is damaged indeed.
		entry := index.Entry{Key: key, Item: object.Item}
		pace := func(n int64) error { return x.r.e.throttle(ctx, n, x.r.background) }
		return x.wrong(x.first, errors.Join(repo.ErrCorrupt, x.r.a.Repository().Verify(ctx, entry, pace)), "")
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

// object opens a source, which must still be what the survey saw.
func (x *extents) object(ctx context.Context, key string) (*repo.Object, error) {
	last := len(x.open) - 1
	for i := last; i >= 0; i-- {
		if object := x.open[i]; object.Key == key {
			copy(x.open[i:], x.open[i+1:])
			x.open[last] = object
			return object, nil
		}
	}
	object, err := x.r.a.Open(ctx, key)
	if errors.Is(err, repo.ErrNotFound) {
		return nil, errGone
	}
	if err != nil {
		return nil, err
	}
	if object.Item.Ref != x.s.sources[key].item.Ref {
		object.Close()
		return nil, errChanged
	}
	if len(x.open) == openSources {
		x.open[0].Close()
		x.open = append(x.open[:0], x.open[1:]...)
	}
	x.open = append(x.open, object)
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
