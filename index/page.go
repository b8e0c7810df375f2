package index

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sort"
)

// Of bbolt's file format (version 2, in the byte order of the machine), what this package reads by itself, so that
// bbolt is never led to a page that it cannot cope with. The file is pages of one size. A page begins with a header:
//
//	 0  page ID u64                          its place in the file
//	 8  flags u16, count u16, overflow u32   pages that follow and belong to it
//	16  content
//
// The content of pages 0 and 1, the two latest commits (metapage.go):
//
//	 0  magic, version, page size, flags  4 × u32
//	16  root bucket                       16 B
//	32  page of the free pages' list u64 | end of the used pages u64 | transaction u64
//	56  FNV-1a 64 of the above u64
//
// The content of the list of free pages (freelist.go): count IDs, in order; a count of 0xFFFF means that the number of
// them comes first.
//
// Branches and leaves are the nodes of B+ trees. Their content is count elements of 16 B, and the bytes of all keys and
// values, in the order of the elements and without gaps: exactly as many pages as these need belong to the node. pos counts
// from the element.
//
//	branch  pos u32 | key size u32 | child page u64     the key is the first of the child
//	leaf    flags u32 | pos u32 | key size u32 | value size u32
//
// All leaves of a tree are equally deep. The root bucket is a tree of its own, whose leaves have flags 1 and as values
// the buckets: root page u64, sequence u64; root page 0: the bucket is one leaf, which follows, with ID 0. In all other
// leaves flags are 0, as there are no buckets in buckets here.
const (
	pageHeader      = 16
	elementSize     = 16
	bucketHeader    = 16
	flagBranch      = 0x01
	flagLeaf        = 0x02
	flagMeta        = 0x04
	flagFreelist    = 0x10
	flagBucket      = 0x01 // of an element of a leaf
	firstUsablePage = 2
)

// byteOrder is that of the machine, as bbolt reads and writes its pages where they lie.
var byteOrder = binary.NativeEndian

// Bounds that no row of ours reaches: what a damaged page says must not make us ask for more memory than there is.
const (
	maxRow   = 8 << 10
	maxValue = maxJob + 1<<10
)

// A page is a branch or a leaf, with the pages that belong to it.
type page struct {
	id    uint64
	leaf  bool
	count int
	used  int // bytes, from the header to the end of the last element
	bytes []byte
}

// layout is what places of pages are held against.
type layout struct {
	pageSize int
	end      uint64 // of the used pages
}

// parse makes a page of what lies at its place. b begins there and has at least the elements, if not their keys and values.
// When it returns nil, no element leads out of the page, and the page not out of the file.
func (l layout) parse(b []byte, id uint64, buckets bool) (page, error) {
	if id < firstUsablePage || id >= l.end {
		return page{}, damagedPage(id, "there are pages %d to %d", firstUsablePage, l.end)
	}
	if got := byteOrder.Uint64(b); got != id {
		return page{}, damagedPage(id, "it says that it is page %d", got)
	}
	overflow := uint64(byteOrder.Uint32(b[12:]))
	if overflow >= l.end-id {
		return page{}, damagedPage(id, "it ends %d pages on, of %d", overflow, l.end)
	}
	p := page{id: id}
	if err := p.parse(b, buckets); err != nil {
		return page{}, err
	}
	if need := uint64(p.used+l.pageSize-1) / uint64(l.pageSize); need != overflow+1 {
		return page{}, damagedPage(id, "it has %d bytes and takes %d pages", p.used, overflow+1)
	}
	p.bytes = b[:min(len(b), int(overflow+1)*l.pageSize)]
	return p, l.follow(&p)
}

// follow wants the pages that belong to one to be no pages by themselves: bbolt would give them away with it. What a row
// has at such a place does not look like the header of just that page.
func (l layout) follow(p *page) error {
	for at := l.pageSize; at+pageHeader <= len(p.bytes); at += l.pageSize {
		id, flags := byteOrder.Uint64(p.bytes[at:]), byteOrder.Uint16(p.bytes[at+8:])
		if id == p.id+uint64(at/l.pageSize) && (flags == flagBranch || flags == flagLeaf || flags == flagFreelist) {
			return damagedPage(p.id, "page %d, which belongs to it, is one by itself", id)
		}
	}
	return nil
}

