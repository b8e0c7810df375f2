package index_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"packhouse/index"
	"packhouse/journal"
)

// putBytes is a mutation that makes key an item with these bytes, in the log.
func putBytes(key string, payload []byte) index.Put {
	p := put(key, int64(len(payload)))
	p.Item.Ref, p.Payload = "", payload
	return p
}

// wantPayload reads the bytes of an item back.
func wantPayload(t testing.TB, x *index.Index, key string, want []byte) {
	t.Helper()
	entry, err := x.Get(key)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	size := journal.BufferSize(int64(len(want)))
	for _, capacity := range []int64{0, size - 1, size, 2 * size} {
		buffer := make([]byte, capacity)
		got, err := x.Payload(entry.Item.Ref, false, buffer)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("payload of %s: got %d bytes, %v; want %d bytes", key, len(got), err, len(want))
		}
		if len(got) > 0 && capacity >= size && &got[0] != &buffer[size-int64(len(got))] {
			t.Errorf("payload of %s: not in the buffer of %d bytes", key, capacity)
		}
	}
}

// TestPayloads: bytes of items lie in the log; also of those that are stored together, beside groups that fail, and after a restart.
func TestPayloads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	if err := index.Create(path, nil); err != nil {
		t.Fatal(err)
	}
	x, err := index.Open(path, index.Options{})
	if err != nil {
		t.Fatal(err)
	}
	contents := map[string][]byte{"empty": {}, "other empty": {}, "one": {1}, "most": bytes.Repeat([]byte("0123456789abcdef"), index.MaxPayload/16)}
	for key, content := range contents {
		apply(t, x, putBytes(key, content))
	}
	limited := putBytes("too much", make([]byte, 1000))
	limited.Limit = 1
	_, errs := x.ApplyTogether([][]index.Mutation{
		{putBytes("a", []byte("first"))},
		{putBytes("refused", []byte("taken back")), limited},
		{putBytes("b", []byte("second")), putBytes("c", []byte("third"))},
	})
	if errs[0] != nil || !errors.Is(errs[1], index.ErrQuota) || errs[2] != nil {
		t.Fatalf("got %v, want ErrQuota for the second", errs)
	}
	contents["a"], contents["b"], contents["c"] = []byte("first"), []byte("second"), []byte("third")
	for range 3 {
		for key, content := range contents {
			wantPayload(t, x, key, content)
		}
		checkWhole(t, x)
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
		if x, err = index.Open(path, index.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRelocate: a payload is given another place, whoever refers to it, and nothing refers to the former.
func TestRelocate(t *testing.T) {
	x := create(t)
	apply(t, x, putBytes("item", []byte("i")), putBytes("trash", []byte("t")), putBytes("kept", []byte("k")), put("file", 1))
	apply(t, x, index.Delete{Key: "trash", Now: clock, TrashUntil: clock.Add(time.Hour)},
		index.Delete{Key: "kept", Keep: true, Now: clock, TrashUntil: clock.Add(time.Hour)})
	segments, err := x.Segments()
	if err != nil || len(segments) != 1 || segments[0].Blobs != 3 || segments[0].Live != 3 {
		t.Fatalf("segments: got %+v, %v; want one with 3 payloads of 3 bytes", segments, err)
	}
	refs, err := x.Payloads(segments[0].First, 100)
	if err != nil || len(refs) != 3 {
		t.Fatalf("payloads: got %q, %v; want 3", refs, err)
	}
	want := everything(t, x)
	for _, ref := range refs {
		payload, err := x.Payload(ref, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			apply(t, x, index.Relocate{Ref: ref, Payload: payload})
		}
	}
	refuse(t, x, index.ErrConflict, 0, index.Relocate{Ref: "none", Payload: []byte("x")})
	checkWhole(t, x)
	after, err := x.Payloads(segments[0].First, 100)
	if err != nil || len(after) != 3 {
		t.Fatalf("payloads: got %q, %v; want 3", after, err)
	}
	wantPayload(t, x, "item", []byte("i"))
	kept, err := x.Kept("kept")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := x.Payload(kept.Item.Ref, false, nil); err != nil || string(b) != "k" {
		t.Errorf("kept: got %q, %v", b, err)
	}
	equal(t, "everything else", everything(t, x), want)
	// What is purged is live no more.
	var ids []string
	err = x.Trash(time.Time{}, func(r index.Removed) error { ids = append(ids, r.ID); return nil })
	if err != nil {
		t.Fatal(err)
	}
	apply(t, x, index.PurgeTrash{IDs: ids})
	if segments, err = x.Segments(); err != nil || segments[0].Blobs != 2 {
		t.Errorf("segments: got %+v, %v; want 2 payloads", segments, err)
	}
}

// TestSegmentOfADamagedIndex: a segment that no row counts anything in stays while refs lead to it, and from then on all stay.
func TestSegmentOfADamagedIndex(t *testing.T) {
	path := newIndex(t)
	x := mustOpen(t, path, index.Options{SegmentSize: 1 << 20})
	payload := bytes.Repeat([]byte("x"), index.MaxPayload)
	for i := range 20 {
		apply(t, x, putBytes(fmt.Sprint(i), payload))
	}
	before, err := x.Segments()
	if err != nil || len(before) < 3 {
		t.Fatalf("segments: %+v, %v; want several", before, err)
	}
	err = x.Tamper(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("segments")).Delete(binary.BigEndian.AppendUint64(nil, uint64(before[0].First)))
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		apply(t, x, index.Delete{Key: "19", IgnoreMissing: true, Now: clock, TrashUntil: clock})
		_ = x.Checkpoint() // says that it is damaged, once
		if err := x.Damage(); !errors.Is(err, index.ErrCorrupt) {
			t.Errorf("damage: got %v, want ErrCorrupt", err)
		}
	}
	if after, err := x.Segments(); err != nil || len(after) != len(before) {
		t.Errorf("segments: %+v, %v; want as many as before", after, err)
	}
	wantPayload(t, x, "0", payload)
	mustClose(t, x)
}
