package index

import (
	"errors"
	"io"
	"math"
	"sync"
	"sync/atomic"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// durable is the last transaction that is on stable storage. bbolt shows a commit to
// readers when it has written it, before the sync returns: they wait here for that.
type durable struct {
	last atomic.Int64 // its ID; math.MaxInt when nobody is to wait any more

	mu      sync.Mutex
	changed sync.Cond // of last; its lock is mu
}

// reached wakes the readers of transaction id.
func (d *durable) reached(id int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last.Store(int64(id))
	d.changed.Broadcast()
}

// end is for an index that has failed: what its readers see then may not be on the disk.
func (d *durable) end() { d.reached(math.MaxInt) }

// wait may be called with a read transaction open: a commit that can be seen no longer needs readers to end.
func (d *durable) wait(id int) {
	if int64(id) <= d.last.Load() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for int64(id) > d.last.Load() {
		d.changed.Wait()
	}
}

// begin starts a read transaction, of a state that is on stable storage unless the index has failed.
func (x *Index) begin() (*bolt.Tx, error) {
	tx, err := x.db.Begin(false)
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return nil, ErrClosed
	}
	if err != nil {
		return nil, err
	}
	x.durable.wait(tx.ID())
	return tx, nil
}

// view runs fn in a read transaction.
func (x *Index) view(fn func(*bolt.Tx) error) (err error) {
	defer faultIsCorrupt(&err)()
	tx, err := x.begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	return fn(tx)
}

// Get returns the item or directory at key, or ErrNotFound. The root, "", is always a directory.
func (x *Index) Get(key string) (entry Entry, err error) {
	if key == "" {
		return Entry{Dir: true}, nil
	}
	if err := checkKey(key); err != nil {
		return Entry{}, err
	}
	entry.Key = key
	err = x.view(func(b *bolt.Tx) error {
		items, row := b.Bucket(bucketItems), rowKey(key)
		if value := items.Get(row); value != nil {
			entry.Item, err = decodeItem(value)
			return err
		}
		value := items.Get(append(row, separator))
		if value == nil {
			return ErrNotFound
		}
		entry.Dir = true
		entry.Item.Created, err = decodeDir(value)
		return err
	})
	if err != nil {
		return Entry{}, err
	}
	return entry, nil
}

// HasRef reports whether an item or a trash row refers to ref, and under which
// key, or which key it had.
func (x *Index) HasRef(ref string) (key string, ok bool, err error) {
	err = x.view(func(b *bolt.Tx) error {
		value := b.Bucket(bucketRefs).Get([]byte(ref))
		if value == nil {
			return nil
		}
		target, err := decodeRef(value)
		if err != nil {
			return err
		}
		ok = true
		switch target.in {
		case inItems:
			key = keyOf(target.row)
		case inTrash:
			var record trashRecord
			record, err = decodeTrash(b.Bucket(bucketTrash).Get(target.row))
			key = record.key
		case inKept:
			var record keptRecord
			record, err = decodeKept(rowIn(b.Bucket(bucketKept), target.row))
			key = record.key
		}
		return err
	})
	if err != nil {
		return "", false, err
	}
	return key, ok, nil
}

// WriteTo writes a consistent copy of the database file (an index snapshot), of
// the state at the call; it can be opened in place of the file. While it runs,
// pages that changes free are not used again: w should not be slow.
func (x *Index) WriteTo(w io.Writer) (n int64, err error) {
	err = x.view(func(b *bolt.Tx) error {
		n, err = b.WriteTo(w)
		return err
	})
	return n, withoutPath(err, x.dir)
}
