package index

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"packhouse/journal"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// Golden files are made once, when a version is new, and never rewritten: what
// -golden does to those that exist is nothing.
var golden = flag.Bool("golden", false, "write the golden files that do not exist")

var (
	goldenTime = time.Date(2026, 3, 1, 12, 0, 0, 123e6, time.UTC)
	goldenItem = Item{
		Size: 1 << 40, Created: goldenTime, Modified: goldenTime.Add(time.Hour), Ref: "b\x00\x01blob", BLAKE3: [32]byte{0: 1, 31: 2},
		Algorithm: "sha256", Sum: []byte{1, 2, 3, 4}, Writer: "alice", Flags: FlagDamaged | FlagExempt,
	}
	goldenRecords = []struct {
		file   string
		value  any
		encode func() []byte
		decode func([]byte) (any, error)
	}{
		{"item-1", goldenItem, func() []byte { return encodeItem(&goldenItem) }, func(b []byte) (any, error) { return decodeItem(b) }},
		{"directory-1", goldenTime, func() []byte { return encodeDir(goldenTime) }, func(b []byte) (any, error) { return decodeDir(b) }},
		{"ref-1-item", goldenRefs[0], func() []byte { return encodeRef(goldenRefs[0]) }, func(b []byte) (any, error) { return decodeRef(b) }},
		{"ref-1-trash", goldenRefs[1], func() []byte { return encodeRef(goldenRefs[1]) }, func(b []byte) (any, error) { return decodeRef(b) }},
		{"trash-1", goldenTrash, func() []byte { return encodeTrash(&goldenTrash) }, func(b []byte) (any, error) { return decodeTrash(b) }},
		{"counters-1", goldenCounters, func() []byte { return encodeCounters(goldenCounters) }, func(b []byte) (any, error) { return decodeCounters(b) }},
		{"lock-1", goldenLock, func() []byte { return encodeLock(&goldenLock) }, func(b []byte) (any, error) { return decodeLock("id", b) }},
		{"writer-1", goldenTime, func() []byte { return encodeWriter(goldenTime) }, func(b []byte) (any, error) { return decodeWriter(b) }},
		{"meta-1", []byte("value"), func() []byte { return encodeOpaque(metaV1, []byte("value")) }, func(b []byte) (any, error) { return decodeOpaque("meta", metaV1, b) }},
		{"item-2", goldenSource, func() []byte { return encodeItem(&goldenSource) }, func(b []byte) (any, error) { return decodeItem(b) }},
		{"ref-1-kept", goldenRefs[2], func() []byte { return encodeRef(goldenRefs[2]) }, func(b []byte) (any, error) { return decodeRef(b) }},
		{"counters-2", goldenCounters2, func() []byte { return encodeCounters(goldenCounters2) }, func(b []byte) (any, error) { return decodeCounters(b) }},
		{"counters-3", goldenCounters3, func() []byte { return encodeCounters(goldenCounters3) }, func(b []byte) (any, error) { return decodeCounters(b) }},
		{"kept-1", goldenKept, func() []byte { return encodeKept(&goldenKept) }, func(b []byte) (any, error) { return decodeKept(b) }},
		{"plan-1", goldenPlan, func() []byte { return encodePlan(&goldenPlan) }, func(b []byte) (any, error) { return decodePlan(planKey(goldenPlan.ID), b) }},
		{"commit-mark-1", int64(5 << 30), func() []byte { return encodeMark(5 << 30) }, func(b []byte) (any, error) { return decodeMark(b) }},
		{"applied-1", goldenApplied, func() []byte { return encodeApplied(goldenApplied) }, func(b []byte) (any, error) { return decodeApplied(b) }},
		{"sequence-1", uint64(1 << 33), func() []byte { return encodeSequence(1 << 33) }, func(b []byte) (any, error) { return decodeSequence(b) }},
		{"segment-1", goldenSegment, func() []byte { return encodeSegment(goldenSegment) }, func(b []byte) (any, error) { return decodeSegment(b) }},
		{"moved-1", goldenPlace, func() []byte { return encodeMoved(goldenPlace) }, func(b []byte) (any, error) { return decodeMoved(b) }},
		{"ref-2", goldenHashed, func() []byte { return encodeRef(goldenHashed) }, func(b []byte) (any, error) { return decodeRef(b) }},
		{"counters-4", goldenCounters4, func() []byte { return encodeCounters(goldenCounters4) }, func(b []byte) (any, error) { return decodeCounters(b) }},
		{"charges-1", int64(1 << 33), func() []byte { return encodeCharges(1 << 33) }, func(b []byte) (any, error) { return decodeCharges(b) }},
		{"change-1", goldenChange, func() []byte { return encodeChange(&goldenChange) }, func(b []byte) (any, error) { return decodeChange(changeKey(7), b) }},
		{"rows-1", goldenRows, encodeGoldenRows, func(b []byte) (any, error) { return rowsOf(b) }},
		{"job-1", []byte("plan"), func() []byte { return encodeOpaque(jobV1, []byte("plan")) }, func(b []byte) (any, error) { return decodeOpaque("job", jobV1, b) }},
	}
	goldenApplied = applied{at: 5 << 30, log: 0x0123456789abcdef}
	goldenSegment = segment{blobs: 3, bytes: 4 << 20}
	goldenPlace   = journal.Place{Segment: 64 << 20, Offset: 4200, Length: 8192}
	goldenRows    = []string{`items packs\x00ab = "value"`, `items packs\x00gone`, `locks id = "lock"`}
	goldenRefs    = [3]refTarget{{row: []byte("packs\x00ab")}, {in: inTrash, row: trashKey(goldenTime, 7)}, {in: inKept, row: trashKey(goldenTime, 8)}}
	goldenHashed  = itemTarget("ref", []byte("packs\x00ab"))
	goldenSource  = Item{
		Size: 3, Created: goldenTime, Modified: goldenTime, Ref: "ref", Writer: "alice", Flags: FlagReturned, Plan: 9, Found: goldenTime.Add(time.Minute),
	}
	goldenCounters2 = Counters{Items: 1, Bytes: 2, Plans: 6, OpenBytes: 7, ReturnedBytes: 8, KeptItems: 9, KeptBytes: 1 << 40}
	goldenCounters3 = Counters{Items: 3, Bytes: 20, MissingItems: 1, MissingBytes: 10, DamagedItems: 2}
	goldenCounters4 = Counters{Items: 3, Bytes: 20, UnverifiedItems: 1, UnverifiedBytes: 10, Changes: 1 << 33}
	goldenChange    = Change{
		ID: 7, At: goldenTime, Kind: ChangeMove, Key: "packs/b", From: "packs/a", Ref: "ref", Before: "before",
		Cause: Cause{Principal: "alice", Address: "192.0.2.1", Job: "0123"},
	}
	goldenKept = keptRecord{trashRecord{at: goldenTime, key: "packs/ab", item: goldenItem}, true, "alice"}
	goldenPlan = Plan{
		ID: 9, Principal: "alice", Address: "192.0.2.1", Lock: "object locks/00.json", Job: "0123", At: goldenTime, Live: 10, Sources: 2, Bytes: 7,
	}
	goldenTrash    = trashRecord{at: goldenTime, key: "packs/ab", item: goldenItem}
	goldenCounters = Counters{Items: 1, Bytes: 2 << 40, Exempt: 3, TrashItems: 4, TrashBytes: 5}
	goldenLock     = Lock{ID: "id", Holder: "holder", Data: []byte(`{"pid":1}`), Acquired: goldenTime.Add(456 * time.Microsecond), Since: goldenTime, TTL: 90 * time.Second}
)

