package index_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"flag"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"packhouse/index"
)

// The operations of an edit; operand is theirs.
const (
	editByte  = iota // the byte at offset becomes operand
	editBit          // bit operand of the byte at offset changes
	editWord         // the 64 bits at offset become operand: a page ID
	editShort        // the 16 bits at offset become operand: flags, a count
	editZero         // all from offset on is 0
	editCopy         // all from offset on is that of page operand
	editStale        // all from offset on is that of an older version of page operand
	editSum          // the checksum of a meta page becomes right
	editCut          // the file ends at offset
	edits
)

// anEdit is one edit in a fuzzer's input.
func anEdit(page, operation byte, offset, operand uint16) []byte {
	b := []byte{page, operation}
	return binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(b, offset), operand)
}

// edit changes b, an image that is m at first, as the input says: anEdit each.
func (m *image) edit(b []byte, input []byte) []byte {
	for ; len(input) >= 6; input = input[6:] {
		n, offset := int(input[0])%m.pages(), int(binary.LittleEndian.Uint16(input[2:]))%m.size
		operand := int(binary.LittleEndian.Uint16(input[4:]))
		if (n+1)*m.size > len(b) {
			continue // it was cut
		}
		page := m.page(b, n)
		switch input[1] % edits {
		case editByte:
			page[offset] = byte(operand)
		case editBit:
			page[offset] ^= 1 << (operand % 8)
		case editWord:
			if offset+8 <= m.size {
				binary.NativeEndian.PutUint64(page[offset:], uint64(operand))
			}
		case editShort:
			if offset+2 <= m.size {
				binary.NativeEndian.PutUint16(page[offset:], uint16(operand))
			}
		case editZero:
			clear(page[offset:])
		case editCopy:
			copy(page[offset:], m.page(m.now, operand%m.pages())[offset:])
		case editStale:
			copy(page[offset:], m.page(m.old, operand%m.pages())[offset:])
		case editSum:
			fixSum(page)
		case editCut:
			b = b[:n*m.size+offset]
		}
	}
	return b
}

// storedImage is one that is the same each time, so that an input is. It is the image as it is, followed by as it was.
func storedImage(f *testing.F) *image {
	f.Helper()
	const name = "testdata/pages.db.gz"
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) && flag.Lookup("golden").Value.String() == "true" {
		m := makeImage(f)
		var compressed bytes.Buffer
		w := gzip.NewWriter(&compressed)
		_, err := w.Write(slices.Concat(m.now, m.old))
		if err := errors.Join(err, w.Close(), os.WriteFile(name, compressed.Bytes(), 0o644)); err != nil {
			f.Fatal(err)
		}
	}
	compressed, err := os.Open(name)
	if err != nil {
		f.Fatal(err)
	}
	defer compressed.Close()
	r, err := gzip.NewReader(compressed)
	if err != nil {
		f.Fatal(err)
	}
	content, err := io.ReadAll(r)
	if err != nil {
		f.Fatal(err)
	}
	size := int(binary.NativeEndian.Uint32(content[headerSize+8:]))
	return &image{size: size, now: content[:len(content)/2], old: content[len(content)/2:]}
}

// FuzzPages edits the pages of a small index, before it is opened or while it is open. All calls return, with errors or without; see
// TestDamagedPages.
func FuzzPages(f *testing.F) {
	f.Add(false, anEdit(2, editWord, 24, 2)) // a child, if it is a branch
	f.Add(true, anEdit(2, editWord, 24, 2))  //
	f.Add(false, anEdit(5, editStale, 0, 5)) // a lost write
	f.Add(true, anEdit(0, editZero, 0, 0))   // a meta page
	f.Add(true, anEdit(40, editCut, 100, 0)) // a file cut short
	f.Add(false, bytes.Join([][]byte{anEdit(0, editWord, 32, 9), anEdit(0, editSum, 0, 0), anEdit(1, editWord, 32, 9), anEdit(1, editSum, 0, 0)}, nil))
	f.Add(false, bytes.Join([][]byte{anEdit(0, editZero, 0, 0), anEdit(1, editShort, 24, 1024), anEdit(1, editSum, 0, 0)}, nil))
	m := storedImage(f)
	f.Fuzz(func(t *testing.T, open bool, input []byte) {
		input = input[:min(len(input), 6*20)] // more edits show nothing that fewer do not
		path := filepath.Join(t.TempDir(), "index.db")
		first, changed := m.now, m.edit(bytes.Clone(m.now), input)
		if !open {
			first = changed
		}
		if err := os.WriteFile(path, first, 0o600); err != nil {
			t.Fatal(err)
		}
		bounded(t, func() {
			x, err := index.Open(path, index.Options{})
			if err != nil {
				if open || !errors.Is(err, index.ErrCorrupt) && !errors.Is(err, index.ErrBadVersion) {
					t.Errorf("open: %v", err)
				}
				return
			}
			if open {
				if err := overwrite(path, changed); err != nil {
					t.Fatal(err)
				}
			}
			useDamaged(t, x, "")
			if err := x.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	})
}

// overwrite changes a file in place.
func overwrite(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	return errors.Join(err, f.Truncate(int64(len(b))), f.Close())
}
