package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// CommitClass selects the items with which clients complete an operation: the index of their packs, and locks and caches. If one of
// them were refused because the repository is full, what was stored before it would be lost. So the limit does not
// refuse them as long as all of them together stay below CommitBound.
//
// No key is in one of the directories, and exempt items do not belong to the class: those are not counted at all.
type CommitClass struct {
	Keys []string // items
	Dirs []string // top-level directories, with all that is in them
}

// Has reports whether an item at key belongs to the class.
func (c *CommitClass) Has(key string) bool {
	return slices.Contains(c.Dirs, topOf(key)) || slices.Contains(c.Keys, key)
}

// commitFloor is what the items of a class may hold beyond the limit, whatever they held before; in bytes.
const commitFloor = 64 << 20

// CommitBound is the number of bytes that the items of a class may have while the limit is exceeded: 64 MiB, or twice mark, the most
// that was stored within the limit.
func CommitBound(mark int64) int64 {
	if mark > math.MaxInt64/2 {
		return math.MaxInt64
	}
	return max(commitFloor, 2*mark)
}

// MarkCommit raises the mark of the class to what its items hold, if usage is within Limit (negative: none). Put does the same; this is
// for a limit that was raised, or a usage that fell, since.
type MarkCommit struct {
	Class CommitClass
	Limit int64
}

func (MarkCommit) mutation() {}

// markRow is the row of the mark; no meta value has such a name.
var markRow = []byte("\x00commit mark")

const markV1 = 1

func encodeMark(bytes int64) []byte {
	return binary.LittleEndian.AppendUint64(append(make([]byte, 0, 1+8), markV1), uint64(bytes))
}

func decodeMark(b []byte) (int64, error) {
	f := fields{b: b}
	version, bytes := f.u8(), f.i64()
	if version != markV1 || !f.done() || bytes < 0 {
		return 0, damaged("commit mark")
	}
	return bytes, nil
}

// commitTotal is what the items of a class hold together, as far as limits count it, and their mark. A repository of an
// older version has no mark: it begins with what is stored.
func commitTotal(meta, items, counters getter, class *CommitClass) (total, mark int64, err error) {
	for _, key := range class.Keys {
		value := items.Get(rowKey(key))
		if value == nil {
			continue
		}
		item, err := decodeItem(value)
		if err != nil {
			return 0, 0, err
		}
		total += item.Counted()
	}
	for _, dir := range class.Dirs {
		c, err := readCounters(counters, topRow(dir))
		if err != nil {
			return 0, 0, err
		}
		total += c.Bytes - c.MissingBytes
	}
	c, err := decodeCounters(counters.Get(totalRow))
	if err != nil {
		return 0, 0, err
	}
	total = max(0, total-c.Exempt)
	if value := meta.Get(markRow); value != nil {
		mark, err = decodeMark(value)
		return total, mark, err
	}
	return total, total, nil
}

// CommitTotal returns how many bytes the items of a class have, as far as limits count them, and their mark: the most that they have
// had within the limit.
func (x *Index) CommitTotal(class CommitClass) (total, mark int64, err error) {
	if err := validateClass(&class); err != nil {
		return 0, 0, err
	}
	err = x.view(func(b *view) error {
		total, mark, err = commitTotal(b.Bucket(bucketMeta), b.Bucket(bucketItems), b.Bucket(bucketCounters), &class)
		return err
	})
	return total, mark, err
}

func (t *tx) commitTotal(class *CommitClass) (total, mark int64, err error) {
	return commitTotal(t.meta, t.items, t.counters, class)
}

// markCommit is called when an item was stored, or none; mark is from before it.
func (t *tx) markCommit(class *CommitClass, mark, limit int64) error {
	within, err := t.within(limit)
	if err != nil {
		return err
	}
	if within {
		total, _, err := t.commitTotal(class)
		if err != nil {
			return err
		}
		mark = max(mark, total)
	}
	t.put(t.meta, markRow, encodeMark(mark))
	return nil
}

// admitPut holds a Put against its limit, when the item is counted; mark is from before it.
func (t *tx) admitPut(m *Put, item *Item, mark int64) error {
	if item.Flags&FlagExempt != 0 {
		if m.Commit != nil {
			t.put(t.meta, markRow, encodeMark(mark)) // an exempt item is of no weight, but the first sets what it began with
		}
		return nil
	}
	err := t.checkLimit(item, m.Limit)
	if errors.Is(err, ErrQuota) {
		err = t.admitBeyond(m, mark)
	}
	if err != nil || m.Commit == nil {
		return err
	}
	return t.markCommit(m.Commit, mark, m.Limit)
}

// admitBeyond tells whether a Put is admitted although its limit is exceeded.
func (t *tx) admitBeyond(m *Put, mark int64) error {
	c, err := t.total()
	if err != nil {
		return err
	}
	if c.Counted() <= t.began {
		return nil // the group takes away at least what it adds
	}
	if m.Commit == nil {
		return ErrQuota
	}
	total, _, err := t.commitTotal(m.Commit)
	if err != nil {
		return err
	}
	if total > CommitBound(mark) {
		return ErrQuota
	}
	return nil
}

// validateCommit tests the class of a mutation, to which key must belong if it is not empty. nil is none.
func validateCommit(c *CommitClass, key string) error {
	if c == nil {
		return nil
	}
	if key != "" && !c.Has(key) {
		return fmt.Errorf("%w: %q is not of the class that it is stored in", ErrInvalid, key)
	}
	return validateClass(c)
}

func validateClass(c *CommitClass) error {
	for _, key := range c.Keys {
		if err := checkKey(key); err != nil {
			return err
		}
		if slices.Contains(c.Dirs, topOf(key)) {
			return fmt.Errorf("%w: commit key %q lies in a directory of its class", ErrInvalid, key)
		}
	}
	for _, dir := range c.Dirs {
		if err := checkKey(dir); err != nil {
			return err
		}
		if strings.Contains(dir, "/") {
			return fmt.Errorf("%w: %q is no top-level directory", ErrInvalid, dir)
		}
	}
	return nil
}
