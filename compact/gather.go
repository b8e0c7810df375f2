package compact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"packhouse/index"
	"packhouse/repo"
)

// ItemReader is a repository as one principal may read it.
type ItemReader interface {
	// May tells whether any of letters is granted on key: a *repo.DeniedError if not.
	May(key, letters string) error
	// Row finds the item or directory at key, also an item that cannot be read.
	Row(ctx context.Context, key string) (index.Entry, error)
	// Readable tells why an item that Row found cannot be read.
	Readable(item index.Item) error
	// Sound reports whether a range can be read of an item that Readable says is damaged.
	Sound(ctx context.Context, key string, off, n int64) error
	// OpenRange opens the item at key, whose bytes can then be read also when it is replaced or deleted.
	OpenRange(ctx context.Context, key string) (*repo.Object, error)
}

var _ ItemReader = (*repo.Access)(nil)

// Gathering reads ranges of items, one after the other, as one stream. It has at most one item open, and no ranges in memory but
// those that it was given. It must be closed.
type Gathering struct {
	ctx    context.Context // of Gather: the gathering ends with it
	from   ItemReader
	ranges []Range
	refs   map[string]string // key -> the blob that was there when the ranges were checked
	size   int64

	object  *repo.Object // nil: none
	section io.Reader    // what is left of the present range; nil: none
	first   []byte       // read by Begin, and not handed out yet
}

// gatherFirst is how many bytes Begin reads.
const gatherFirst = 256 << 10

// Begin reads the first bytes before any is handed out, so that an answer that they are all of can still become an error.
func (g *Gathering) Begin() error {
	first := make([]byte, min(g.size, gatherFirst))
	if _, err := io.ReadFull(g, first); err != nil {
		return err
	}
	g.first = first
	return nil
}

// Gather checks ranges, which are its own from then on, against permissions and index, before the first byte is read. What is wrong
// with one of them is a *PlanError of operation 0: permissions first, in the order of the ranges, then whether the items are there, have
// the bytes, and these can be read. A range of no bytes is inside of each item. What it reads later is what it has checked:
// else, as an item was replaced or deleted meanwhile, Read fails.
func Gather(ctx context.Context, from ItemReader, ranges []Range) (*Gathering, error) {
	g := &Gathering{ctx: ctx, from: from, ranges: ranges, refs: make(map[string]string)}
	for i, r := range ranges {
		if err := from.May(r.Key, "r"); err != nil {
			return nil, wrongRange(i, r, err)
		}
	}
	items := make(map[string]index.Item)
	for i := range ranges {
		item, ok := items[ranges[i].Key]
		if !ok {
			var err error
			if item, err = g.look(ranges[i].Key); err != nil {
				return nil, wrongRange(i, ranges[i], err)
			}
			items[ranges[i].Key], g.refs[ranges[i].Key] = item, item.Ref
		}
		if err := g.add(i, item.Size); err != nil {
			return nil, err
		}
		if err := g.readable(item, ranges[i]); err != nil {
			return nil, wrongRange(i, ranges[i], err)
		}
	}
	return g, nil
}

func wrongRange(i int, r Range, err error) *PlanError {
	return &PlanError{Range: i, Key: r.Key, Offset: r.Offset, Want: r.Length, Err: err}
}

// readable tells why a range, whose offset is from the start, cannot be read.
func (g *Gathering) readable(item index.Item, r Range) error {
	if item.Flags&index.FlagDamaged == 0 || r.Length == 0 {
		return nil
	}
	return g.from.Sound(g.ctx, r.Key, r.Offset, r.Length)
}

// look finds an item.
func (g *Gathering) look(key string) (index.Item, error) {
	entry, err := g.from.Row(g.ctx, key)
	switch {
	case err != nil:
		return index.Item{}, err
	case entry.Dir:
		return index.Item{}, repo.ErrIsDir
	}
	if err := g.from.Readable(entry.Item); !errors.Is(err, repo.ErrDamaged) {
		return entry.Item, err
	}
	return entry.Item, nil // it depends on the range
}

// add counts range i, of an item of so many bytes. Its offset becomes that from the start.
func (g *Gathering) add(i int, size int64) error {
	r := &g.ranges[i]
	r.Offset, _ = resolve(size, *r)
	if r.Length > 0 && (r.Offset < 0 || r.Offset > size || r.Length > size-r.Offset) {
		err := wrongRange(i, *r, repo.ErrRange)
		err.Got = max(size-max(r.Offset, 0), 0)
		return err
	}
	if r.Length > math.MaxInt64-g.size {
		return wrongRange(i, *r, repo.ErrTooLarge)
	}
	g.size += r.Length
	return nil
}

// Size is how many bytes the ranges have together.
func (g *Gathering) Size() int64 { return g.size }

var errReplaced = fmt.Errorf("%w: the item was replaced while its ranges were read", repo.ErrConflict)

// Read fills p from as many ranges as it takes: what it returns may be sent at once, and ranges may be small.
func (g *Gathering) Read(p []byte) (n int, err error) {
	n = copy(p, g.first)
	g.first = g.first[n:]
	for n < len(p) {
		if g.section == nil {
			if err := g.next(); err != nil {
				return n, err
			}
		}
		m, err := g.section.Read(p[n:])
		n += m
		if err == io.EOF {
			g.section = nil
		} else if err != nil {
			return n, err
		}
	}
	return n, nil
}

// next begins the next range that has bytes; io.EOF when there is none.
func (g *Gathering) next() error {
	for len(g.ranges) > 0 {
		next := g.ranges[0]
		if next.Length > 0 {
			if err := g.open(next.Key); err != nil {
				return err // and again: what follows is not sent in its place
			}
			section, err := g.object.Section(next.Offset, next.Length)
			if err != nil {
				return err
			}
			g.section = section
		}
		g.ranges = g.ranges[1:]
		if g.section != nil {
			return nil
		}
	}
	return io.EOF
}

// open changes to the item of key, which must be the one that was checked.
func (g *Gathering) open(key string) error {
	if g.object != nil && g.object.Key == key {
		return nil
	}
	g.Close()
	object, err := g.from.OpenRange(g.ctx, key)
	if err != nil {
		return err
	}
	if object.Item.Ref != g.refs[key] {
		_ = object.Close() // nothing was read
		return errReplaced
	}
	g.object = object
	return nil
}

// Close closes what is open.
func (g *Gathering) Close() {
	if g.object != nil {
		_ = g.object.Close() // it was only read
		g.object = nil
	}
}
