package index

import (
	"bytes"
	"fmt"
	"sync/atomic"
)

// maxHeight bounds the branches above a leaf. A tree has about four where a million rows are in it; one of the longest
// keys, of which few fit into a page, would have a billion of them with these.
const maxHeight = 40

// A state is what one transaction has committed, read from the mapping of the file. Its methods, those of its trees and of
// their cursors panic with an ErrCorrupt where a page cannot be right, and with a fault of the runtime where it cannot be read:
// attempt makes an error of either. They hold every page that they come to against what led to it, each time, so
// that a page that changes while the index is open leads to an error as well, never into a circle.
type state struct {
	committed
	data     []byte // the pages
	resident *residence
}

// newState reads the root bucket, where the list of free pages ends, and the roots that the commit before, last, did not have.
func newState(data []byte, m meta, last *committed) *state {
	s := &state{committed: committed{meta: m, trees: make(map[string]*tree)}, data: data, resident: newResidence(data, m.pageSize)}
	var err error
	if m.freelist != noFreelist {
		s.load(m.freelist)
		if s.free, err = s.parseFreelist(data[m.freelist*uint64(m.pageSize):]); err != nil {
			panic(err)
		}
	}
	root := &tree{s: s, root: m.root, buckets: true}
	c := root.Cursor()
	for c.first(); c.valid(); c.next() {
		name, value := c.row()
		s.rootRows = append(append(s.rootRows, name...), value...)
		t := &tree{s: s}
		if t.root, err = bucketRoot(value); err == nil && t.root == 0 {
			t.inline, err = parseInline(value)
		}
		if err != nil {
			panic(err)
		}
		t.know(last.trees[string(name)])
		s.trees[string(name)] = t
	}
	return s
}

// know remembers how a tree begins and how high it is, while its root is as it was written; before is the tree of the same bucket before the commit.
// Nothing else tells the root from that of another tree, whose rows would be missing in this one.
func (t *tree) know(before *tree) {
	switch {
	case t.root == 0:
	case before != nil && before.root == t.root:
		t.first = before.first
		t.levels.Store(before.levels.Load())
	default:
		_ = protect(func() error { // who uses the bucket meets what is wrong
			p := t.s.anyPage(t.root, false)
			if p.count > 0 {
				t.first = bytes.Clone(p.key(0))
			}
			t.height()
			return nil
		})
	}
}

// bucketRoot is where the tree of a bucket begins; 0: it is a leaf in the bucket's value.
func bucketRoot(value []byte) (uint64, error) {
	if len(value) < bucketHeader {
		return 0, fmt.Errorf("%w: a bucket has %d bytes", ErrCorrupt, len(value))
	}
	return byteOrder.Uint64(value), nil
}

// tree returns that of a bucket, or one without rows if there is none, as in a file of an older format that must not be
// changed.
func (s *state) tree(id bucketID) *tree {
	if t := s.trees[bucketNames[id]]; t != nil {
		return t
	}
	return &tree{s: s, inline: page{leaf: true}}
}

// has tells whether there is a tree of that bucket.
func (s *state) has(id bucketID) bool { return s.trees[bucketNames[id]] != nil }

// page is a branch or a leaf, as its place in a tree wants it.
func (s *state) page(id uint64, leaf, buckets bool) page {
	p := s.anyPage(id, buckets)
	if p.leaf != leaf {
		panic(damagedPage(id, "it has type %#x", byteOrder.Uint16(p.bytes[8:])))
	}
	return p
}

// anyPage is a branch or a leaf, as it may be.
func (s *state) anyPage(id uint64, buckets bool) page {
	if id < firstUsablePage || id >= s.end {
		panic(damagedPage(id, "there are pages %d to %d", firstUsablePage, s.end))
	}
	s.load(id)
	p, err := s.parse(s.data[id*uint64(s.pageSize):], id, buckets)
	if err != nil {
		panic(err)
	}
	return p
}

