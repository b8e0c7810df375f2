package index

import (
	"fmt"
	"slices"
)

// totalRow is the row of the repository's counters.
var totalRow = []byte{0x00}

func topRow(top string) []byte { return append([]byte{0x01}, top...) }

func (c *Counters) add(d Counters) {
	from := d.parts()
	for i, part := range c.parts() {
		for j, n := range part {
			*n += *from[i][j]
		}
	}
}

func (c *Counters) negative() bool {
	for _, part := range c.parts() {
		if slices.ContainsFunc(part, func(n *int64) bool { return *n < 0 }) {
			return true
		}
	}
	return false
}

// live is what one item adds to the counters while it has a key.
func live(item *Item) Counters {
	c := Counters{Items: 1, Bytes: item.Size}
	if item.Flags&(FlagMissing|FlagDamaged) == FlagDamaged {
		c.DamagedItems = 1
	}
	if item.Flags&(FlagMissing|FlagUnverified) == FlagUnverified {
		c.UnverifiedItems, c.UnverifiedBytes = 1, item.Size
	}
	switch {
	case item.Flags&FlagMissing != 0:
		c.MissingItems, c.MissingBytes = 1, item.Size
	case item.Flags&FlagExempt != 0:
		c.Exempt = item.Size
	case item.Plan != 0:
		c.OpenBytes = item.Size
	case item.Flags&FlagReturned != 0:
		c.ReturnedBytes = item.Size
	}
	return c
}

// inTrash is what it adds when it has none.
func trashed(item *Item) Counters { return Counters{TrashItems: 1, TrashBytes: item.Size} }

func (c Counters) times(sign int64) Counters {
	for _, part := range c.parts() {
		for _, n := range part {
			*n *= sign
		}
	}
	return c
}

func (t *tx) total() (Counters, error) { return decodeCounters(t.counters.Get(totalRow)) }

// count adds (sign +1) or takes away (-1) the item at key, in total and in its
// top-level directory.
func (t *tx) count(key string, item *Item, sign int64) error {
	d := live(item).times(sign)
	if err := t.countRow(totalRow, d); err != nil {
		return err
	}
	return t.countRow(topRow(topOf(key)), d.ofTop())
}

// ofTop is what a top-level directory counts of it.
func (c Counters) ofTop() Counters {
	return Counters{Items: c.Items, Bytes: c.Bytes, MissingItems: c.MissingItems, MissingBytes: c.MissingBytes}
}

// recount is for an item that stays at its key and counts otherwise.
func (t *tx) recount(key string, before, after *Item) error {
	d := live(after)
	d.add(live(before).times(-1))
	if err := t.countRow(topRow(topOf(key)), d.ofTop()); err != nil {
		return err
	}
	return t.countRow(totalRow, d)
}

// countMarks counts the damaged items of a file of format 1, whose counters do not have them. It is part of the
// upgrade: only there the cost depends on the number of items, some 0.2 µs each.
func countMarks(g *guard, counters *bucket) error {
	total, err := decodeCounters(counters.tree.Get(totalRow))
	if err != nil {
		return err
	}
	c := g.s.tree(bucketItems).Cursor()
	for row, value := c.First(); row != nil; row, value = c.Next() {
		if !isDirRow(row) && len(value) > 1 && Flags(value[1])&FlagDamaged != 0 {
			total.DamagedItems++
		}
	}
	if total.DamagedItems == 0 {
		return nil
	}
	return counters.Put(totalRow, encodeCounters(total))
}

// countTrash does the same for a trash row.
func (t *tx) countTrash(item *Item, sign int64) error {
	return t.countRow(totalRow, trashed(item).times(sign))
}

func (t *tx) countRow(row []byte, d Counters) error {
	if d == (Counters{}) {
		return nil
	}
	c, err := readCounters(t.counters, row)
	if err != nil {
		return err
	}
	c.add(d)
	if c.negative() {
		if d.negative() {
			return fmt.Errorf("%w: more was taken from the counters than was in them", ErrCorrupt)
		}
		return fmt.Errorf("%w: more bytes than can be counted", ErrQuota)
	}
	var value []byte
	if c != (Counters{}) || row[0] == totalRow[0] {
		value = encodeCounters(c)
	}
	t.set(t.counters, row, value)
	return nil
}

// A getter is a bucket, to readers or in a write transaction.
type getter interface{ Get(key []byte) []byte }

// readCounters takes a missing row of a directory for zeros.
func readCounters(bucket getter, row []byte) (Counters, error) {
	value := bucket.Get(row)
	if value == nil && row[0] != totalRow[0] {
		return Counters{}, nil
	}
	return decodeCounters(value)
}

// checkLimit is called when item is counted. Exempt items are not limited.
func (t *tx) checkLimit(item *Item, limit int64) error {
	if item.Flags&FlagExempt != 0 {
		return nil
	}
	within, err := t.within(limit)
	if err == nil && !within {
		err = ErrQuota
	}
	return err
}

// within tells whether what is counted exceeds no limit; a negative one is none.
func (t *tx) within(limit int64) (bool, error) {
	if limit < 0 {
		return true, nil
	}
	c, err := t.total()
	return err == nil && c.Counted() <= limit, err
}

// Counters returns the totals of the last commit. It takes no lock.
func (x *Index) Counters() Counters { return *x.counters.Load() }

// DirCounters returns the counters of one top-level directory (only Items, Bytes and what is missing of them), or of the items in the
// root for "". Zeros if there are none.
func (x *Index) DirCounters(top string) (c Counters, err error) {
	if len(top) > maxKey {
		return Counters{}, nil
	}
	err = x.view(func(b *view) error {
		c, err = readCounters(b.Bucket(bucketCounters), topRow(top))
		return err
	})
	return c, err
}
