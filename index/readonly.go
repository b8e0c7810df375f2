package index

import (
	"errors"

	bolt "go.etcd.io/bbolt"
)

// openReadOnly opens a file as it is: not synced, not upgraded. bbolt takes a shared lock, which needs no right to write.
func (x *Index) openReadOnly(path string) error {
	if err := probe(path); err != nil {
		return err
	}
	db, opened, err := openFile(path, bolt.Options{Timeout: lockWait, ReadOnly: true, NoStatistics: true})
	if err != nil {
		return err
	}
	x.db, x.place = db, place{path, opened}
	if err := x.load(); err != nil {
		return errors.Join(err, db.Close())
	}
	return nil
}

// A file that was not upgraded lacks the buckets of newer formats. What reads one of those goes through these two: it is
// as if it were empty.

func rowIn(bucket *bolt.Bucket, key []byte) []byte {
	if bucket == nil {
		return nil
	}
	return bucket.Get(key)
}

func firstIn(bucket *bolt.Bucket) []byte {
	if bucket == nil {
		return nil
	}
	row, _ := bucket.Cursor().First()
	return row
}