func encodeGoldenRows() []byte {
	var over overlay
	over.set(bucketItems, "packs\x00ab", []byte("value"))
	over.set(bucketItems, "packs\x00gone", nil)
	over.set(bucketLocks, "id", []byte("lock"))
	return appendRows(nil, &over, []rowID{{bucketItems, "packs\x00ab"}, {bucketItems, "packs\x00gone"}, {bucketLocks, "id"}})
}

// rowsOf is the rows of a group, in words.
func rowsOf(b []byte) (rows []string, err error) {
	var over overlay
	if err := decodeRows(b, &over); err != nil {
		return nil, err
	}
	for id := bucketMeta; id < bucketEnd; id++ {
		if over.tables[id] == nil {
			continue
		}
		over.tables[id].Scan(func(key string, value []byte) bool {
			row := strings.Trim(fmt.Sprintf("%s %q", id, key), `"`)
			row = strings.ReplaceAll(row, `"`, "")
			if value != nil {
				row += fmt.Sprintf(" = %q", value)
			}
			rows = append(rows, row)
			return true
		})
	}
	return rows, nil
}

func TestGoldenRecords(t *testing.T) {
	for _, r := range goldenRecords {
		t.Run(r.file, func(t *testing.T) {
			path := filepath.Join("testdata", r.file+".hex")
			if _, err := os.Stat(path); err != nil && *golden {
				if err := os.WriteFile(path, []byte(hex.EncodeToString(r.encode())+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			record, err := hex.DecodeString(strings.TrimSpace(string(text)))
			if err != nil {
				t.Fatal(err)
			}
			got, err := r.decode(record)
			if err != nil || !reflect.DeepEqual(got, r.value) {
				t.Errorf("decode: got %+v, %v, want %+v", got, err, r.value)
			}
			if got := r.encode(); !bytes.Equal(got, record) {
				t.Errorf("encode: got %x, want %x", got, record)
			}
			// One byte less, and of another version; those without a length of their own may be shorter.
			if _, err := r.decode(append([]byte{99}, record[1:]...)); err == nil {
				t.Error("another version was decoded")
			}
			if open := map[string]bool{"meta-1": true, "job-1": true, "ref-1-item": true}[r.file]; open {
				return
			}
			for n := range len(record) {
				if _, err := r.decode(record[:n]); err == nil {
					t.Errorf("%d bytes of %d were decoded", n, len(record))
				}
			}
			if _, err := r.decode(append(bytes.Clone(record), 0)); err == nil {
				t.Error("a byte too many was decoded")
			}
		})
	}
}

func TestRowKey(t *testing.T) {
	for _, key := range []string{"a", "a/b", "a/b/c", "ü/é", strings.Repeat("n/", 2047) + "n"} {
		if got := keyOf(rowKey(key)); got != key {
			t.Errorf("key of the row of %q: got %q", key, got)
		}
		if got := keyOf(dirRow(key)); got != key {
			t.Errorf("key of the directory row of %q: got %q", key, got)
		}
		if isDirRow(rowKey(key)) || !isDirRow(dirRow(key)) {
			t.Errorf("%q: item and directory rows are not told apart", key)
		}
	}
}

// addRecords seeds a fuzz target with the golden records of a kind.
func addRecords(f *testing.F, kind string) {
	for _, r := range goldenRecords {
		if strings.HasPrefix(r.file, kind) {
			f.Add(r.encode())
		}
	}
	f.Add([]byte{})
}

// roundTrip holds what a record must keep to: what decodes encodes to the same
// bytes, and decoding takes no more memory than a small multiple of the input.
func roundTrip[T any](t *testing.T, b []byte, decode func([]byte) (T, error), encode func(*T) []byte) {
	v, err := decode(b)
	if err != nil {
		return
	}
	if got := encode(&v); !bytes.Equal(got, b) {
		t.Fatalf("%x decodes to %+v, which encodes to %x", b, v, got)
	}
}

func FuzzItem(f *testing.F) {
	addRecords(f, "item")
	f.Fuzz(func(t *testing.T, b []byte) {
		roundTrip(t, b, decodeItem, encodeItem)
		if item, err := decodeItem(b); err == nil && len(item.Ref)+len(item.Algorithm)+len(item.Writer)+cap(item.Sum) > len(b) {
			t.Fatalf("%d bytes decode to more: %+v", len(b), item)
		}
	})
}

func FuzzTrash(f *testing.F) {
	addRecords(f, "trash")
	f.Fuzz(func(t *testing.T, b []byte) {
		roundTrip(t, b, decodeTrash, encodeTrash)
		if r, err := decodeTrash(b); err == nil && len(r.key)+cap(r.item.Sum) > len(b) {
			t.Fatalf("%d bytes decode to more: %+v", len(b), r)
		}
	})
}

func FuzzLock(f *testing.F) {
	addRecords(f, "lock")
	f.Fuzz(func(t *testing.T, b []byte) {
		roundTrip(t, b, func(b []byte) (Lock, error) { return decodeLock("id", b) }, encodeLock)
		if l, err := decodeLock("id", b); err == nil && len(l.Holder)+cap(l.Data) > len(b) {
			t.Fatalf("%d bytes decode to more: %+v", len(b), l)
		}
	})
}

func FuzzCounters(f *testing.F) {
	addRecords(f, "counters")
	f.Fuzz(func(t *testing.T, b []byte) {
		roundTrip(t, b, decodeCounters, func(c *Counters) []byte { return encodeCounters(*c) })
	})
}

func FuzzRef(f *testing.F) {
	addRecords(f, "ref")
	f.Fuzz(func(t *testing.T, b []byte) {
		roundTrip(t, b, decodeRef, func(r *refTarget) []byte { return encodeRef(*r) })
	})
}

// FuzzKey holds that every key that is let in has one row of its own, between
// those of its parent directory and of what sorts after it.
func FuzzKey(f *testing.F) {
	for _, key := range []string{"a", "a/b", "a//b", "/", "a\x00b", "a!", "\x1f", "\xff/\xfe"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if checkKey(key) != nil {
			return
		}
		row := rowKey(key)
		if keyOf(row) != key || isDirRow(row) {
			t.Fatalf("row %x of key %q", row, key)
		}
		if parent := dirRow(parentOf(key)); parent != nil {
			after := append(bytes.Clone(parent[:len(parent)-1]), afterTree)
			if bytes.Compare(parent, row) >= 0 || bytes.Compare(row, after) >= 0 {
				t.Fatalf("row %x is not below its parent %x", row, parent)
			}
		}
	})
}

func FuzzKept(f *testing.F) {
	addRecords(f, "kept")
	f.Fuzz(func(t *testing.T, b []byte) { roundTrip(t, b, decodeKept, encodeKept) })
}

func FuzzPlan(f *testing.F) {
	addRecords(f, "plan")
	f.Fuzz(func(t *testing.T, b []byte) {
		roundTrip(t, b, func(b []byte) (Plan, error) { return decodePlan(planKey(9), b) }, encodePlan)
	})
}