// parse is for a page that lies where it says.
func (p *page) parse(b []byte, buckets bool) error {
	switch flags := byteOrder.Uint16(b[8:]); flags {
	case flagBranch:
	case flagLeaf:
		p.leaf = true
	default:
		return damagedPage(p.id, "it has type %#x", flags)
	}
	p.count = int(byteOrder.Uint16(b[10:]))
	p.bytes, p.used = b, pageHeader+p.count*elementSize
	if p.used > len(b) {
		return damagedPage(p.id, "%d elements do not fit", p.count)
	}
	if p.count == 0 && !p.leaf {
		return damagedPage(p.id, "it has no children")
	}
	wantFlags := uint32(0)
	if buckets {
		wantFlags = flagBucket
	}
	for i := range p.count {
		element := b[pageHeader+i*elementSize:][:elementSize]
		pos, size, value := byteOrder.Uint32(element), byteOrder.Uint32(element[4:]), uint32(0)
		if p.leaf {
			if pos != wantFlags {
				return damagedPage(p.id, "element %d has flags %#x", i, pos)
			}
			pos, size, value = size, byteOrder.Uint32(element[8:]), byteOrder.Uint32(element[12:])
		}
		if size == 0 || size > maxRow || value > maxValue || pageHeader+i*elementSize+int(pos) != p.used {
			return damagedPage(p.id, "element %d has %d + %d bytes at %d", i, size, value, pos)
		}
		p.used += int(size) + int(value)
	}
	return nil
}

// parseInline makes a page of the leaf in a bucket's value.
func parseInline(value []byte) (page, error) {
	p := page{}
	if len(value) < bucketHeader+pageHeader {
		return p, fmt.Errorf("%w: a bucket has %d bytes", ErrCorrupt, len(value))
	}
	err := p.parse(value[bucketHeader:], false)
	if err == nil && (!p.leaf || p.used > len(p.bytes)) {
		err = damagedPage(0, "a bucket of %d bytes is no leaf of %d bytes", len(value), p.used)
	}
	return p, err
}

func (p *page) element(i int) []byte { return p.bytes[pageHeader+i*elementSize:][:elementSize] }

// key is that of element i, below count.
func (p *page) key(i int) []byte {
	element := p.element(i)
	if p.leaf {
		element = element[4:]
	}
	begin := pageHeader + i*elementSize + int(byteOrder.Uint32(element))
	end := begin + int(byteOrder.Uint32(element[4:]))
	return p.bytes[begin:end:end]
}

// value is that of element i of a leaf; it is not nil.
func (p *page) value(i int) []byte {
	element := p.element(i)
	begin := pageHeader + i*elementSize + int(byteOrder.Uint32(element[4:])) + int(byteOrder.Uint32(element[8:]))
	end := begin + int(byteOrder.Uint32(element[12:]))
	return p.bytes[begin:end:end]
}

// row is key and value of element i of a leaf.
func (p *page) row(i int) (key, value []byte) {
	at := pageHeader + i*elementSize
	element := p.bytes[at:][:elementSize]
	size := int(byteOrder.Uint32(element[8:]))
	both := p.bytes[at+int(byteOrder.Uint32(element[4:])):][:size+int(byteOrder.Uint32(element[12:]))]
	return both[:size:size], both[size:len(both):len(both)]
}

// child is the page of element i of a branch.
func (p *page) child(i int) uint64 { return byteOrder.Uint64(p.element(i)[8:]) }

// search finds the first element of a leaf that is not before key, or the child of a branch in which it would be.
func (p *page) search(key []byte) int {
	i := sort.Search(p.count, func(i int) bool { return bytes.Compare(p.key(i), key) >= 0 })
	if !p.leaf && i > 0 && (i == p.count || !bytes.Equal(p.key(i), key)) {
		i--
	}
	return i
}

// begins wants the first key to be first, unless the page is the root of a tree: then there may be none. bbolt keeps that
// exactly. Where it is not so, and where a page is empty, bbolt would spoil the tree with the next change.
func (p *page) begins(root bool, first []byte) error {
	switch {
	case root:
	case p.count == 0:
		return damagedPage(p.id, "it is empty")
	case !bytes.Equal(p.key(0), first):
		return damagedPage(p.id, "it begins with another row than the branch above it says")
	}
	return nil
}

// inOrder wants keys in order, and before hi (nil: any).
func (p *page) inOrder(hi []byte) error {
	if p.count == 0 {
		return nil
	}
	last := p.key(0)
	for i := 1; i < p.count; i++ {
		key := p.key(i)
		if bytes.Compare(last, key) >= 0 {
			return damagedPage(p.id, "element %d is out of order", i)
		}
		last = key
	}
	if hi != nil && bytes.Compare(last, hi) >= 0 {
		return damagedPage(p.id, "it has rows of the next")
	}
	return nil
}

func damagedPage(id uint64, format string, args ...any) error {
	return fmt.Errorf("%w: page %d: %w", ErrCorrupt, id, fmt.Errorf(format, args...))
}
