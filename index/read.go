package index

import "io"

// view runs fn with the last state that is on stable storage.
func (x *Index) view(fn func(*view) error) (err error) {
	s, err := x.snapshots.acquire()
	if err != nil {
		return err
	}
	defer x.snapshots.release(s)
	return x.note(protect(func() error {
		if err := s.sound(); err != nil {
			return err
		}
		return fn(s)
	}))
}

// protect runs fn, with damaged pages as errors.
func protect(fn func() error) error {
	_, err := attempt(fn)
	return err
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
	err = x.view(func(b *view) error {
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

// Vacant returns nil if an item can be stored at key as far as names go, over an item there or not. ErrIsDir: there is a directory that
// does not give way to it, ErrManyDirs: not at once; ErrNotDir: an item is at a parent.
func (x *Index) Vacant(key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	return x.view(func(b *view) error {
		items := b.Bucket(bucketItems)
		for above := parentOf(key); above != ""; above = parentOf(above) {
			if items.Get(rowKey(above)) != nil {
				return ErrNotDir
			}
		}
		_, err := emptyDirs(items, key)
		return err
	})
}

// HasRef reports whether an item, a trash row or a kept row has a ref; and which key that has, or had: of an item whose blob is
// a file it is not known, and key is empty.
func (x *Index) HasRef(ref string) (key string, ok bool, err error) {
	err = x.view(func(b *view) error {
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
			if target.row != nil {
				key = keyOf(target.row)
			}
		case inTrash:
			var record trashRecord
			record, err = decodeTrash(b.Bucket(bucketTrash).Get(target.row))
			key = record.key
		case inKept:
			var record keptRecord
			record, err = decodeKept(b.Bucket(bucketKept).Get(target.row))
			key = record.key
		}
		return err
	})
	if err != nil {
		return "", false, err
	}
	return key, ok, nil
}

// WriteTo makes a checkpoint and writes a consistent copy of the database file (an index snapshot), in a state not older than the call.
// While it runs, pages that changes free are not reused, so w should not be slow.
func (x *Index) WriteTo(w io.Writer) (n int64, err error) {
	v, err := x.checkpointed()
	if err != nil {
		return 0, err
	}
	defer x.snapshots.release(v)
	err = x.note(protect(func() error {
		if err := v.sound(); err != nil {
			return err
		}
		n, err = v.tx.WriteTo(w)
		return err
	}))
	return n, withoutPath(err, x.dir)
}

// A RefPlace is where the bytes of a ref are.
type RefPlace struct {
	Item    bool     // an item has them
	Removed *Removed // a row of the trash has, or of what is kept; nil: none
	Kept    bool     // of what is kept
}

// PlaceOf finds where the bytes of a ref are; a zero RefPlace: they are gone.
func (x *Index) PlaceOf(ref string) (p RefPlace, err error) {
	err = x.view(func(b *view) error {
		value := b.Bucket(bucketRefs).Get([]byte(ref))
		if value == nil {
			return nil
		}
		target, err := decodeRef(value)
		if err != nil {
			return err
		}
		switch target.in {
		case inItems:
			p.Item = true
			return nil
		case inKept:
			kept, err := decodeKeptRow(target.row, b.Bucket(bucketKept).Get(target.row))
			p.Kept, p.Removed = true, &kept.Removed
			return err
		}
		removed, err := decodeRemoved(target.row, b.Bucket(bucketTrash).Get(target.row))
		p.Removed = &removed
		return err
	})
	return p, err
}
