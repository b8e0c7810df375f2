package index_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"packhouse/index"
)

// TestCheckFinds damages one row at a time.
func TestCheckFinds(t *testing.T) {
	counters := func(items byte) []byte { return append([]byte{1, items}, make([]byte, 39)...) }
	tests := []struct {
		name   string
		bucket string
		row    string
		value  []byte // nil: delete the row
		want   string // in one of the problems
	}{
		{"item gone", "items", "a\x00x", nil, "counters of"},
		{"item gone from the root", "items", "r", nil, `counters of ""`},
		{"item damaged", "items", "a\x00x", []byte{1, 2}, `item "a/x": index is damaged`},
		{"item of a newer version", "items", "a\x00x", []byte{99}, `item "a/x": index is damaged`},
		{"parent gone", "items", "a\x00", nil, `"a/x" has no parent directory`},
		{"directory damaged", "items", "a\x00", []byte{1}, `directory "a": index is damaged`},
		{"item and directory", "items", "r\x00", []byte{1, 0, 0, 0, 0, 0, 0, 0, 0}, `"r" is both`},
		{"malformed key", "items", "\x01", []byte{1, 0, 0, 0, 0, 0, 0, 0, 0}, "control character"},
		{"ref gone", "refs", "ref-a/x", nil, `does not lead to item "a/x"`},
		{"ref astray", "refs", "ref-a/x", []byte("\x01\x00r"), `leads to item "r"`},
		{"ref of nothing", "refs", "dangling", []byte("\x01\x00none"), `leads to item "none"`},
		{"ref damaged", "refs", "ref-a/x", []byte{1}, "does not decode"},
		{"ref of removed item gone", "refs", "ref-gone", nil, "does not lead to trash row"},
		{"totals wrong", "counters", "\x00", counters(7), "counters of the repository: stored {Items:7"},
		{"totals damaged", "counters", "\x00", []byte{1}, "counters of the repository"},
		{"directory's counters wrong", "counters", "\x01a", counters(7), `counters of "a": stored 7 items`},
		{"directory's counters gone", "counters", "\x01a", nil, `counters of "a": stored 0 items`},
		{"directory's counters damaged", "counters", "\x01a", []byte{1}, `counters of "a"`},
		{"empty directory's counters", "counters", "\x01empty", counters(1), `counters of "empty"`},
		{"unknown directory's counters", "counters", "\x01none", counters(1), `counters of "none"`},
		{"unknown counters", "counters", "\x03", counters(1), "unknown row"},
		{"charges damaged", "counters", "\x02", []byte{1}, "charges: stored"},
		{"trash damaged", "trash", strings.Repeat("\x00", 16), []byte{1}, "trash row 0000"},
		{"trash key damaged", "trash", "short", []byte{1}, "trash row"},
		{"lock damaged", "locks", "l", []byte{1}, `locks "l"`},
		{"job damaged", "jobs", "j", []byte{9}, `jobs "j"`},
		{"writer damaged", "writers", "\x01w", []byte{1}, "writers"},
		{"meta damaged", "meta", "m", []byte{9}, `meta "m"`},
		{"commit mark damaged", "meta", "\x00commit mark", []byte{1, 2}, "commit mark"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "index.db")
			if err := index.Create(path, nil); err != nil {
				t.Fatal(err)
			}
			x, err := index.Open(path, index.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer x.Close()
			apply(t, x, put("a/x", 1), put("a/y", 2), put("r", 3), put("gone", 4), index.Delete{Key: "gone"}, index.MakeDir{Key: "empty"})
			checkWhole(t, x)
			err = x.Tamper(func(tx *bolt.Tx) error {
				b := tx.Bucket([]byte(tt.bucket))
				if tt.value == nil {
					return b.Delete([]byte(tt.row))
				}
				return b.Put([]byte(tt.row), tt.value)
			})
			if err != nil {
				t.Fatal(err)
			}
			report, err := x.Check(background)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(strings.Join(report.Problems, "\n"), tt.want) {
				t.Errorf("got problems %q, want one with %q", report.Problems, tt.want)
			}
		})
	}
}

func TestCheckIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	if err := index.Create(path, nil); err != nil {
		t.Fatal(err)
	}
	x, err := index.Open(path, index.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	err = x.Tamper(func(tx *bolt.Tx) error {
		for i := range 5000 {
			if err := tx.Bucket([]byte("locks")).Put([]byte{byte(i >> 8), byte(i)}, []byte{0}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	report, err := x.Check(background)
	if err != nil || len(report.Problems) != 100 {
		t.Errorf("got %d problems, %v, want 100", len(report.Problems), err)
	}
	ctx, cancel := context.WithCancel(background)
	cancel()
	if _, err := x.Check(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

// A record that does not decode fails those who need it, and no others.
func TestDamagedRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	if err := index.Create(path, nil); err != nil {
		t.Fatal(err)
	}
	x, err := index.Open(path, index.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	apply(t, x, put("a", 1), put("b", 1))
	err = x.Tamper(func(tx *bolt.Tx) error { return tx.Bucket([]byte("items")).Put([]byte("a"), []byte{1}) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.Get("a"); !errors.Is(err, index.ErrCorrupt) {
		t.Errorf("get: got %v, want %v", err, index.ErrCorrupt)
	}
	if err := x.List(background, index.ListOptions{}, func(index.Entry) error { return nil }); !errors.Is(err, index.ErrCorrupt) {
		t.Errorf("list: got %v, want %v", err, index.ErrCorrupt)
	}
	refuse(t, x, index.ErrCorrupt, 1, put("c", 1), index.Delete{Key: "a"})
	apply(t, x, put("c", 1), index.Delete{Key: "b"})
}