// load brings a page into memory, with those that belong to it as it says.
func (s *state) load(id uint64) {
	s.resident.load(id, id)
	if overflow := uint64(byteOrder.Uint32(s.data[id*uint64(s.pageSize)+12:])); overflow > 0 && overflow < s.end-id {
		s.resident.load(id, id+overflow)
	}
}

// A tree is the rows of one bucket, in the order of their keys. It is safe for concurrent use.
type tree struct {
	s       *state
	root    uint64 // 0: inline
	inline  page
	buckets bool         // it is the root bucket
	levels  atomic.Int32 // 1 + the branches above each leaf; 0: not known yet
	first   []byte       // its first row, that no branch says; nil: not known
}

// height is the number of branches above each leaf. The first leaf says it, which a file of ours has no deeper than others.
func (t *tree) height() int {
	if n := t.levels.Load(); n > 0 {
		return int(n) - 1
	}
	n := 0
	if t.root != 0 {
		for id := t.root; ; n++ {
			p := t.s.anyPage(id, t.buckets)
			if n > maxHeight {
				panic(damagedPage(id, "there are %d pages above it", n))
			}
			if p.leaf {
				break
			}
			id = p.child(0)
		}
	}
	t.levels.Store(int32(n) + 1)
	return n
}

// Get returns the value of a key, nil when there is none. It is valid as long as the state is.
func (t *tree) Get(key []byte) []byte {
	p := t.leafOf(key)
	if i := p.search(key); i < p.count && bytes.Equal(p.key(i), key) {
		return p.value(i)
	}
	return nil
}

// pair is Get of two keys between which no other can lie, of which the tree has one at most.
func (t *tree) pair(first, second []byte) (ofFirst, ofSecond []byte) {
	p := t.leafOf(first)
	i := p.search(first)
	if i == p.count { // the next leaf may begin with it
		return nil, t.Get(second)
	}
	switch key := p.key(i); {
	case bytes.Equal(key, first):
		return p.value(i), nil
	case bytes.Equal(key, second):
		return nil, p.value(i)
	}
	return nil, nil
}

// leafOf returns the leaf that has key, or would have it. It holds pages against each other as a cursor does.
func (t *tree) leafOf(key []byte) page {
	p, height := t.rootPage(), t.height()
	var lo, hi []byte
	p.fits(true, lo, hi)
	for level := 1; !p.leaf; level++ {
		i := p.search(key)
		lo, hi = p.bounds(i, lo, hi)
		p = t.s.page(p.child(i), level == height, t.buckets)
		p.fits(false, lo, hi)
	}
	return p
}

// rootPage is the first page of the tree.
func (t *tree) rootPage() page {
	if t.root == 0 {
		return t.inline
	}
	p := t.s.page(t.root, t.height() == 0, t.buckets)
	if first := t.first; first != nil && (p.count == 0 || !bytes.Equal(p.key(0), first)) {
		panic(damagedPage(p.id, "it begins with another row than it did"))
	}
	return p
}

// Cursor walks over the rows. What it returns is valid as long as the state is.
func (t *tree) Cursor() *cursor {
	c := &cursor{}
	c.begin(t)
	return c
}

type cursor struct {
	tree  *tree
	stack []position // from the root to a leaf; empty: the cursor was not set yet, or has passed the end
	array [5]position
}

// A position is an element of a page, whose keys are from lo on and before hi; nil: any.
type position struct {
	page   page
	index  int
	lo, hi []byte
}

func (c *cursor) begin(t *tree) { c.tree, c.stack = t, nil }

// First, Seek and Next return a row; key is nil at the end.
func (c *cursor) First() (key, value []byte) {
	c.first()
	return c.rowOrEnd()
}

// Seek goes to the first row that is not before key.
func (c *cursor) Seek(key []byte) (row, value []byte) {
	c.seek(key)
	return c.rowOrEnd()
}

// Next goes to the row that follows.
func (c *cursor) Next() (key, value []byte) {
	c.next()
	return c.rowOrEnd()
}

