package index

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// A Row is an entry as a listing visits it. It shares the memory of the index, so that nothing is copied or allocated for an entry: it is
// valid until the function that it was handed to returns.
type Row struct {
	Dir      bool  // a directory: of what follows only Created is set
	Flags    Flags // as Item.Flags
	Size     int64 // as Item.Size
	Created  int64 // as Item.Created, Unix ms
	Modified int64 // as Item.Modified, Unix ms

	row, value []byte
	below      int // bytes of row before the name of the entry, or of a directory that it is in
	decoder    decoder
}

// Key is the full key, without a trailing slash.
func (r *Row) Key() string { return keyOf(r.row) }

// AppendKey appends the full key to b.
func (r *Row) AppendKey(b []byte) []byte {
	begin := len(b)
	b = append(b, r.name()...)
	for key := b[begin:]; ; {
		i := bytes.IndexByte(key, separator)
		if i < 0 {
			return b
		}
		key[i] = '/'
		key = key[i+1:]
	}
}

// Name is the last name of the key. It must not be modified.
func (r *Row) Name() []byte {
	name := r.name()[r.below:]
	for {
		i := bytes.IndexByte(name, separator) // that searches forwards more than one byte at a time, and backwards not
		if i < 0 {
			return name
		}
		name = name[i+1:]
	}
}

// name is the row key of an item, also for a directory.
func (r *Row) name() []byte {
	if r.Dir {
		return r.row[:len(r.row)-1]
	}
	return r.row
}

// Compare is the order of a listing, by key: negative where r comes before other. An item and a directory of the same key are equal.
func (r *Row) Compare(other *Row) int { return bytes.Compare(r.name(), other.name()) }

// Clone is a row that stays valid.
func (r *Row) Clone() *Row {
	clone := *r
	clone.row, clone.value = bytes.Clone(r.row), bytes.Clone(r.value)
	return &clone
}

// Entry is everything that the index has of the entry.
func (r *Row) Entry() (e Entry, err error) {
	e = Entry{Key: keyOf(r.row), Dir: r.Dir}
	if r.Dir {
		e.Item.Created, err = decodeDir(r.value)
	} else {
		e.Item, err = r.decoder.item(r.value)
	}
	return e, r.about(err)
}

// about says of which row an error is.
func (r *Row) about(err error) error {
	switch {
	case err == nil:
		return nil
	case r.Dir:
		return fmt.Errorf("directory %q: %w", keyOf(r.row), err)
	}
	return fmt.Errorf("item %q: %w", keyOf(r.row), err)
}

// set makes r the entry of a row. It accepts the values that Entry can decode, and no others.
func (r *Row) set(row, value []byte) error {
	r.row, r.value, r.Dir = row, value, isDirRow(row)
	if r.Dir {
		r.Flags, r.Size, r.Modified = 0, 0, 0
		created, err := decodeDir(value)
		r.Created = created.UnixMilli()
		return r.about(err)
	}
	if !r.setItem(value) {
		return r.about(damaged("item"))
	}
	return nil
}

// setItem reads the fields of an item record that a Row has, and holds the others against the length of the record.
func (r *Row) setItem(b []byte) bool {
	if len(b) <= itemFixed {
		return false
	}
	r.Flags = Flags(b[1])
	r.Size = int64(binary.LittleEndian.Uint64(b[2:]))
	r.Created = int64(binary.LittleEndian.Uint64(b[10:]))
	r.Modified = int64(binary.LittleEndian.Uint64(b[18:]))
	rest := b[itemFixed:]
	if r.Size < 0 || rest[0] == 0 {
		return false // an item has a ref
	}
	for range 4 { // ref, algorithm, sum, writer
		if len(rest) == 0 || int(rest[0]) >= len(rest) {
			return false
		}
		rest = rest[1+int(rest[0]):]
	}
	switch b[0] {
	case itemV1:
		return len(rest) == 0
	case itemV2:
		f := fields{b: rest}
		plan, found := f.i64(), f.timeOrNone()
		return f.done() && (plan != 0 || !found.IsZero())
	}
	return false
}
