package index

import (
	"bytes"
	"context"
	"time"
)

func (t *tx) setMeta(m SetMeta) {
	if m.Value == nil {
		t.remove(t.meta, []byte(m.Name))
	} else {
		t.put(t.meta, []byte(m.Name), encodeOpaque(metaV1, m.Value))
	}
}

// Meta returns a value set by Create or SetMeta; nil, nil when it is not set.
func (x *Index) Meta(name string) (value []byte, err error) {
	if err := validateMeta(name, nil); err != nil {
		return nil, err
	}
	err = x.view(func(b *view) error {
		if row := b.Bucket(bucketMeta).Get([]byte(name)); row != nil {
			value, err = decodeOpaque("meta", metaV1, row)
		}
		return err
	})
	return value, err
}

// Rows of bucket writers: the repository's last backup, and those of principals.
var (
	lastBackupRow = []byte{0x00}
	writerPrefix  = []byte{0x01}
)

func (t *tx) recordBackup(writer string, now time.Time) {
	t.put(t.writers, append(writerPrefix[:1:1], writer...), encodeWriter(now))
	t.put(t.writers, lastBackupRow, encodeWriter(now))
}

func (t *tx) takeBackBackup(m TakeBackBackup) {
	for _, row := range []struct {
		key    []byte
		before time.Time
	}{{append(writerPrefix[:1:1], m.Writer...), m.Before}, {lastBackupRow, m.All}} {
		switch {
		case !bytes.Equal(t.writers.Get(row.key), encodeWriter(m.At)):
		case row.before.IsZero():
			t.remove(t.writers, row.key)
		default:
			t.put(t.writers, row.key, encodeWriter(row.before))
		}
	}
}

func (t *tx) recordPastBackup(m RecordBackup) {
	last := readLastBackup(t.writers)
	t.recordBackup(m.Writer, m.At)
	if last != nil && last.After(m.At) {
		t.put(t.writers, lastBackupRow, encodeWriter(*last))
	}
}

// readLastBackup takes a record that does not decode for none: Check reports it,
// and the next backup replaces it.
func readLastBackup(writers getter) *time.Time {
	at, err := decodeWriter(writers.Get(lastBackupRow))
	if err != nil {
		return nil
	}
	return &at
}

// LastBackup is when a backup was last completed, by any writer; false: never.
func (x *Index) LastBackup() (time.Time, bool) {
	if at := x.lastBackup.Load(); at != nil {
		return *at, true
	}
	return time.Time{}, false
}

// LastBackupBy is when a writer last completed a backup; false: never.
func (x *Index) LastBackupBy(writer string) (at time.Time, ok bool, err error) {
	err = x.view(func(b *view) error {
		row := b.Bucket(bucketWriters).Get(append(writerPrefix[:1:1], writer...))
		if ok = row != nil; ok {
			at, err = decodeWriter(row)
		}
		return err
	})
	return at, ok, err
}

// Writers calls fn for each writer that completed a backup, by name. The rules of List apply to fn.
func (x *Index) Writers(fn func(Freshness) error) error {
	fn = callback(fn)
	return x.scan(context.Background(), walk{bucket: bucketWriters, from: writerPrefix}, func(row, value []byte) ([]byte, error) {
		at, err := decodeWriter(value)
		if err != nil {
			return nil, err
		}
		return nil, fn(Freshness{Writer: string(row[1:]), At: at})
	})
}
