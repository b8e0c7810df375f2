package index

import (
	"bytes"
	"context"
	"encoding/binary"
	"time"
)

// A Cause says who asked for a change of an item. With one, the change leaves a row in the history; without, and if the
// item is exempt, it leaves none.
type Cause struct {
	Principal string // at most 128 bytes; empty: the server itself
	Address   string // of its client; at most 128 bytes
	Job       string // the compaction whose plan asked for it, by its ID; at most 1024 bytes
	// MaxHistory refuses the change with ErrHistory, which is an ErrQuota, if the history would then have more charges (see
	// HistoryCharges) than this and one for each of Charges. 0: any number.
	MaxHistory int64
}

// A ChangeKind says what happened to an item. The numbers are part of the format.
type ChangeKind uint8

const (
	ChangeStore     ChangeKind = 1 + iota // stored under a key that had no item
	ChangeOverwrite                       // stored under a key that had one
	ChangeDelete                          // removed: into the trash, or to what is kept after compactions
	ChangeMove                            // renamed; what was at the new key, if anything, was replaced
	ChangeRestore                         // came back, from the trash or from what was kept

	changeEnd
)

var changeNames = [changeEnd]string{
	ChangeStore: "store", ChangeOverwrite: "overwrite", ChangeDelete: "delete", ChangeMove: "move", ChangeRestore: "restore",
}

func (k ChangeKind) String() string { return changeNames[k] }

// A Change is a row of the history.
type Change struct {
	ID   uint64 // counts up with the changes of a repository, by the charges of each: see HistoryCharges
	At   time.Time
	Kind ChangeKind
	Key  string // of the item; of a move the new one
	From string // the old key of a move; else empty
	// Ref is what the key has since then, and Before what it had until then; empty: nothing. The trash has the replaced or
	// removed bytes under the ref Before.
	Ref, Before string
	Cause       Cause
}

func stored(key string, item, previous *Item) Change {
	if previous == nil {
		return Change{Kind: ChangeStore, Key: key, Ref: item.Ref}
	}
	return Change{Kind: ChangeOverwrite, Key: key, Ref: item.Ref, Before: previous.Ref}
}

func moved(m *Move, item, previous *Item) Change {
	c := Change{Kind: ChangeMove, Key: m.To, From: m.From, Ref: item.Ref}
	if previous != nil {
		c.Before = previous.Ref
	}
	return c
}

func removal(key string, item *Item) Change {
	return Change{Kind: ChangeDelete, Key: key, Before: item.Ref}
}

func restored(key string, item *Item) Change {
	return Change{Kind: ChangeRestore, Key: key, Ref: item.Ref}
}

// recordChange adds a row to the history of what happened to an item, if there is a cause.
func (t *tx) recordChange(cause *Cause, now time.Time, item *Item, c Change) error {
	if cause == nil || item.Flags&FlagExempt != 0 {
		return nil
	}
	c.At, c.Cause = now, *cause
	value := encodeChange(&c)
	id, err := t.nextSequence(bucketHistory, changeCharge(value))
	if err != nil {
		return err
	}
	t.set(t.history, changeKey(id), value)
	if err := t.countRow(totalRow, Counters{Changes: 1}); err != nil {
		return err
	}
	return t.admitChange(cause.MaxHistory)
}

// MaxChangeCharge is what a row of the history costs at most.
const MaxChangeCharge = 1 + (1+1+8+2*(2+maxKey)+4*(1+255)+2+maxID)/ChargeSize

// changeCharge is what a row of the history costs: as one of items does, by its size.
func changeCharge(value []byte) uint64 { return 1 + uint64(len(value)/ChargeSize) }

// historyCharges is what the history costs. The IDs of its rows count up by what they cost, and rows go from the oldest on, so it
// follows from the first and the last: there is no sum that must be kept. Rows of older versions have counted as 1 each.
func historyCharges(meta, history *table) (int64, error) {
	last, err := decodeSequence(meta.Get(sequenceRow(bucketHistory)))
	if err != nil {
		return 0, err
	}
	row, value := history.Cursor().First()
	switch {
	case row == nil:
		return 0, nil
	case len(row) != 8 || binary.BigEndian.Uint64(row) > last:
		return 0, damaged("change")
	}
	return int64(last - binary.BigEndian.Uint64(row) + changeCharge(value)), nil
}

