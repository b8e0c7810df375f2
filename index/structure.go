package index

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
)

// A structureCheck walks over the pages of one committed state in the file, each at most once, with reads of the file: an
// error of the disk is an error here, not a fault. It keeps a bit for each page that it came to and one branch for each
// level of a tree, and comes to an end whatever the pages say.
//
// It wants that the list of free pages is right; that every bucket is a tree, of which each page lies in the file, is of
// the type that its place wants, names itself, has its elements within itself and in order, and takes as many pages as
// they need; and that no page is used twice, or used and free. Where it does not read a leaf, it does not see the pages that
// follow and belong to it.
type structureCheck struct {
	meta
	ctx    context.Context
	file   io.ReaderAt
	leaves bool // read them all; else those alone of trees with at most one branch, and the first of each other tree
	// problem is called with each fault. The check goes on beside it when it returns nil.
	problem func(error) error

	used, free pageSet
	bucket     string       // that is looked at
	buckets    []bucketTree // found in the root bucket
	pages      int          // read
	height     int          // of the tree
	spare      [][]byte     // buffers, for a page of each level
}

// A bucketTree is a bucket that is more than a leaf in its value.
type bucketTree struct {
	name string
	root uint64
}

func (c *structureCheck) run() error {
	list, err := c.eachFree(c.file, func(id uint64) error {
		c.free.add(id)
		return c.ctx.Err()
	})
	if err != nil {
		if err := c.tell(err); err != nil {
			return err
		}
	} else if c.freelist != noFreelist {
		for id := c.freelist; id <= list.last; id++ {
			c.used.add(id)
		}
	}
	if err := c.tree(bucketTree{"", c.root}); err != nil {
		return err
	}
	for _, b := range c.buckets {
		if err := c.tree(b); err != nil {
			return err
		}
	}
	return c.ctx.Err()
}

// tell passes on what is wrong; an error of another kind ends the check.
func (c *structureCheck) tell(err error) error {
	if c.ctx.Err() != nil {
		return c.ctx.Err()
	}
	if errors.Is(err, fs.ErrClosed) {
		return ErrClosed
	}
	if c.bucket != "" {
		err = fmt.Errorf("bucket %s: %w", printableName(c.bucket), err)
	}
	return c.problem(err)
}

// printableName is a name as it can be shown, whatever its bytes are.
func printableName(name string) string {
	if slices.ContainsFunc([]rune(name), func(r rune) bool { return r < 'a' || r > 'z' }) {
		return fmt.Sprintf("%.100q", name)
	}
	return name
}

// tree looks at the pages of a bucket; the name of the root bucket is empty.
func (c *structureCheck) tree(b bucketTree) error {
	c.bucket = b.name
	height, err := c.findHeight(b.root)
	if err == nil {
		c.height = height
		return c.node(b.root, 0, nil, nil)
	}
	return c.tell(err)
}

// findHeight goes from the root to the first leaf, which says how deep all of them are.
func (c *structureCheck) findHeight(id uint64) (int, error) {
	var above []uint64
	for height := 0; ; height++ {
		if slices.Contains(above, id) {
			return 0, damagedPage(id, "it is below itself")
		}
		if height > maxHeight {
			return 0, damagedPage(id, "there are %d pages above it", height)
		}
		above = append(above, id)
		p, err := c.read(id, 0)
		if err != nil || p.leaf {
			return height, err
		}
		id = p.child(0)
	}
}

// node looks at a page and those below it. Its keys are from lo on and before hi (nil: any).
func (c *structureCheck) node(id uint64, depth int, lo, hi []byte) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	p, err := c.pageOnce(id, depth, lo, hi)
	if err != nil {
		return c.tell(c.lost(err, lo, hi))
	}
	if p.leaf {
		return c.leaf(&p)
	}
	if depth+1 == c.height && depth > 0 && !c.leaves && c.bucket != "" {
		return c.unread(&p)
	}
	order := make([]int, p.count)
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(p.child(a), p.child(b)) }) // as they lie on the disk
	c.prefetch(&p, order)
	for _, i := range order {
		childLo, childHi := p.key(i), hi
		if i+1 < p.count {
			childHi = p.key(i + 1)
		}
		if err := c.node(p.child(i), depth+1, childLo, childHi); err != nil {
			return err
		}
	}
	return nil
}

// lost says which rows an error is about.
func (c *structureCheck) lost(err error, lo, hi []byte) error {
	if lo == nil && hi == nil || c.bucket == "" {
		return err
	}
	from, to := "the first", "the last"
	if len(lo) > 0 {
		from = fmt.Sprintf("%.80q", lo)
	}
	if hi != nil {
		to = fmt.Sprintf("before %.80q", hi)
	}
	return fmt.Errorf("%w; it has the rows from %s to %s", err, from, to)
}

