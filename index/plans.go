package index

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// planKeySize is the length of a plan's row key: its ID. The row of a source is that and the row key of the item.
const planKeySize = 8

func planKey(id uint64) []byte { return binary.BigEndian.AppendUint64(nil, id) }

func sourceKey(id uint64, row []byte) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, planKeySize+len(row)), id), row...)
}

// sourceRow is the value of a row in bucket sources: its key says it all.
var sourceRow = []byte{1}

// planAt returns the plan, nil when it is not open.
func (t *tx) planAt(id uint64) (*Plan, error) {
	row := planKey(id)
	value := t.plans.Get(row)
	if value == nil {
		return nil, nil
	}
	p, err := decodePlan(row, value)
	return &p, err
}

// countSource adds (sign +1) or takes away (-1) the item at a row from the sources of its plan, if it has one. A plan
// without sources is closed.
func (t *tx) countSource(row []byte, item *Item, sign int64) error {
	if item.Plan == 0 {
		return nil
	}
	p, err := t.planAt(item.Plan)
	if err != nil {
		return err
	}
	if p == nil {
		return fmt.Errorf("%w: item %q is a source of plan %d, which there is not", ErrCorrupt, keyOf(row), item.Plan)
	}
	if sign > 0 {
		t.put(t.sources, sourceKey(p.ID, row), sourceRow)
	} else {
		t.remove(t.sources, sourceKey(p.ID, row))
	}
	p.Sources += sign
	p.Bytes += sign * item.Size
	return t.storePlan(p)
}

func (t *tx) storePlan(p *Plan) error {
	row := planKey(p.ID)
	switch was := t.plans.Get(row) != nil; {
	case p.Sources > 0:
		t.put(t.plans, row, encodePlan(p))
		if was {
			return nil
		}
		return t.countRow(totalRow, Counters{Plans: 1})
	case was:
		t.remove(t.plans, row)
		return t.countRow(totalRow, Counters{Plans: -1})
	}
	return nil
}

func (t *tx) openPlan(m OpenPlan) (r Result, err error) {
	c, err := t.total()
	if err != nil || len(m.Sources) == 0 {
		return r, err
	}
	p := m.Plan
	if p.ID, err = t.nextSequence(bucketPlans, 1); err != nil {
		return r, err
	}
	p.Live, p.Sources, p.Bytes = c.Counted(), 0, 0
	bound := p.Live
	if row, value := t.plans.Cursor().First(); row != nil && m.Limit >= 0 {
		oldest, err := decodePlan(row, value)
		if err != nil {
			return r, err
		}
		bound = oldest.Live
	}
	more := int64(0)
	// In the order of their rows: bbolt takes time in proportion to what it has to move aside for each.
	for _, key := range sortedByRow(m.Sources) {
		row := rowKey(key)
		item, err := t.itemAt(key)
		if err != nil {
			return r, err
		}
		if item == nil {
			return r, ErrNotFound
		}
		if item.Plan == p.ID {
			continue // named twice
		}
		before := *item
		item.Plan = p.ID
		p.Sources++
		p.Bytes += item.Size
		r.Delta -= before.Counted()
		was := live(&before)
		more += live(item).OpenBytes - was.OpenBytes - was.ReturnedBytes
		t.put(t.items, row, encodeItem(item))
		t.put(t.sources, sourceKey(p.ID, row), sourceRow)
		if err := t.countSource(row, &before, -1); err != nil {
			return r, err
		}
		if err := t.recount(key, &before, item); err != nil {
			return r, err
		}
	}
	if m.Limit >= 0 && more > 0 && c.OpenBytes+c.ReturnedBytes+more > max(bound, m.Limit) {
		return r, ErrQuota
	}
	r.Plan = p.ID
	return r, t.storePlan(&p)
}

// sortedByRow is a copy of keys in the order of their rows.
func sortedByRow(keys []string) []string {
	keys = slices.Clone(keys)
	slices.SortFunc(keys, CompareKeys)
	return keys
}

// CompareKeys compares keys by the order of their rows, which is that of listings.
func CompareKeys(a, b string) int {
	for i := range min(len(a), len(b)) {
		if a[i] == b[i] {
			continue
		}
		switch {
		case a[i] == '/':
			return -1 // a separator comes before all else
		case b[i] == '/':
			return +1
		}
		return cmp.Compare(a[i], b[i])
	}
	return cmp.Compare(len(a), len(b))
}

// sourcesOf are the keys of a plan's sources: first found, then changed, as a cursor does not like both at once.
func (t *tx) sourcesOf(id uint64) (keys []string) {
	prefix := planKey(id)
	c := t.sources.Cursor()
	for row, _ := c.Seek(prefix); bytes.HasPrefix(row, prefix); row, _ = c.Next() {
		keys = append(keys, keyOf(row[planKeySize:]))
	}
	return keys
}