// admitChange holds the history, with the row that was just added, against its limit; 0: there is none.
func (t *tx) admitChange(limit int64) error {
	if limit == 0 {
		return nil
	}
	if c, err := t.total(); err != nil || c.Changes*MaxChangeCharge <= limit {
		return err
	}
	charges, err := historyCharges(t.meta, t.history)
	if err == nil && charges > limit+t.charges {
		err = ErrHistory
	}
	return err
}

// HistoryCharges is what the history costs the index, in the unit of Charges: 1 for each row, and 1 more for each ChargeSize bytes of it.
func (x *Index) HistoryCharges() (charges int64, err error) {
	err = x.view(func(v *view) error {
		charges, err = historyCharges(v.Bucket(bucketMeta), v.Bucket(bucketHistory))
		return err
	})
	return charges, err
}

// mostFuture is how many rows of times to come are passed over at once: writers wait meanwhile.
const mostFuture = 64 << 10

// forgetChanges removes rows from the oldest on. One of a time that is yet to come says nothing of its age: it goes with
// the next that does.
func (t *tx) forgetChanges(m ForgetChanges) (r Result, err error) {
	last := uint64(0) // that may go
	cursor, seen := t.history.Cursor(), 0
	for row, value := cursor.First(); row != nil && (seen < m.Most || last == 0 && seen < mostFuture); row, value = cursor.Next() {
		c, err := decodeChange(row, value)
		if err != nil {
			return r, err
		}
		seen++
		if c.At.After(m.Now) {
			continue
		}
		if !c.At.Before(m.Before) {
			break
		}
		last = c.ID
	}
	var rows [][]byte
	for row, _ := cursor.First(); row != nil && len(rows) < m.Most && binary.BigEndian.Uint64(row) <= last; row, _ = cursor.Next() {
		rows = append(rows, bytes.Clone(row))
	}
	for _, row := range rows {
		t.set(t.history, row, nil)
	}
	r.Items = int64(len(rows))
	return r, t.countRow(totalRow, Counters{Changes: -r.Items})
}

func changeKey(id uint64) []byte { return binary.BigEndian.AppendUint64(make([]byte, 0, 8), id) }

func encodeChange(c *Change) []byte {
	b := append(make([]byte, 0, 64+len(c.Key)+len(c.From)), changeV1, byte(c.Kind))
	b = appendTime(b, c.At)
	b = appendLong(appendLong(b, c.Key), c.From)
	b = appendShort(appendShort(b, c.Ref), c.Before)
	b = appendShort(appendShort(b, c.Cause.Principal), c.Cause.Address)
	return appendLong(b, c.Cause.Job)
}

func decodeChange(row, b []byte) (c Change, err error) {
	f := fields{b: b}
	version := f.u8()
	c.Kind, c.At = ChangeKind(f.u8()), f.time()
	c.Key, c.From = string(f.long()), string(f.long())
	c.Ref, c.Before = string(f.short()), string(f.short())
	c.Cause = Cause{Principal: string(f.short()), Address: string(f.short()), Job: string(f.long())}
	known := c.Kind >= ChangeStore && c.Kind < changeEnd && (c.From != "") == (c.Kind == ChangeMove)
	if version != changeV1 || !f.done() || !known || len(row) != 8 || checkKey(c.Key) != nil {
		return Change{}, damaged("change")
	}
	c.ID = binary.BigEndian.Uint64(row)
	return c, nil
}

// Changes calls fn for the rows of the history behind the one of an ID (0: all), in the order of the commits. The rules
// of List apply to fn.
func (x *Index) Changes(ctx context.Context, after uint64, fn func(Change) error) error {
	fn = callback(fn)
	return x.scan(ctx, walk{bucket: bucketHistory, from: append(changeKey(after), 0)}, func(row, value []byte) ([]byte, error) {
		c, err := decodeChange(row, value)
		if err != nil {
			return nil, err
		}
		return nil, fn(c)
	})
}

// OldestChange is the first row of the history; ok is false when there is none.
func (x *Index) OldestChange() (c Change, ok bool, err error) {
	err = x.view(func(v *view) error {
		row, value := v.Bucket(bucketHistory).Cursor().First()
		if row == nil {
			return nil
		}
		ok = true
		c, err = decodeChange(row, value)
		return err
	})
	return c, ok && err == nil, err
}

// NextChange is an ID that is larger than that of each row of the history.
func (x *Index) NextChange() (id uint64, err error) {
	err = x.view(func(v *view) error {
		id, err = decodeSequence(v.Bucket(bucketMeta).Get(sequenceRow(bucketHistory)))
		id++
		return err
	})
	return id, err
}
