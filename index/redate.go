package index

import (
	"bytes"
	"time"
)

// A dated row lies in a bucket in the order in which rows expire, and says when its item was removed.
type dated struct {
	row     []byte
	at      time.Time
	expires time.Time
}

// datedBeyond are the rows of a bucket that Redate is for.
func datedBeyond(bucket *table, removedAt func(value []byte) (time.Time, error), m Redate) (found []dated, err error) {
	c := bucket.Cursor()
	for row, value := c.Seek(trashKey(m.Beyond.Add(time.Millisecond), 0)); row != nil && len(found) < m.Most; row, value = c.Next() {
		at, err := removedAt(value)
		if err != nil {
			return nil, err
		}
		expires, err := trashExpiry(row)
		if err != nil {
			return nil, err
		}
		if at.After(m.Now) {
			found = append(found, dated{bytes.Clone(row), at, expires})
		}
	}
	return found, nil
}

func trashedAt(value []byte) (time.Time, error) {
	record, err := decodeTrash(value)
	return record.at, err
}

func keptAt(value []byte) (time.Time, error) {
	record, err := decodeKept(value)
	return record.at, err
}

// NeedsRedate tells whether there is a row that m would change. It reads the rows that expire beyond m.Beyond.
func (x *Index) NeedsRedate(m Redate) (needs bool, err error) {
	m.Most = 1
	err = x.view(func(v *view) error {
		trash, err := datedBeyond(v.Bucket(bucketTrash), trashedAt, m)
		if err != nil || len(trash) > 0 {
			needs = err == nil
			return err
		}
		kept, err := datedBeyond(v.Bucket(bucketKept), keptAt, m)
		needs = len(kept) > 0
		return err
	})
	return needs, err
}

func (t *tx) redate(m Redate) (r Result, err error) {
	trash, err := datedBeyond(t.trash, trashedAt, m)
	if err != nil {
		return r, err
	}
	for _, d := range trash {
		record, err := decodeTrash(t.trash.Get(d.row))
		if err != nil {
			return r, err
		}
		record.at = m.Now
		t.remove(t.trash, d.row)
		if err := t.countTrash(&record.item, -1); err != nil {
			return r, err
		}
		if _, err := t.bury(&record, m.Now.Add(d.expires.Sub(d.at))); err != nil {
			return r, err
		}
	}
	m.Most -= len(trash)
	kept, err := datedBeyond(t.kept, keptAt, m)
	if err != nil {
		return r, err
	}
	for _, d := range kept {
		record, err := t.unkeep(d.row)
		if err != nil {
			return r, err
		}
		record.at = m.Now
		if err := t.putKept(&record, m.Now.Add(d.expires.Sub(d.at))); err != nil {
			return r, err
		}
	}
	r.Items = int64(len(trash) + len(kept))
	return r, nil
}