func (t *tx) provePlan(m ProvePlan) (r Result, err error) {
	for _, key := range t.sourcesOf(m.ID) {
		item, err := t.itemAt(key)
		if err != nil {
			return r, err
		}
		if item == nil {
			return r, fmt.Errorf("%w: source %q of plan %d is not there", ErrCorrupt, key, m.ID)
		}
		r.Items++
		r.Bytes += item.Size
		if err := t.keep(key, item, m.Now, m.Until, true, ""); err != nil {
			return r, err
		}
		if err := t.recordChange(m.Cause, m.Now, item, removal(key, item)); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (t *tx) endPlans(m EndPlans) (r Result, err error) {
	var plans []uint64
	c := t.plans.Cursor()
	for row, _ := c.First(); row != nil; row, _ = c.Next() {
		if len(row) != planKeySize {
			return r, damaged("plan key")
		}
		plans = append(plans, binary.BigEndian.Uint64(row))
	}
	for _, id := range plans {
		for _, key := range t.sourcesOf(id) {
			item, err := t.itemAt(key)
			if err != nil || item == nil {
				return r, errors.Join(err, ErrCorrupt)
			}
			before := *item
			item.Plan = 0
			r.Delta += item.Counted()
			row := rowKey(key)
			t.put(t.items, row, encodeItem(item))
			if err := errors.Join(t.countSource(row, &before, -1), t.recount(key, &before, item)); err != nil {
				return r, err
			}
		}
	}
	if m.LeaveKept {
		return r, nil
	}
	released, err := t.releaseKept(ReleaseKept{Bytes: 1 << 62, Most: 1 << 30, Now: m.Now})
	r.Items, r.Bytes = released.Items, released.Bytes
	return r, err
}

func (t *tx) found(m Found) error {
	if err := t.require(Require{Key: m.Key, Ref: m.Ref}); err != nil {
		return err
	}
	item, err := t.itemAt(m.Key)
	if err != nil {
		return err
	}
	before, row := *item, rowKey(m.Key)
	item.Found = m.Now
	if item.Plan != 0 {
		item.Plan = 0
		item.Flags |= FlagReturned
	}
	t.put(t.items, row, encodeItem(item))
	if err := t.countSource(row, &before, -1); err != nil {
		return err
	}
	return t.recount(m.Key, &before, item)
}

// Plans calls fn for the open plans, the oldest first. The rules of List apply to fn.
func (x *Index) Plans(fn func(Plan) error) error { return x.PlansAfter(0, fn) }

// PlansAfter is Plans behind the one of an ID.
func (x *Index) PlansAfter(id uint64, fn func(Plan) error) error {
	fn = callback(fn)
	return x.scan(context.Background(), walk{bucket: bucketPlans, from: append(planKey(id), 0)}, func(row, value []byte) ([]byte, error) {
		p, err := decodePlan(row, value)
		if err != nil {
			return nil, err
		}
		return nil, fn(p)
	})
}

// keep takes the item from its key, and makes a row among the kept ones of it.
func (t *tx) keep(key string, item *Item, now, until time.Time, proven bool, by string) error {
	if err := t.detach(key, item); err != nil {
		return err
	}
	return t.putKept(&keptRecord{trashRecord{at: now, key: key, item: removed(item)}, proven, by}, until)
}

// putKept makes a kept row of what is under no key.
func (t *tx) putKept(record *keptRecord, until time.Time) error {
	row, err := t.nextRow(bucketKept, until)
	if err != nil {
		return err
	}
	t.put(t.kept, row, encodeKept(record))
	t.put(t.keptKeys, rowKey(record.key), row)
	t.put(t.refs, []byte(record.item.Ref), encodeRef(refTarget{in: inKept, row: row}))
	return t.countKept(&record.item, +1)
}

func (t *tx) countKept(item *Item, sign int64) error {
	return t.countRow(totalRow, Counters{KeptItems: sign, KeptBytes: sign * item.Size})
}

// unkeep takes a row from the kept ones. Its ref is of nothing until the caller gives it something.
func (t *tx) unkeep(row []byte) (keptRecord, error) {
	record, err := decodeKept(t.kept.Get(row))
	if err != nil {
		return record, err
	}
	t.remove(t.kept, row)
	t.remove(t.keptKeys, rowKey(record.key))
	return record, t.countKept(&record.item, -1)
}

// release moves a kept row to the trash, until its item was removed so long ago: without a grace until now, also if the times of changes run
// ahead of the clock. It returns the item's size.
func (t *tx) release(row []byte, now time.Time, grace time.Duration) (int64, error) {
	record, err := t.unkeep(row)
	if err != nil {
		return 0, err
	}
	until := now
	if grace > 0 {
		until = later(now, record.at.Add(grace))
	}
	_, err = t.bury(&record.trashRecord, until)
	return record.item.Size, err
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// releaseKeptAt releases what is kept under the key of an item row, if anything is.
func (t *tx) releaseKeptAt(item []byte, until time.Time) error {
	row := t.keptKeys.Get(item)
	if row == nil {
		return nil
	}
	record, err := t.unkeep(bytes.Clone(row))
	if err == nil {
		_, err = t.bury(&record.trashRecord, until)
	}
	return err
}

// keptItem is the item that is kept under the key of an item row, nil when none is. It counts as none.
func (t *tx) keptItem(item []byte) (*Item, error) {
	row := t.keptKeys.Get(item)
	if row == nil {
		return nil, nil
	}
	record, err := decodeKept(t.kept.Get(row))
	if err != nil {
		return nil, err
	}
	record.item.Flags |= FlagReturned
	return &record.item, nil
}

// giveBack makes a kept row an item again.
func (t *tx) giveBack(row []byte, now time.Time, cause *Cause) (*Item, error) {
	record, err := t.unkeep(row)
	if err != nil {
		return nil, err
	}
	record.item.Flags |= FlagReturned
	if err := t.attach(record.key, &record.item, now, now); err != nil {
		return nil, err
	}
	return &record.item, t.recordChange(cause, now, &record.item, restored(record.key, &record.item))
}

func (t *tx) returnKept(m ReturnKept) (r Result, err error) {
	if _, err := t.itemAt(m.Key); err != nil { // a directory
		return r, err
	}
	row := t.keptKeys.Get(rowKey(m.Key))
	if row == nil {
		return r, ErrNotFound
	}
	r.Moved, err = t.giveBack(bytes.Clone(row), m.Now, m.Cause)
	return r, err
}

func (t *tx) returnSince(m ReturnSince) (r Result, err error) {
	var rows [][]byte
	c := t.kept.Cursor()
	for row, value := c.First(); row != nil; row, value = c.Next() {
		record, err := decodeKept(value)
		if err != nil {
			return r, err
		}
		if (record.proven || record.by != m.Except) && !record.at.Before(m.Since.Truncate(time.Millisecond)) && t.mayAttach(record.key) {
			rows = append(rows, bytes.Clone(row))
		}
	}
	for _, row := range rows {
		item, err := t.giveBack(row, m.Now, m.Cause)
		if err != nil {
			return r, err
		}
		r.Items++
		r.Bytes += item.Size
	}
	return r, nil
}

// mayAttach tells whether key can be an item: it is no directory, and its parents are no items.
func (t *tx) mayAttach(key string) bool {
	if t.items.Get(dirRow(key)) != nil {
		return false
	}
	for key = parentOf(key); key != ""; key = parentOf(key) {
		if t.items.Get(rowKey(key)) != nil {
			return false
		}
	}
	return true
}

func (t *tx) releaseKept(m ReleaseKept) (r Result, err error) {
	var rows [][]byte
	c := t.kept.Cursor()
	planned := int64(0)
	for row, value := c.First(); row != nil && len(rows) < m.Most; row, value = c.Next() {
		expires, err := trashExpiry(row)
		if err != nil {
			return r, err
		}
		if expires.After(m.Now) && planned >= m.Bytes {
			break
		}
		record, err := decodeKept(value)
		if err != nil {
			return r, err
		}
		planned += record.item.Size
		rows = append(rows, bytes.Clone(row))
	}
	for _, row := range rows {
		size, err := t.release(row, m.Now, m.Grace)
		if err != nil {
			return r, err
		}
		r.Items++
		r.Bytes += size
	}
	return r, nil
}

// Kept returns what is kept under a key, or ErrNotFound. It does not look for an item at the key.
func (x *Index) Kept(key string) (kept Kept, err error) {
	if err := checkKey(key); err != nil {
		return Kept{}, err
	}
	err = x.view(func(b *view) error {
		row := b.Bucket(bucketKeptKeys).Get(rowKey(key))
		if row == nil {
			return ErrNotFound
		}
		kept, err = decodeKeptRow(row, b.Bucket(bucketKept).Get(row))
		return err
	})
	return kept, err
}

func decodeKeptRow(row, value []byte) (Kept, error) {
	expires, err := trashExpiry(row)
	if err != nil {
		return Kept{}, err
	}
	record, err := decodeKept(value)
	if err != nil {
		return Kept{}, err
	}
	return Kept{Removed{ID: trashID(row), Key: record.key, Item: record.item, At: record.at, Expires: expires}, record.proven, record.by}, nil
}

// EachKept calls fn for all kept rows, in order of expiry. The rules of List apply to fn.
func (x *Index) EachKept(fn func(Kept) error) error { return x.KeptAfter("", fn) }

// KeptAfter is EachKept behind the row of an ID; "": from the first on.
func (x *Index) KeptAfter(id string, fn func(Kept) error) error {
	from, err := behindRow(id)
	if err != nil {
		return err
	}
	fn = callback(fn)
	return x.scan(context.Background(), walk{bucket: bucketKept, from: from}, func(row, value []byte) ([]byte, error) {
		kept, err := decodeKeptRow(row, value)
		if err != nil {
			return nil, err
		}
		return nil, fn(kept)
	})
}

// NextKeptExpiry returns the earliest expiry of the kept rows; ok is false if there are none.
func (x *Index) NextKeptExpiry() (t time.Time, ok bool, err error) { return x.firstExpiry(bucketKept) }
