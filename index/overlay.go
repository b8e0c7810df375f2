package index

import (
	"unsafe"

	"github.com/tidwall/btree"
)

// An overlay is the rows that the log has and the file has not yet: they hide those of the file. A value of nil says that
// the row was deleted. An overlay that readers can see is not changed any more; a copy takes no time and shares what it
// has with the original.
type overlay struct {
	tables [bucketEnd]*rowMap // nil: no rows
	owned  [bucketEnd]bool    // the table is in no other overlay, and may be changed
	rows   int
	size   int64 // bytes of keys and values, about
}

// A rowMap is sorted by row key.
type rowMap = btree.Map[string, []byte]

// rowOverhead is about what a row takes in memory besides its bytes.
const rowOverhead = 64

// copy is an overlay that can be changed. o must not be changed afterwards.
func (o *overlay) copy() *overlay {
	return &overlay{tables: o.tables, rows: o.rows, size: o.size}
}

// table is the rows of a bucket, to be changed.
func (o *overlay) table(id bucketID) *rowMap {
	if !o.owned[id] {
		o.owned[id] = true
		if o.tables[id] == nil {
			o.tables[id] = new(rowMap)
		} else {
			o.tables[id] = o.tables[id].Copy()
		}
	}
	return o.tables[id]
}

// get returns the value of a row; in is false when the overlay says nothing of it.
func (o *overlay) get(id bucketID, key string) (value []byte, in bool) {
	if o.tables[id] == nil {
		return nil, false
	}
	return o.tables[id].Get(key)
}

// set sets a row; value nil: it is deleted. Neither key nor value may be modified afterwards. It returns what get would have before.
func (o *overlay) set(id bucketID, key string, value []byte) (before []byte, was bool) {
	before, was = o.table(id).Set(key, value)
	if was {
		o.size += int64(len(value) - len(before))
		return before, was
	}
	o.rows++
	o.size += int64(len(key)+len(value)) + rowOverhead
	return nil, false
}

// forget makes the overlay say nothing of a row.
func (o *overlay) forget(id bucketID, key string) {
	if before, was := o.table(id).Delete(key); was {
		o.rows--
		o.size -= int64(len(key)+len(before)) + rowOverhead
	}
}

// asString is a string that shares the memory of b, which must not be modified while it is used.
func asString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// asBytes is the bytes of s, which must not be modified.
func asBytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// take sets the rows as from has them.
func (o *overlay) take(from *overlay, rows []rowID) {
	for _, row := range rows {
		value, _ := from.get(row.bucket, row.key)
		o.set(row.bucket, row.key, value)
	}
}
