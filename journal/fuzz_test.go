package journal_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"runtime"
	"testing"

	"packhouse/journal"
)

// FuzzSegment opens a directory whose newest segment is what the fuzzer made of one. However it is mangled, what is before
// it is there or damage is told, memory stays bounded, and a log that opens goes on.
func FuzzSegment(f *testing.F) {
	o := options(newDir(f), quick())
	o.SegmentSize = 8 << 10
	groups, _, _ := small(f, o)
	pristine := files(f, o.Dir)
	const first, second = "0000000000000000", "0000000000002000"
	f.Add(pristine[second], false)
	f.Add(pristine[first], true)
	for _, cut := range []int{0, 1, 4096, 4200, 5000} {
		f.Add(pristine[second][:cut], false)
		mangled := bytes.Clone(pristine[second])
		mangled[cut] ^= 0xff
		f.Add(mangled, false)
	}
	f.Fuzz(func(t *testing.T, mangled []byte, inFirst bool) {
		mangled = mangled[:min(len(mangled), 64<<10)] // more shows nothing that less does not
		o := o
		o.Dir = t.TempDir()
		for name, content := range pristine {
			write(t, o.Dir, name, content)
		}
		name := second
		if inFirst {
			name = first
		}
		write(t, o.Dir, name, mangled)
		before := files(t, o.Dir)
		l, got, err := replay(o, 0)
		if err != nil {
			known := false
			for _, kind := range []error{journal.ErrCorrupt, journal.ErrVersion, journal.ErrMissing} {
				known = known || errors.Is(err, kind)
			}
			if after := files(t, o.Dir); !known || !bytes.Equal(after[name], before[name]) || len(after) != len(before) {
				t.Fatalf("got %v, files changed: %v", err, len(after) != len(before))
			}
			return
		}
		for i, g := range got {
			if i < len(groups) && !g.equal(groups[i]) && g.at == groups[i].at && i < 2 && !inFirst {
				t.Fatalf("group %d is %v", i, g)
			}
		}
		want := append(got, mustAdd(t, l, makeGroup(1)))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		mustReplay(t, o, 0, want)
	})
}

// FuzzReadPayload asks a log for what is not there.
func FuzzReadPayload(f *testing.F) {
	o := options(newDir(f), quick())
	if err := journal.Create(o, 0, epoch); err != nil {
		f.Fatal(err)
	}
	l, err := journal.Open(o)
	if err != nil {
		f.Fatal(err)
	}
	if err := l.Replay(context.Background(), 0, nil); err != nil {
		f.Fatal(err)
	}
	payload := content(1, 3000)
	_, places, err := add(l, []record{{kind: journal.KindRows, payloads: [][]byte{payload}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(int64(places[0]), int64(3000))
	f.Add(int64(places[0])+1, int64(2999))
	f.Add(int64(1)<<62, int64(1)<<62)
	f.Fuzz(func(t *testing.T, at, length int64) {
		got, err := l.ReadPayload(journal.Position(at), length, nil)
		if err == nil && length > 0 && (journal.Position(at) != places[0] || !bytes.Equal(got, payload)) {
			t.Errorf("%d bytes at %d were taken for a payload", length, at)
		}
		if _, openErr := l.OpenPayload(journal.Position(at), length); err == nil && openErr != nil {
			t.Errorf("read, but not opened: %v", openErr)
		}
	})
}

// FuzzHeaders: what is taken for a header is what would be written for it, byte by byte.
func FuzzHeaders(f *testing.F) {
	golden, err := os.ReadFile(goldenName("0000000000001000"))
	if err != nil {
		f.Fatal(err)
	}
	const salt, at = 0x100f0e0d0c0b0a09, 0x2000
	f.Add(golden[4096:4096+68], golden[:72])
	if _, ok := journal.RecodeRecord(golden[4096:], salt, at); !ok {
		f.Fatal("the golden record is none")
	}
	f.Fuzz(func(t *testing.T, record, segment []byte) {
		b := make([]byte, 68)
		copy(b, record)
		for _, right := range []bool{false, true} {
			if right {
				journal.SumRecord(b, salt, at)
			}
			if again, ok := journal.RecodeRecord(b, salt, at); ok && !bytes.Equal(again, b) {
				t.Errorf("record %x, encoded again %x", b, again)
			}
		}
		head := make([]byte, 4096)
		copy(head, segment[:min(len(segment), 4092)])
		head = setFormat(head, 1)
		if again, ok := journal.RecodeSegment(head); ok && !bytes.Equal(again, head) {
			t.Errorf("segment %x, encoded again %x", head, again)
		}
	})
}

// TestLengthsAreChecked: what a record says of its size costs no memory when the file is shorter.
func TestLengthsAreChecked(t *testing.T) {
	const name = "0000000000002000"
	table := crc32.MakeTable(crc32.Castagnoli)
	for field, value := range map[int]uint32{44: 1 << 31, 48: 1 << 29, 52: 1 << 29} { // payloads, their size, the body's
		o := options(newDir(t), quick())
		o.SegmentSize = 8 << 10
		groups, starts, _ := small(t, o)
		b := files(t, o.Dir)[name]
		binary.LittleEndian.PutUint64(b[32:], 1<<30)
		binary.LittleEndian.PutUint32(b[4092:], crc32.Checksum(b[:4092], table))
		at := starts[len(starts)-2] // it has a payload
		record := b[at-0x2000:]
		binary.LittleEndian.PutUint32(record[field:], value)
		seed := binary.LittleEndian.Uint64(b[48:]) + uint64(at)*0x9e3779b97f4a7c15
		binary.LittleEndian.PutUint32(record[64:], crc32.Update(uint32(seed>>32)^uint32(seed), table, record[:64]))
		write(t, o.Dir, name, b)

		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		l, got, err := replay(o, 0)
		runtime.ReadMemStats(&after)
		if err != nil {
			t.Fatalf("field %d: %v", field, err)
		}
		l.Close()
		wantGroups(t, got, groups[:len(groups)-1])
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
			t.Errorf("field %d: %d bytes were allocated", field, grown)
		}
	}
}

// TestSumOfLengths: the lengths and sums of payloads have a sum of their own.
func TestSumOfLengths(t *testing.T) {
	o := options(newDir(t), quick())
	o.Rand = new(counter)
	l := newLog(t, o)
	mustAdd(t, l, []record{{journal.KindRows, []byte("body"), [][]byte{[]byte("payload")}}})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	b := files(t, o.Dir)["0000000000000000"]
	b[4096+56]++
	journal.SumRecord(b[4096:], binary.LittleEndian.Uint64(b[48:]), 4096)
	write(t, o.Dir, "0000000000000000", b)
	l = mustReplay(t, o, 0, nil)
	if d := l.Dropped(); d == nil || d.Offset != 4096 {
		t.Errorf("dropped %v, want the record", d)
	}
}
