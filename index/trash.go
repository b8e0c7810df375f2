package index

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"time"
)

// trashKeySize is the length of a trash row's key: expiry and sequence.
const trashKeySize = 16

func trashKey(expires time.Time, sequence uint64) []byte {
	// Before 1970 all is long past.
	ms := max(0, expires.UnixMilli())
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(make([]byte, 0, trashKeySize), uint64(ms)), sequence)
}

func trashExpiry(row []byte) (time.Time, error) {
	if len(row) != trashKeySize || binary.BigEndian.Uint64(row) > math.MaxInt64 {
		return time.Time{}, damaged("trash key")
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(row))).UTC(), nil
}

func trashID(row []byte) string { return hex.EncodeToString(row) }

// trashRowOf is the row of an ID; nil when there can be none.
func trashRowOf(id string) []byte {
	if row, err := hex.DecodeString(id); err == nil && len(row) == trashKeySize && trashID(row) == id {
		return row
	}
	return nil
}

// behindRow is where the rows behind that of an ID begin; nil: with the first.
func behindRow(id string) ([]byte, error) {
	if id == "" {
		return nil, nil
	}
	row := trashRowOf(id)
	if row == nil {
		return nil, fmt.Errorf("%w: ID of a row", ErrInvalid)
	}
	return append(row, 0), nil
}

// discard moves the item at key into the trash. until is the end of its grace time; what counts against no limit has
// none. That goes by the item rather than by its key, as a rename must not be a way around the grace time.
func (t *tx) discard(key string, item *Item, now, until time.Time, bound *TrashBound) (id string, err error) {
	if item.Flags&FlagExempt != 0 {
		until = now
	}
	if bound != nil && until.After(now) {
		c, err := t.total()
		switch {
		case err != nil:
			return "", err
		case c.TrashBytes+item.Size <= bound.Bytes && (bound.Items == 0 || c.TrashItems < bound.Items):
		case bound.Spare.IsZero(), bound.Guarded && !item.Modified.Before(bound.Spare):
			return "", ErrTrash
		case !item.Modified.Before(bound.Spare):
			until = now
		}
	}
	if err := t.detach(key, item); err != nil {
		return "", err
	}
	return t.bury(&trashRecord{at: now, key: key, item: removed(item)}, until)
}

// removed is the item without what it has as part of a plan. Whether its blob is there is seen when it is restored.
func removed(item *Item) Item {
	r := *item
	r.Plan, r.Found = 0, time.Time{}
	r.Flags &^= FlagReturned | FlagMissing
	return r
}

// bury makes a row in the trash of what has no key any more.
func (t *tx) bury(record *trashRecord, until time.Time) (id string, err error) {
	row, err := t.nextRow(bucketTrash, until)
	if err != nil {
		return "", err
	}
	t.set(t.trash, row, encodeTrash(record))
	t.set(t.refs, []byte(record.item.Ref), encodeRef(refTarget{in: inTrash, row: row}))
	return trashID(row), t.countTrash(&record.item, +1)
}

// nextRow is a new row key of a bucket whose rows lie in the order in which they expire.
func (t *tx) nextRow(bucket bucketID, expires time.Time) ([]byte, error) {
	sequence, err := t.nextSequence(bucket, 1)
	if err != nil {
		return nil, err
	}
	return trashKey(expires, sequence), nil
}

func (t *tx) restore(m Restore) (r Result, err error) {
	row := trashRowOf(m.ID)
	if m.Ref != "" {
		var in refPlace
		if in, row, err = t.placeOf(m.Ref); err != nil {
			return r, err
		}
		if in == inKept {
			return t.restoreKept(m, row)
		}
	} else if row == nil {
		return r, ErrNotFound
	} else if expires, err := trashExpiry(row); err != nil || expires.Before(m.Now) && !m.Held {
		return r, errors.Join(ErrNotFound, err) // what has expired may have lost its blob already
	}
	value := t.trash.Get(row)
	if value == nil {
		return r, ErrNotFound
	}
	record, err := decodeTrash(value)
	if err != nil {
		return r, err
	}
	key := m.Key
	if key == "" {
		key = record.key
	}
	r.Previous, err = t.itemUnder(key)
	if err != nil {
		return r, err
	}
	if r.Previous != nil {
		return r, ErrExists
	}
	t.remove(t.trash, row)
	if err := t.countTrash(&record.item, -1); err != nil {
		return r, err
	}
	if !m.Exempt {
		record.item.Flags &^= FlagExempt
	}
	if err := t.attach(key, &record.item, m.Now, m.TrashUntil); err != nil {
		return r, err
	}
	r.Moved = &record.item
	if err := t.recordChange(m.Cause, m.Now, &record.item, restored(key, &record.item)); err != nil {
		return r, err
	}
	return r, firstError(t.checkLimit(&record.item, m.Limit), t.admitCharges(m.MaxCharges, false))
}

