package index

import (
	"bytes"
	"fmt"
	"strings"
)

// maxKey bounds a key, in bytes. bbolt itself would take 32 KiB.
const maxKey = 4096

// In row keys the separator ends a name, so that what is below a directory
// follows it; afterTree is the first byte a key past that can have in its place.
const (
	separator = 0x00
	afterTree = 0x01
)

// checkKey refuses what the order of rows cannot carry. Policy on names is the
// caller's.
func checkKey(key string) error {
	if key == "" || len(key) > maxKey {
		return fmt.Errorf("%w: a key has 1 to %d bytes, this one %d", ErrInvalid, maxKey, len(key))
	}
	previous := byte('/')
	for i := range len(key) {
		c := key[i]
		if c < 0x20 {
			return fmt.Errorf("%w: control character in key %q", ErrInvalid, key)
		}
		if c == '/' && previous == '/' {
			return fmt.Errorf("%w: empty name in key %q", ErrInvalid, key)
		}
		previous = c
	}
	if previous == '/' {
		return fmt.Errorf("%w: key %q ends with a slash", ErrInvalid, key)
	}
	return nil
}

// checkDir is checkKey that lets the root pass.
func checkDir(key string) error {
	if key == "" {
		return nil
	}
	return checkKey(key)
}

// rowKey is where an item of this key lies. Its capacity is one byte more.
func rowKey(key string) []byte {
	row := make([]byte, len(key), len(key)+1)
	copy(row, key)
	for i, c := range row {
		if c == '/' {
			row[i] = separator
		}
	}
	return row
}

// dirRow is where a directory of this key lies; nil for the root, which has no row.
func dirRow(key string) []byte {
	if key == "" {
		return nil
	}
	return append(rowKey(key), separator)
}

// isDirRow tells the rows of directories from those of items.
func isDirRow(row []byte) bool {
	return len(row) > 0 && row[len(row)-1] == separator
}

// keyOf is the key of a row, item or directory.
func keyOf(row []byte) string {
	row = bytes.TrimSuffix(row, []byte{separator})
	var b strings.Builder
	b.Grow(len(row))
	for {
		i := bytes.IndexByte(row, separator)
		if i < 0 {
			b.Write(row)
			return b.String()
		}
		b.Write(row[:i])
		b.WriteByte('/')
		row = row[i+1:]
	}
}

// parentOf is the directory a key is in, "" for the root.
func parentOf(key string) string {
	if i := strings.LastIndexByte(key, '/'); i >= 0 {
		return key[:i]
	}
	return ""
}

// topOf is the top-level directory a key is counted under, "" for an item of the root.
func topOf(key string) string {
	if i := strings.IndexByte(key, '/'); i >= 0 {
		return key[:i]
	}
	return ""
}