// before is how many of the rows that follow on the leaf at hand come before key; nil: all of them.
func (c *cursor) before(key []byte) int {
	top := &c.stack[len(c.stack)-1]
	last := top.page.count - 1
	if key != nil && bytes.Compare(top.page.key(last), key) >= 0 {
		last = top.page.search(key) - 1
	}
	return max(last-top.index, 0)
}

func (c *cursor) rowOrEnd() (key, value []byte) {
	if !c.valid() {
		return nil, nil
	}
	return c.row()
}

func (c *cursor) valid() bool { return len(c.stack) > 0 }

func (c *cursor) row() (key, value []byte) {
	top := &c.stack[len(c.stack)-1]
	return top.page.row(top.index)
}

func (c *cursor) first() {
	c.firstPage()
	c.settle()
}

func (c *cursor) seek(key []byte) {
	c.seekPage(key)
	top := &c.stack[len(c.stack)-1]
	top.index = top.page.search(key)
	c.settle()
}

func (c *cursor) next() {
	if !c.valid() {
		return
	}
	top := &c.stack[len(c.stack)-1]
	if top.index++; top.index >= top.page.count {
		c.settle()
	}
}

// settle goes on to the next leaf that has an element, if the one at hand has no more.
func (c *cursor) settle() {
	for c.valid() {
		if top := &c.stack[len(c.stack)-1]; top.index < top.page.count {
			return
		}
		c.nextPage()
	}
}

// firstPage goes to the first leaf, before its first element.
func (c *cursor) firstPage() {
	c.root()
	for c.down(0) {
	}
}

// seekPage goes to the leaf that has key, or would have it.
func (c *cursor) seekPage(key []byte) {
	c.root()
	for {
		if top := &c.stack[len(c.stack)-1]; top.page.leaf || !c.down(top.page.search(key)) {
			return
		}
	}
}

// nextPage goes to the next leaf, or passes the end.
func (c *cursor) nextPage() {
	for {
		if c.stack = c.stack[:len(c.stack)-1]; len(c.stack) == 0 {
			return
		}
		if top := &c.stack[len(c.stack)-1]; top.index+1 < top.page.count {
			for i := top.index + 1; c.down(i); i = 0 {
			}
			return
		}
	}
}

// root puts the first page of the tree on the stack.
func (c *cursor) root() {
	c.stack = c.array[:0]
	c.push(c.tree.rootPage(), nil, nil)
}

// down puts child i of the branch on top onto the stack; false: a leaf is on top.
func (c *cursor) down(i int) bool {
	top := &c.stack[len(c.stack)-1]
	if top.page.leaf {
		return false
	}
	top.index = i
	lo, hi := top.page.bounds(i, top.lo, top.hi)
	c.push(c.tree.s.page(top.page.child(i), len(c.stack) == c.tree.height(), c.tree.buckets), lo, hi)
	return true
}

// bounds are those of the keys of a branch's child, lo and hi those of the branch. As each child has bounds of its own, within
// those of its parent, a walk comes to an end also where pages change meanwhile.
func (p *page) bounds(i int, lo, hi []byte) (childLo, childHi []byte) {
	childLo, childHi = p.key(i), hi
	if i+1 < p.count {
		childHi = p.key(i + 1)
	}
	if bytes.Compare(childLo, lo) < 0 || childHi != nil && bytes.Compare(childLo, childHi) >= 0 || hi != nil && bytes.Compare(childHi, hi) > 0 {
		panic(damagedPage(p.id, "element %d is out of order", i))
	}
	return childLo, childHi
}

// fits panics unless the keys of a page are what leads to it says: from lo on, before hi. root: nothing does.
func (p *page) fits(root bool, lo, hi []byte) {
	err := p.begins(root, lo)
	if err == nil && p.leaf {
		err = p.inOrder(hi)
	}
	if err != nil {
		panic(err)
	}
}

func (c *cursor) push(p page, lo, hi []byte) {
	p.fits(len(c.stack) == 0, lo, hi)
	c.stack = append(c.stack, position{p, 0, lo, hi})
}