// pageOnce reads a page that must not have been used before.
func (c *structureCheck) pageOnce(id uint64, depth int, lo, hi []byte) (page, error) {
	if err := c.use(id); err != nil {
		return page{}, err
	}
	p, err := c.read(id, depth)
	if err != nil {
		return p, err
	}
	for next := id + 1; next < id+uint64((p.used+c.pageSize-1)/c.pageSize); next++ {
		if err := c.use(next); err != nil {
			return p, err
		}
	}
	if p.leaf != (depth == c.height) {
		return p, damagedPage(id, "it has type %#x", byteOrder.Uint16(p.bytes[8:]))
	}
	if p.used > len(p.bytes) {
		if p.leaf && c.bucket != "" {
			return p, nil // too long to be held in memory: its rows are not looked at
		}
		return p, damagedPage(id, "it has %d bytes", p.used)
	}
	if err := p.begins(depth == 0, lo); err != nil {
		return p, err
	}
	return p, p.inOrder(hi)
}

// use marks a page as used.
func (c *structureCheck) use(id uint64) error {
	switch {
	case id < firstUsablePage || id >= c.end:
		return damagedPage(id, "there are pages %d to %d", firstUsablePage, c.end)
	case c.free.has(id):
		return damagedPage(id, "it is used, and in the list of free pages")
	case c.used.has(id):
		return damagedPage(id, "it is used twice")
	}
	c.used.add(id)
	return nil
}

// unread marks the leaves below a branch as used.
func (c *structureCheck) unread(p *page) error {
	for i := range p.count {
		if err := c.use(p.child(i)); err != nil {
			if err := c.tell(err); err != nil {
				return err
			}
		}
	}
	return nil
}

// leaf looks at the buckets in a leaf of the root bucket.
func (c *structureCheck) leaf(p *page) error {
	if c.bucket != "" {
		return nil
	}
	for i := range p.count {
		root, err := bucketRoot(p.value(i))
		if err == nil && root == 0 {
			var inline page
			if inline, err = parseInline(p.value(i)); err == nil {
				err = inline.inOrder(nil)
			}
		} else if err == nil {
			c.buckets = append(c.buckets, bucketTree{string(p.key(i)), root})
		}
		if err != nil {
			if err := c.tell(fmt.Errorf("bucket %s: %w", printableName(string(p.key(i))), err)); err != nil {
				return err
			}
		}
	}
	return nil
}

// longestRead bounds the memory for a page. Only job records make longer ones.
const longestRead = 1 << 20

// read reads a page, which is valid until the next of that depth. One that is longer than longestRead has its elements alone.
func (c *structureCheck) read(id uint64, depth int) (page, error) {
	if id < firstUsablePage || id >= c.end {
		return page{}, damagedPage(id, "there are pages %d to %d", firstUsablePage, c.end)
	}
	for len(c.spare) <= depth {
		c.spare = append(c.spare, make([]byte, c.pageSize))
	}
	c.pages++
	b := c.spare[depth][:c.pageSize]
	at := int64(id) * int64(c.pageSize)
	if _, err := c.file.ReadAt(b, at); err != nil {
		return page{}, damagedPage(id, "%w", err)
	}
	elements := pageHeader + int(byteOrder.Uint16(b[10:]))*elementSize
	overflow := uint64(byteOrder.Uint32(b[12:]))
	if overflow > 0 && overflow < c.end-id {
		rest := int(min((overflow+1)*uint64(c.pageSize), uint64(max(elements, longestRead))))
		b = append(b, make([]byte, rest-c.pageSize)...)
		if _, err := c.file.ReadAt(b[c.pageSize:], at+int64(c.pageSize)); err != nil {
			return page{}, damagedPage(id, "%w", err)
		}
		c.spare[depth] = b
	}
	return c.parse(b, id, c.bucket == "")
}

// A pageSet is a set of page IDs. It takes a bit for each, where there are some.
type pageSet struct{ chunks []*[512]uint64 }

func (s *pageSet) position(id uint64) (chunk, word uint64, bit uint64) {
	return id >> 15, id >> 6 & 511, 1 << (id & 63)
}

func (s *pageSet) has(id uint64) bool {
	chunk, word, bit := s.position(id)
	return chunk < uint64(len(s.chunks)) && s.chunks[chunk] != nil && s.chunks[chunk][word]&bit != 0
}

func (s *pageSet) add(id uint64) {
	chunk, word, bit := s.position(id)
	if more := int64(chunk) + 1 - int64(len(s.chunks)); more > 0 {
		s.chunks = append(s.chunks, make([]*[512]uint64, more)...)
	}
	if s.chunks[chunk] == nil {
		s.chunks[chunk] = new([512]uint64)
	}
	s.chunks[chunk][word] |= bit
}
