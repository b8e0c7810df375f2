package index

import (
	"errors"
	"testing"
)

// FuzzRows reads the body of a group of the log: rows, or an error of this package, and rows that are read are written alike.
func FuzzRows(f *testing.F) {
	f.Add(encodeGoldenRows())
	f.Add([]byte{rowsV1, 0, 0, 0, 0})
	f.Add([]byte{rowsV1, 1, 0, 0, 0, byte(bucketItems) | rowDeleted, 1, 0, 'a'})
	f.Add([]byte{rowsV1, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, body []byte) {
		var over overlay
		err := decodeRows(body, &over)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, errBadVersion) {
				t.Fatalf("got %v", err)
			}
			return
		}
		var rows []rowID
		for id := bucketMeta; id < bucketEnd; id++ {
			if over.tables[id] != nil {
				over.tables[id].Scan(func(key string, _ []byte) bool { rows = append(rows, rowID{id, key}); return true })
			}
		}
		var again overlay
		if err := decodeRows(appendRows(nil, &over, rows), &again); err != nil || again.rows != over.rows || again.size != over.size {
			t.Fatalf("written again: %v, %d rows of %d bytes, want %d of %d", err, again.rows, again.size, over.rows, over.size)
		}
	})
}
