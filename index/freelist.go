package index

import (
	"fmt"
	"io"
)

// manyFree as count of the list of free pages says that the number comes before them.
const manyFree = 0xFFFF

// A freelist is where the list of free pages lies.
type freelist struct {
	count   uint64
	last    uint64 // page of the list
	content int64  // offset of the first ID in the file
}

// parseFreelist reads the header of the list, and the number behind it: b has them. When it returns nil, the list ends before
// the used pages do: bbolt would else take what follows for a part of it, and ask for memory for that.
func (m *meta) parseFreelist(b []byte) (freelist, error) {
	if id, flags := byteOrder.Uint64(b), byteOrder.Uint16(b[8:]); id != m.freelist || flags != flagFreelist {
		return freelist{}, damagedFreelist("page %d is page %d of type %#x", m.freelist, id, flags)
	}
	start := int64(m.freelist) * int64(m.pageSize)
	f := freelist{count: uint64(byteOrder.Uint16(b[10:])), content: start + pageHeader}
	if f.count == manyFree {
		f.count, f.content = byteOrder.Uint64(b[pageHeader:]), f.content+8
	}
	overflow := uint64(byteOrder.Uint32(b[12:]))
	f.last = m.freelist + overflow
	if f.last >= m.end || f.count > uint64(int64(f.last+1)*int64(m.pageSize)-f.content)/8 {
		return f, damagedFreelist("%d free pages do not fit into pages %d to %d of %d", f.count, m.freelist, f.last, m.end)
	}
	return f, nil
}

// eachFree calls fn with each page of the list. It tells a damaged list before bbolt reads it: that would end the process,
// or, worse, write the next commit over pages in use. It reads what bbolt reads, a little at a time.
func (m *meta) eachFree(file io.ReaderAt, fn func(id uint64) error) (freelist, error) {
	if m.freelist == noFreelist {
		return freelist{}, nil
	}
	header := make([]byte, pageHeader+8)
	if _, err := file.ReadAt(header, int64(m.freelist)*int64(m.pageSize)); err != nil {
		return freelist{}, damagedFreelist("%w", err)
	}
	list, err := m.parseFreelist(header)
	if err != nil {
		return list, err
	}
	buffer := make([]byte, min(list.count*8, 64<<10))
	count, content := list.count, list.content
	for previous := uint64(firstUsablePage - 1); count > 0; {
		ids := buffer[:min(count*8, uint64(len(buffer)))]
		if _, err := file.ReadAt(ids, content); err != nil {
			return list, damagedFreelist("%w", err)
		}
		content += int64(len(ids))
		count -= uint64(len(ids)) / 8
		for ; len(ids) > 0; ids = ids[8:] {
			id := byteOrder.Uint64(ids)
			if id <= previous || id >= m.end || m.freelist <= id && id <= list.last {
				return list, damagedFreelist("page %d after %d, of %d", id, previous, m.end)
			}
			if err := fn(id); err != nil {
				return list, err
			}
			previous = id
		}
	}
	return list, nil
}

func damagedFreelist(format string, args ...any) error {
	return fmt.Errorf("%w: list of free pages: %w", ErrCorrupt, fmt.Errorf(format, args...))
}