// placeOf is the row of the trash, or of what is kept, that has a ref: ErrNotFound if neither has.
func (t *tx) placeOf(ref string) (in refPlace, row []byte, err error) {
	value := t.refs.Get([]byte(ref))
	if value == nil {
		return in, nil, ErrNotFound
	}
	target, err := decodeRef(value)
	if err == nil && target.in == inItems {
		err = ErrNotFound
	}
	return target.in, bytes.Clone(target.row), err
}

// restoreKept is restore of what is kept under the key.
func (t *tx) restoreKept(m Restore, row []byte) (r Result, err error) {
	record, err := decodeKept(t.kept.Get(row))
	if err != nil {
		return r, err
	}
	if record.key != m.Key {
		return r, ErrNotFound
	}
	if r.Previous, err = t.itemUnder(m.Key); err != nil {
		return r, err
	}
	if r.Previous != nil {
		return r, ErrExists
	}
	r.Moved, err = t.giveBack(row, m.Now, m.Cause)
	return r, err
}

func (t *tx) purge(m PurgeTrash) error {
	for _, id := range m.IDs {
		row := trashRowOf(id)
		if row == nil {
			continue
		}
		value := t.trash.Get(row)
		if value == nil {
			continue
		}
		record, err := decodeTrash(value)
		if err != nil {
			return err
		}
		t.set(t.trash, row, nil)
		t.remove(t.refs, []byte(record.item.Ref))
		if err := t.dropPayload(record.item.Ref); err != nil {
			return err
		}
		if err := t.countTrash(&record.item, -1); err != nil {
			return err
		}
	}
	return nil
}

func decodeRemoved(row, value []byte) (Removed, error) {
	expires, err := trashExpiry(row)
	if err != nil {
		return Removed{}, err
	}
	record, err := decodeTrash(value)
	if err != nil {
		return Removed{}, err
	}
	return Removed{ID: trashID(row), Key: record.key, Item: record.item, At: record.at, Expires: expires}, nil
}

// Trash calls fn for rows in order of expiry, those that expire before `before`
// only (zero: all). Memory, snapshots and what fn must not do are as in List.
func (x *Index) Trash(before time.Time, fn func(Removed) error) error {
	return x.TrashAfter("", before, fn)
}

// TrashAfter is Trash behind the row of an ID; "": from the first on.
func (x *Index) TrashAfter(id string, before time.Time, fn func(Removed) error) error {
	from, err := behindRow(id)
	if err != nil {
		return err
	}
	fn = callback(fn)
	return x.scan(context.Background(), walk{bucket: bucketTrash, from: from}, func(row, value []byte) ([]byte, error) {
		removed, err := decodeRemoved(row, value)
		if err != nil {
			return nil, err
		}
		if !before.IsZero() && !removed.Expires.Before(before) {
			return nil, errEnd
		}
		return nil, fn(removed)
	})
}

// Confirm returns ErrCorrupt unless the ref of each row leads to that row, so that damage of a page does not cause the removal of
// bytes that an item uses.
func (x *Index) Confirm(rows []Removed) error {
	return x.view(func(b *view) error {
		refs := b.Bucket(bucketRefs)
		for _, row := range rows {
			target, err := decodeRef(refs.Get([]byte(row.Item.Ref)))
			if err != nil || target.in != inTrash || trashID(target.row) != row.ID {
				return fmt.Errorf("%w: ref %x does not lead to trash row %s", ErrCorrupt, row.Item.Ref, row.ID)
			}
		}
		return nil
	})
}

// Removed returns one row, also an expired one, or ErrNotFound.
func (x *Index) Removed(id string) (removed Removed, err error) {
	row := trashRowOf(id)
	if row == nil {
		return removed, ErrNotFound
	}
	err = x.view(func(b *view) error {
		value := b.Bucket(bucketTrash).Get(row)
		if value == nil {
			return ErrNotFound
		}
		removed, err = decodeRemoved(row, value)
		return err
	})
	return removed, err
}

// NextExpiry is the earliest expiry in the trash; ok is false when it is empty.
func (x *Index) NextExpiry() (t time.Time, ok bool, err error) { return x.firstExpiry(bucketTrash) }

// firstExpiry is that of the first row of a bucket whose rows lie in the order in which they expire.
func (x *Index) firstExpiry(bucket bucketID) (t time.Time, ok bool, err error) {
	err = x.view(func(b *view) error {
		row, _ := b.Bucket(bucket).Cursor().First()
		if row == nil {
			return nil
		}
		ok = true
		t, err = trashExpiry(row)
		return err
	})
	return t, ok && err == nil, err
}
