package index

import (
	"bytes"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// A guard leads bbolt through a write transaction: before bbolt comes to a page, the guard has read it as readers do. A page that
// cannot be right is then an ErrCorrupt (as a panic, see state) before it does harm: bbolt calls itself for each branch
// below a branch, asks for as much memory as an element says that it has bytes, and frees as many pages as the header says that
// belong to the page. Until Commit, it changes nothing but leaves, in memory: so the pages to which it comes are those of the state
// with which the transaction began.
type guard struct {
	s       *state
	touched map[uint64]*touchedLeaf
}

// A touchedLeaf is one that the transaction changes. What is left in it is bounded from below.
type touchedLeaf struct {
	bytes, rows int
	shrunk      bool // a row was removed
	around      bool // its neighbours were looked at
}

// newGuard is one for a state that is known to be the last commit's: its root bucket, and the list of free pages.
func newGuard(s *state) *guard {
	return &guard{s: s, touched: make(map[uint64]*touchedLeaf)}
}

// bucket returns one that must be there.
func (g *guard) bucket(b *bolt.Tx, name []byte) *bucket {
	if !g.s.has(name) {
		panic(missingBucket(name))
	}
	return &bucket{g: g, bolt: b.Bucket(name), tree: g.s.Bucket(name)}
}

func missingBucket(name []byte) error {
	return fmt.Errorf("%w: bucket %s is missing", ErrCorrupt, name)
}

// A bucket is one of bbolt's in a write transaction.
type bucket struct {
	g    *guard
	bolt *bolt.Bucket
	tree *tree // as it was when the transaction began

	at  cursor // at the leaf of key
	key []byte
}

// enter looks at the pages that lead to key.
func (b *bucket) enter(key []byte) {
	if b.at.valid() && bytes.Equal(key, b.key) {
		return
	}
	b.at.begin(b.tree)
	b.at.seekPage(key)
	b.key = append(b.key[:0], key...)
}

// touch is enter for a key that is to be changed. Leaves that become small are merged with a neighbour when the
// transaction is committed, and so are branches.
func (b *bucket) touch(key []byte, remove bool) {
	b.enter(key)
	top := &b.at.stack[len(b.at.stack)-1]
	l := b.g.touched[top.page.id]
	if l == nil {
		l = &touchedLeaf{bytes: top.page.used, rows: top.page.count}
		b.g.touched[top.page.id] = l
	}
	// A row that was there is counted as gone, whatever takes its place, and each time.
	if i := top.page.search(key); i < top.page.count && bytes.Equal(top.page.key(i), key) {
		l.bytes -= elementSize + len(key) + len(top.page.value(i))
		if remove {
			l.rows--
		}
	}
	l.shrunk = l.shrunk || remove
	// bbolt merges what has no more than a quarter of a page, or one row.
	if l.shrunk && !l.around && (l.bytes <= b.g.s.pageSize/4 || l.rows <= 1) {
		l.around = true
		b.at.lookAround()
	}
}

// lookAround looks at the neighbours of each page from the root to the leaf.
func (c *cursor) lookAround() {
	for depth := range len(c.stack) - 1 {
		parent := &c.stack[depth]
		for i := max(0, parent.index-1); i <= min(parent.index+1, parent.page.count-1); i++ {
			lo, hi := parent.page.bounds(i, parent.lo, parent.hi)
			p := c.tree.s.page(parent.page.child(i), depth+1 == c.tree.height(), c.tree.buckets)
			err := p.begins(false, lo)
			if err == nil {
				err = p.inOrder(hi)
			}
			if err != nil {
				panic(err)
			}
		}
	}
}

func (b *bucket) Get(key []byte) []byte {
	b.enter(key)
	return b.bolt.Get(key)
}

func (b *bucket) Put(key, value []byte) error {
	b.touch(key, false)
	return b.bolt.Put(key, value)
}

func (b *bucket) Delete(key []byte) error {
	b.touch(key, true)
	return b.bolt.Delete(key)
}

func (b *bucket) NextSequence() (uint64, error) {
	b.at.begin(b.tree)
	b.at.root()
	b.at.stack = b.at.stack[:0] // it is at no leaf
	return b.bolt.NextSequence()
}

// Cursor walks over the rows as they are in the transaction. Nothing may be changed meanwhile.
func (b *bucket) Cursor() *rows { return &rows{bucket: b, bolt: b.bolt.Cursor()} }

// rows is a cursor of bbolt's that has a guard ahead.
type rows struct {
	bucket *bucket
	bolt   *bolt.Cursor
	ahead  cursor
	limit  []byte // the first row of the leaf that ahead is at; nil: there is none
	row    []byte // that bolt is at
}

func (r *rows) First() (key, value []byte) {
	r.ahead.begin(r.bucket.tree)
	r.ahead.firstPage()
	r.lead()
	return r.moved(r.bolt.First())
}

func (r *rows) Seek(seek []byte) (key, value []byte) {
	r.ahead.begin(r.bucket.tree)
	r.ahead.seekPage(seek)
	r.lead()
	return r.moved(r.bolt.Seek(seek))
}

func (r *rows) Next() (key, value []byte) {
	if r.limit != nil && bytes.Compare(r.row, r.limit) >= 0 {
		r.lead()
	}
	return r.moved(r.bolt.Next())
}

// lead goes on to the next leaf that surely has a row still: bbolt passes over those that have become empty.
func (r *rows) lead() {
	for r.ahead.valid() {
		r.ahead.nextPage()
		if !r.ahead.valid() {
			break
		}
		top := &r.ahead.stack[len(r.ahead.stack)-1]
		if r.bucket.g.touched[top.page.id] == nil && top.page.count > 0 {
			r.limit = top.page.key(0)
			return
		}
	}
	r.limit = nil
}

func (r *rows) moved(key, value []byte) ([]byte, []byte) {
	r.row = key
	return key, value
}
