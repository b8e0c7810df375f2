package index

import (
	"bytes"
	"context"
	"errors"
	"time"
)

// ListOptions selects what List visits.
type ListOptions struct {
	Dir       string // directory; "" is the root
	Recursive bool   // all items below Dir (directories themselves are left out); else one level with its sub-directories
	After     string // continue after this full key ("" = from the start)
	Present   bool   // leave out items with FlagMissing
	Dirs      bool   // with Recursive: directories, too, each before what is in it
	// Whole: all of the walk sees one snapshot, however long it takes. fn must be quick: pages that changes free are not used again meanwhile.
	Whole bool
}

// Rows calls fn for each entry in order: by name, level by level (a directory's
// children come where the directory's name sorts). ErrNotFound when Dir does not
// exist, ErrNotDir when it is an item. The memory used does not depend on the
// number of entries. An error of fn, or of ctx, ends the walk and is returned.
//
// The walk sees one consistent snapshot while fn keeps up; a walk that lasts
// longer than a few seconds continues in a newer one, so that a slow reader cannot
// hold old pages for ever: an entry that exists all the while is visited exactly
// once in any case.
//
// fn must not wait for an Apply: when the file outgrows its mapping, which is
// rare, a commit waits for readers to end.
func (x *Index) Rows(ctx context.Context, o ListOptions, fn func(*Row) error) error {
	if err := firstError(checkDir(o.Dir), checkDir(o.After)); err != nil {
		return err
	}
	if err := x.isDir(o.Dir); err != nil {
		return err
	}
	l := lister{prefix: dirRow(o.Dir), recursive: o.Recursive, dirs: o.Dirs || !o.Recursive, present: o.Present, fn: callback(fn)}
	l.row.below = len(l.prefix)
	w := l.walk(o.After)
	w.whole = o.Whole
	return x.scan(ctx, w, l.visit)
}

// List is Rows with everything that the index has of each entry.
func (x *Index) List(ctx context.Context, o ListOptions, fn func(Entry) error) error {
	return x.Rows(ctx, o, func(r *Row) error {
		e, err := r.Entry()
		if err != nil {
			return err
		}
		return fn(e)
	})
}

func (x *Index) isDir(key string) error {
	entry, err := x.Get(key)
	if err == nil && !entry.Dir {
		return ErrNotDir
	}
	return err
}

// A lister hands rows on, and skips the levels that are not asked for.
type lister struct {
	prefix    []byte // what the rows below the directory begin with
	recursive bool
	dirs      bool // directories are visited
	present   bool
	fn        func(*Row) error
	row       Row    // reused
	skip      []byte // reused
}

// walk begins after the entry of key after, or at the directory's first child.
func (l *lister) walk(after string) walk {
	w := walk{bucket: bucketItems, from: append(l.prefix[:len(l.prefix):len(l.prefix)], afterTree)}
	if !l.recursive {
		w.gap = afterTree // at a new snapshot, an item may have become a directory
	}
	row := rowKey(after)
	if after == "" || bytes.Compare(row, w.from) < 0 {
		return w
	}
	if bytes.HasPrefix(row, l.prefix) && !l.recursive {
		// after may lie deeper; the entry it is in was visited with it.
		if i := bytes.IndexByte(row[len(l.prefix):], separator); i >= 0 {
			row = row[:len(l.prefix)+i]
		}
	}
	w.from = append(row, w.gap)
	return w
}

func (l *lister) visit(row, value []byte) (skip []byte, err error) {
	if !bytes.HasPrefix(row, l.prefix) {
		return nil, errEnd
	}
	dir := isDirRow(row)
	if dir && !l.dirs {
		return nil, nil
	}
	if err := l.row.set(row, value); err != nil {
		return nil, err
	}
	if dir && !l.recursive {
		l.skip = append(append(l.skip[:0], row[:len(row)-1]...), afterTree)
		return l.skip, l.fn(&l.row)
	}
	if !dir && l.present && l.row.Flags&FlagMissing != 0 {
		return nil, nil
	}
	return nil, l.fn(&l.row)
}

// errEnd ends a scan without an error.
var errEnd = errors.New("end of walk")

// A walk says which rows a scan visits: those of bucket from `from` on.
type walk struct {
	bucket bucketID
	from   []byte
	gap    byte // a new snapshot begins at the last row and this byte
	whole  bool // there is no new one
}

// checkEvery is the number of rows between two looks at ctx and the clock.
const checkEvery = 32

// scan calls visit for rows in order until it returns an error. When visit returns
// skip, the rows before it are passed over. scan changes to a new snapshot when
// the one it has is older than x.renewAfter, and carries on where it was.
func (x *Index) scan(ctx context.Context, w walk, visit func(row, value []byte) (skip []byte, err error)) error {
	for {
		next, err := x.scanSnapshot(ctx, w, visit)
		if errors.Is(err, errEnd) {
			return nil
		}
		if err != nil {
			return err
		}
		w.from = next
	}
}

// scanSnapshot is scan in one transaction: errEnd at the end, else where to go on.
func (x *Index) scanSnapshot(ctx context.Context, w walk, visit func(row, value []byte) ([]byte, error)) (next []byte, err error) {
	err = x.view(func(b *view) error {
		next, err = x.scanTree(ctx, b.Bucket(w.bucket), w, visit)
		return err
	})
	return next, err
}

// scanTree is scanSnapshot in one that is at hand.
func (x *Index) scanTree(ctx context.Context, t *table, w walk, visit func(row, value []byte) ([]byte, error)) (next []byte, err error) {
	begin := time.Now()
	c := t.Cursor()
	row, value := c.Seek(w.from)
	for n := 1; row != nil; n++ {
		skip, err := visit(row, value)
		if err != nil {
			return nil, err
		}
		if n%checkEvery == 0 {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if !w.whole && time.Since(begin) >= x.renewAfter {
				if skip != nil {
					return bytes.Clone(skip), nil
				}
				return append(append(make([]byte, 0, len(row)+1), row...), w.gap), nil
			}
		}
		row, value = advance(c, skip)
	}
	return nil, errEnd
}

// advance goes to the next row, not before skip. The next row often is not: an
// empty directory needs no seek.
func advance(c *rowCursor, skip []byte) (row, value []byte) {
	row, value = c.Next()
	if skip != nil && row != nil && bytes.Compare(row, skip) < 0 {
		return c.Seek(skip)
	}
	return row, value
}
