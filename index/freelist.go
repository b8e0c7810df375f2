package index

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"

	bolt "go.etcd.io/bbolt"
)

// Of bbolt's file format (version 2, in the byte order of the machine), what
// checkFreelist reads. A page begins with its header:
//
//	 0  page ID u64
//	 8  flags u16, count u16, overflow u32   pages that follow and belong to it
//	16  content
//
// The content of pages 0 and 1, the two latest commits:
//
//	 0  magic, version, page size, flags  4 × u32
//	16  root bucket                       16 B
//	32  page of the free pages' list u64 | end of the used pages u64 | transaction u64
//	56  FNV-1a 64 of the above u64
//
// The content of the list: count IDs, in order; a count of 0xFFFF means that the number of them comes first.
const (
	pageHeader      = 16
	metaLength      = 56
	flagFreelist    = 0x10
	manyFree        = 0xFFFF
	firstUsablePage = 2
)

// checkFreelist tells a damaged list of free pages before bbolt reads it: that would
// end the process, or, worse, write the next commit over pages in use. tx is of the state
// that will be opened. It reads what bbolt reads, a little at a time.
func checkFreelist(file io.ReaderAt, pageSize int64, tx *bolt.Tx) error {
	list, end, err := readMetaPage(file, pageSize, tx.ID())
	if err != nil {
		return err
	}
	if list == ^uint64(0) {
		return nil // there is none; bbolt gathers the free pages itself
	}
	if list < firstUsablePage || list >= end {
		return damagedFreelist("it is at page %d of %d", list, end)
	}
	start := int64(list) * pageSize
	header := make([]byte, pageHeader+8)
	if _, err := file.ReadAt(header, start); err != nil {
		return damagedFreelist("%v", err)
	}
	if flags := binary.NativeEndian.Uint16(header[8:]); flags != flagFreelist {
		return damagedFreelist("page %d has type %#x", list, flags)
	}
	count, content := uint64(binary.NativeEndian.Uint16(header[10:])), start+pageHeader
	if count == manyFree {
		count, content = binary.NativeEndian.Uint64(header[pageHeader:]), content+8
	}
	last := list + uint64(binary.NativeEndian.Uint32(header[12:]))
	if last >= end || count > uint64(int64(last+1)*pageSize-content)/8 {
		return damagedFreelist("%d free pages do not fit into pages %d to %d of %d", count, list, last, end)
	}
	buffer := make([]byte, min(count*8, 64<<10))
	for previous := uint64(firstUsablePage - 1); count > 0; {
		ids := buffer[:min(count*8, uint64(len(buffer)))]
		if _, err := file.ReadAt(ids, content); err != nil {
			return damagedFreelist("%v", err)
		}
		content += int64(len(ids))
		count -= uint64(len(ids)) / 8
		for ; len(ids) > 0; ids = ids[8:] {
			id := binary.NativeEndian.Uint64(ids)
			if id <= previous || id >= end || list <= id && id <= last {
				return damagedFreelist("page %d after %d, of %d", id, previous, end)
			}
			previous = id
		}
	}
	return nil
}

// readMetaPage finds the page of the free pages' list, and the end of the used pages, as of a transaction.
func readMetaPage(file io.ReaderAt, pageSize int64, transaction int) (list, end uint64, err error) {
	meta := make([]byte, metaLength+8)
	for page := range int64(2) {
		if _, err := file.ReadAt(meta, page*pageSize+pageHeader); err != nil {
			return 0, 0, damagedFreelist("%v", err)
		}
		sum := fnv.New64a()
		sum.Write(meta[:metaLength])
		if sum.Sum64() == binary.NativeEndian.Uint64(meta[metaLength:]) && binary.NativeEndian.Uint64(meta[48:]) == uint64(transaction) {
			return binary.NativeEndian.Uint64(meta[32:]), binary.NativeEndian.Uint64(meta[40:]), nil
		}
	}
	return 0, 0, damagedFreelist("no page has transaction %d", transaction)
}

func damagedFreelist(format string, args ...any) error {
	return fmt.Errorf("%w: list of free pages: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}
