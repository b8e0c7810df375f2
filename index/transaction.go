package index

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"packhouse/journal"
)

// A tx evaluates groups, on the state that the last ones left. It changes rows in an overlay of its own, through put and
// remove, which remember what was there: so a group that fails half way is taken back, counters and all, while its
// neighbours stand. Nothing of it is durable or visible before its rows are in the log.
type tx struct {
	meta, items, refs, trash, counters, locks, jobs, writers *table
	plans, sources, kept, keptKeys, segments, moved, movedTo *table
	history                                                  *table

	base   *overlay // that over began as
	over   *overlay
	tables [bucketEnd]table // over the same snapshot, with the rows of over

	began        int64 // what counted against limits when the current group began
	charges      int64 // as the groups have left them until now; see charges.go
	beganCharges int64 // when the current group began
	nested       bool  // the current group made a directory below another

	log     []step  // of the current group, in order
	changed []rowID // by groups that stand; may have a row more than once

	group       *journal.Group // that takes the payloads; nil: there is no log
	hasPayloads bool           // there are some in the group
	hasMeta     bool           // the meta values are among the rows, see repeatMeta
}

// A rowID names a row.
type rowID struct {
	bucket bucketID
	key    string
}

// A step is what the overlay said of a row before it was changed.
type step struct {
	rowID
	before []byte
	was    bool // false: it said nothing
}

// newTx evaluates on a view, which must stay acquired.
func newTx(v *view, group *journal.Group) *tx {
	t := &tx{base: v.over, over: v.over.copy(), tables: v.tables, group: group}
	t.meta, t.items, t.refs, t.trash = &t.tables[bucketMeta], &t.tables[bucketItems], &t.tables[bucketRefs], &t.tables[bucketTrash]
	t.counters, t.locks, t.jobs, t.writers = &t.tables[bucketCounters], &t.tables[bucketLocks], &t.tables[bucketJobs], &t.tables[bucketWriters]
	t.plans, t.sources, t.kept, t.keptKeys = &t.tables[bucketPlans], &t.tables[bucketSources], &t.tables[bucketKept], &t.tables[bucketKeptKeys]
	t.segments, t.moved, t.movedTo = &t.tables[bucketSegments], &t.tables[bucketMoved], &t.tables[bucketMovedTo]
	t.history = &t.tables[bucketHistory]
	return t
}

// put sets a row. value must not be modified afterwards. Setting what is there already is no change.
func (t *tx) put(table *table, key, value []byte) {
	if bytes.Equal(table.Get(key), value) { // no row of ours is empty
		return
	}
	t.set(table, key, value)
}

// remove deletes a row, if it is there.
func (t *tx) remove(table *table, key []byte) {
	if table.Get(key) != nil {
		t.set(table, key, nil)
	}
}

// set is put, or with value nil remove, of a row that is known to be another: it does not look.
func (t *tx) set(table *table, key, value []byte) {
	row := rowID{table.id, string(key)}
	before, was := t.over.set(row.bucket, row.key, value)
	t.log = append(t.log, step{row, before, was})
	table.over = t.over.tables[table.id]
}

// undo takes the group's steps back, last first.
func (t *tx) undo() {
	for _, s := range slices.Backward(t.log) {
		if s.was {
			t.over.set(s.bucket, s.key, s.before)
		} else {
			t.over.forget(s.bucket, s.key)
		}
	}
	t.log = t.log[:0]
	t.charges = t.beganCharges
}

// stand lets the group's changes stand.
func (t *tx) stand() {
	for _, s := range t.log {
		t.changed = append(t.changed, s.rowID)
	}
	t.log = t.log[:0]
}

// rows are the changed ones, sorted, each once. What the overlay says of them is their new value.
func (t *tx) rows() []rowID {
	slices.SortFunc(t.changed, func(a, b rowID) int { return cmp.Or(cmp.Compare(a.bucket, b.bucket), strings.Compare(a.key, b.key)) })
	t.changed = slices.Compact(t.changed)
	return t.changed
}

// Rows of bucket meta that count up: each gives numbers to the rows of one bucket.
func sequenceRow(id bucketID) []byte { return append(bytes.Clone(sequencePrefix), bucketNames[id]...) }

var sequencePrefix = []byte("\x00sequence ")

// nextSequence is a number that no row of the bucket has had, by step larger than the last one.
func (t *tx) nextSequence(id bucketID, step uint64) (uint64, error) {
	row := sequenceRow(id)
	last, err := decodeSequence(t.meta.Get(row))
	if err != nil {
		return 0, err
	}
	t.set(t.meta, row, encodeSequence(last+step))
	return last + step, nil
}

const sequenceV1 = 1

func encodeSequence(n uint64) []byte {
	return binary.LittleEndian.AppendUint64(append(make([]byte, 0, 1+8), sequenceV1), n)
}

// decodeSequence takes a missing row for 0.
func decodeSequence(b []byte) (uint64, error) {
	if b == nil {
		return 0, nil
	}
	f := fields{b: b}
	version, n := f.u8(), uint64(f.i64())
	if version != sequenceV1 || !f.done() {
		return 0, damaged("sequence")
	}
	return n, nil
}
