package vykartest

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
)

// Index is the content of the object "index": where each chunk lies, and how many snapshots refer to it.
//
//	magic "vykartest index 1" | generation u64 | n u32 | n x chunk 32 B | references u32 | pack 32 B | offset u64 | length u32
//
// Integers are little-endian, chunks in ascending order. Each time it is stored it has a new generation, so that no two are
// equal, as those of the real client never are.
type Index struct {
	Generation uint64
	Chunks     map[ID]Place
}

// Place is where a chunk lies.
type Place struct {
	References uint32
	Pack       ID
	Offset     int64
	Length     int64
}

const (
	indexMagic = "vykartest index 1"
	indexEntry = 32 + 4 + 32 + 8 + 4
)

// Encode writes the object.
func (x *Index) Encode() []byte {
	b := make([]byte, 0, len(indexMagic)+12+len(x.Chunks)*indexEntry)
	b = append(b, indexMagic...)
	b = binary.LittleEndian.AppendUint64(b, x.Generation)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(x.Chunks)))
	for _, id := range slices.SortedFunc(maps.Keys(x.Chunks), compareIDs) {
		p := x.Chunks[id]
		b = append(b, id[:]...)
		b = binary.LittleEndian.AppendUint32(b, p.References)
		b = append(b, p.Pack[:]...)
		b = binary.LittleEndian.AppendUint64(b, uint64(p.Offset))
		b = binary.LittleEndian.AppendUint32(b, uint32(p.Length))
	}
	return b
}

func compareIDs(a, b ID) int { return bytes.Compare(a[:], b[:]) }

// DecodeIndex reads what Encode wrote. ErrDamaged.
func DecodeIndex(b []byte) (*Index, error) {
	rest, ok := bytes.CutPrefix(b, []byte(indexMagic))
	if !ok || len(rest) < 12 {
		return nil, fmt.Errorf("index of %d bytes: %w", len(b), ErrDamaged)
	}
	x := &Index{Generation: binary.LittleEndian.Uint64(rest), Chunks: make(map[ID]Place)}
	n := int(binary.LittleEndian.Uint32(rest[8:]))
	if rest = rest[12:]; len(rest) != n*indexEntry {
		return nil, fmt.Errorf("index of %d chunks and %d bytes: %w", n, len(b), ErrDamaged)
	}
	for ; len(rest) > 0; rest = rest[indexEntry:] {
		x.Chunks[ID(rest[:32])] = Place{
			References: binary.LittleEndian.Uint32(rest[32:]), Pack: ID(rest[36:68]),
			Offset: int64(binary.LittleEndian.Uint64(rest[68:])), Length: int64(binary.LittleEndian.Uint32(rest[76:])),
		}
	}
	return x, nil
}

// placed is a chunk with its place.
type placed struct {
	id ID
	Place
}

// byPack gives the chunks of each pack in the order of their offsets.
func (x *Index) byPack() map[ID][]placed {
	packs := make(map[ID][]placed)
	for id, p := range x.Chunks {
		packs[p.Pack] = append(packs[p.Pack], placed{id, p})
	}
	for _, chunks := range packs {
		slices.SortFunc(chunks, func(a, b placed) int { return cmp.Compare(a.Offset, b.Offset) })
	}
	return packs
}

// Packs are the names of all packs that the index refers to, in ascending order.
func (x *Index) Packs() []ID {
	packs := make(map[ID]bool)
	for _, p := range x.Chunks {
		packs[p.Pack] = true
	}
	return slices.SortedFunc(maps.Keys(packs), compareIDs)
}

// release takes one reference away, and the chunk with the last.
func (x *Index) release(id ID) {
	p, ok := x.Chunks[id]
	if !ok {
		return
	}
	if p.References--; p.References == 0 {
		delete(x.Chunks, id)
		return
	}
	x.Chunks[id] = p
}

// delta is what a backup changes of the index.
type delta struct {
	added map[ID]Place
	more  map[ID]uint32 // references to chunks that were there
}

// reconcile holds it against an index that may be newer. Chunks that another has added meanwhile get a reference
// more; one that is gone is ErrStale.
func (d delta) reconcile(fresh *Index) (delta, error) {
	r := delta{make(map[ID]Place), maps.Clone(d.more)}
	for id, p := range d.added {
		if _, there := fresh.Chunks[id]; there {
			r.more[id] += p.References
		} else {
			r.added[id] = p
		}
	}
	for id := range r.more {
		_, there := fresh.Chunks[id]
		if _, new := r.added[id]; !there && !new {
			return delta{}, fmt.Errorf("chunk %s: %w", id, ErrStale)
		}
	}
	return r, nil
}

func (d delta) apply(x *Index) {
	maps.Copy(x.Chunks, d.added)
	for id, n := range d.more {
		p := x.Chunks[id]
		p.References += n
		x.Chunks[id] = p
	}
}
