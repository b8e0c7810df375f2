package index

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
)

const (
	metaMagic    = 0xED0CDAED
	metaVersion  = 2
	metaLength   = 56 // of what the checksum covers
	metaSize     = metaLength + 8
	leastPage    = 1 << 10
	mostPage     = 1 << 16
	noFreelist   = math.MaxUint64 // in place of the page of the list: it was not written. Only early files are so
	mostTransact = 1 << 62
)

// A meta is what a meta page says: one committed state of the file.
type meta struct {
	layout
	root     uint64 // page of the root bucket
	freelist uint64 // page of the list of free pages
	txid     uint64
}

// parseMeta reads what follows the header of a meta page. It tells a page that was not written, or not whole.
func parseMeta(b []byte) (meta, error) {
	sum := fnv.New64a()
	sum.Write(b[:metaLength])
	switch {
	case byteOrder.Uint32(b) != metaMagic || byteOrder.Uint32(b[4:]) != metaVersion:
		return meta{}, errors.New("it is none of this format")
	case sum.Sum64() != byteOrder.Uint64(b[metaLength:]):
		return meta{}, errors.New("its checksum is wrong")
	}
	return meta{
		layout: layout{int(byteOrder.Uint32(b[8:])), byteOrder.Uint64(b[40:])},
		root:   byteOrder.Uint64(b[16:]), freelist: byteOrder.Uint64(b[32:]), txid: byteOrder.Uint64(b[48:]),
	}, nil
}

// errUnreadable is a meta page that the disk does not give. bbolt looks at both with each transaction, in its memory mapping:
// it must not come to one.
var errUnreadable = errors.New("it cannot be read")

// readMeta reads the meta page at a place in the file.
func readMeta(file io.ReaderAt, at int64) (meta, error) {
	b := make([]byte, metaSize)
	if _, err := file.ReadAt(b, at+pageHeader); errors.Is(err, io.EOF) {
		return meta{}, err // check tells that the file is too short
	} else if err != nil {
		return meta{}, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return parseMeta(b)
}

// readMetas finds the state that bbolt will take: that of the newer meta page which is whole. bad says what is wrong
// with the other, if anything is: a crash leaves both whole, as a meta is smaller than what a disk writes at once. One that
// cannot be read is an err.
func readMetas(file io.ReaderAt, size int64) (m meta, bad, err error) {
	first, err := readMeta(file, 0)
	if errors.Is(err, errUnreadable) {
		return meta{}, nil, fmt.Errorf("%w: page 0: %w", ErrCorrupt, err)
	}
	pageSize := int64(first.pageSize)
	if err != nil {
		for at := int64(leastPage); at <= mostPage; at *= 2 {
			if _, err := readMeta(file, at); err == nil {
				pageSize = at
				break
			}
		}
		if pageSize == 0 {
			return meta{}, nil, fmt.Errorf("%w: not a database file: page 0: %w", ErrCorrupt, err)
		}
		bad = fmt.Errorf("%w: page 0, which tells of every second commit: %w", ErrCorrupt, err)
	}
	if pageSize < leastPage || pageSize > mostPage || pageSize&(pageSize-1) != 0 {
		return meta{}, nil, fmt.Errorf("%w: pages of %d bytes", ErrCorrupt, pageSize)
	}
	second, err := readMeta(file, pageSize)
	switch {
	case errors.Is(err, errUnreadable):
		return meta{}, nil, fmt.Errorf("%w: page 1: %w", ErrCorrupt, err)
	case err != nil:
		bad, m = fmt.Errorf("%w: page 1, which tells of every second commit: %w", ErrCorrupt, err), first
	case bad != nil || second.txid > first.txid:
		m = second
	default:
		m = first
	}
	return m, bad, m.check(pageSize, size)
}

// check tells a meta page that was written whole and cannot be right. size is that of the file.
func (m *meta) check(pageSize, size int64) error {
	switch {
	case int64(m.pageSize) != pageSize:
		return fmt.Errorf("%w: pages of %d bytes, and of %d", ErrCorrupt, m.pageSize, pageSize)
	case m.end > uint64(size/pageSize):
		return fmt.Errorf("%w: the file has %d bytes of %d pages", ErrCorrupt, size, m.end)
	case m.root < firstUsablePage || m.root >= m.end:
		return fmt.Errorf("%w: the root is at page %d of %d", ErrCorrupt, m.root, m.end)
	case m.freelist != noFreelist && (m.freelist < firstUsablePage || m.freelist >= m.end):
		return damagedFreelist("it is at page %d of %d", m.freelist, m.end)
	case m.txid >= mostTransact:
		return fmt.Errorf("%w: transaction %d", ErrCorrupt, m.txid)
	}
	return nil
}
