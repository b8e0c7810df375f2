package index

import (
	"bytes"

	"github.com/tidwall/btree"
)

// A view is one state of the index: the rows of an overlay over those of a snapshot of the file. Its methods panic where
// those of state do.
type view struct {
	*snapshot
	over   *overlay
	tables [bucketEnd]table
}

func newView(s *snapshot, over *overlay) *view {
	v := &view{snapshot: s, over: over}
	for id := bucketMeta; id < bucketEnd; id++ {
		v.tables[id] = table{id: id, base: s.tree(id), over: over.tables[id]}
	}
	return v
}

// Bucket is the rows of a bucket; there are none if the file has no such bucket, as one of an older format that may not be
// changed.
func (v *view) Bucket(id bucketID) *table { return &v.tables[id] }

// A table is the rows of one bucket.
type table struct {
	id   bucketID
	base *tree
	over *rowMap // nil: no rows
}

// Get returns the value of a row, nil when there is none. It is valid as long as the view is.
func (t *table) Get(key []byte) []byte {
	if value, in := t.pending(key); in {
		return value
	}
	return t.base.Get(key)
}

// pending is what the overlay says of a row; in is false when that is nothing.
func (t *table) pending(key []byte) (value []byte, in bool) {
	if t.over == nil {
		return nil, false
	}
	return t.over.Get(asString(key))
}

// itemOrDir returns the value of an item's row, and that of the directory of the same key: at most one of the two is there. item is as
// rowKey makes it.
func (t *table) itemOrDir(item []byte) (value, dir []byte) {
	dirKey := append(item, separator)
	value, inOver := t.pending(item)
	if value != nil {
		return value, nil
	}
	dir, dirInOver := t.pending(dirKey)
	if inOver && dirInOver {
		return nil, dir
	}
	baseValue, baseDir := t.base.pair(item, dirKey)
	if !inOver {
		value = baseValue
	}
	if !dirInOver {
		dir = baseDir
	}
	return value, dir
}

// Cursor walks over the rows in the order of their keys. Nothing may be changed meanwhile.
func (t *table) Cursor() *rowCursor {
	c := &rowCursor{}
	c.base.begin(t.base)
	if t.over != nil && t.over.Len() > 0 {
		iter := t.over.Iter()
		c.over = &iter
	}
	return c
}

// A rowCursor merges the rows of the overlay with those of the file. What it returns is valid as long as the view is.
type rowCursor struct {
	base cursor
	over *btree.MapIter[string, []byte] // nil: the overlay has no rows

	// With an overlay: the rows at which both sides are, and which of them was returned last.
	key, value         []byte // of the file; key nil: the end
	more               bool   // the overlay has a row, see over.Key
	fromBase, fromOver bool
	alone              int // so many rows follow on the leaf of the file that come before that of the overlay
}

// First, Seek and Next return a row; key is nil at the end.
func (c *rowCursor) First() (key, value []byte) {
	if c.over == nil {
		return c.base.First()
	}
	c.key, c.value = c.base.First()
	c.more = c.over.First()
	return c.pick()
}

// Seek goes to the first row that is not before key.
func (c *rowCursor) Seek(key []byte) (row, value []byte) {
	if c.over == nil {
		return c.base.Seek(key)
	}
	c.key, c.value = c.base.Seek(key)
	c.more = c.over.Seek(asString(key))
	return c.pick()
}

// Next goes to the row that follows.
func (c *rowCursor) Next() (key, value []byte) {
	if c.over == nil {
		return c.base.Next()
	}
	if c.alone > 0 {
		c.alone--
		c.key, c.value = c.base.Next()
		return c.key, c.value
	}
	c.step()
	return c.pick()
}

// step leaves the row that pick returned.
func (c *rowCursor) step() {
	if c.fromBase {
		c.key, c.value = c.base.Next()
	}
	if c.fromOver {
		c.more = c.over.Next()
	}
}

// pick returns the first of the rows at which both sides are. Where both have it, the overlay's counts; a deleted row is passed over.
func (c *rowCursor) pick() (key, value []byte) {
	c.alone = 0
	for {
		var next []byte // of the overlay; nil: the end
		if c.more {
			next = asBytes(c.over.Key())
		}
		order := 0
		switch {
		case next == nil && c.key == nil:
			c.fromBase, c.fromOver = false, false
			return nil, nil
		case next == nil:
			order = -1
		case c.key == nil:
			order = 1
		default:
			order = bytes.Compare(c.key, next)
		}
		c.fromBase, c.fromOver = order <= 0, order >= 0
		if order < 0 {
			c.alone = c.base.before(next)
			return c.key, c.value
		}
		if value := c.over.Value(); value != nil {
			return next, value
		}
		c.step()
	}
}

// sound returns ErrCorrupt when another version of the file was written over the one that the view is of.
func (v *view) sound() (err error) {
	_ = protect(func() error { err = v.replaced(); return nil }) // a meta page that cannot be read tells nothing
	return err
}
