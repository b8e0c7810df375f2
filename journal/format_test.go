package journal_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"packhouse/journal"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// counter is no randomness: bytes 1, 2, 3 and so on.
type counter byte

func (c *counter) Read(p []byte) (int, error) {
	for i := range p {
		*c++
		p[i] = byte(*c)
	}
	return len(p), nil
}

// golden is what the golden files hold: a group in one segment, one that goes on in a second, and one with an empty body and
// an empty payload.
var golden = [][]record{
	{{journal.KindRows, []byte("a first row"), [][]byte{[]byte("a first payload"), {}}}, {journal.KindRelocation, nil, nil}},
	{
		{journal.KindRows, bytes.Repeat([]byte("row "), 300), [][]byte{bytes.Repeat([]byte("payload "), 250), bytes.Repeat([]byte("another "), 250)}},
		{journal.KindSeal, []byte("the end"), nil},
	},
	{{9, nil, [][]byte{{}}}},
}

func goldenName(name string) string { return filepath.Join("testdata", "format1", name) }

// TestGolden writes a log of format 1 as it always did, and reads it, as every later version must.
func TestGolden(t *testing.T) {
	o := options(newDir(t), quick())
	o.SegmentSize = 8 << 10
	o.Rand = new(counter)
	if err := journal.Create(o, 0x1000, epoch); err != nil {
		t.Fatal(err)
	}
	l := mustReplay(t, o, 0x1000, nil)
	var want []group
	for _, records := range golden {
		want = append(want, mustAdd(t, l, records))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	names := []string{"0000000000001000", "0000000000003000"}
	for _, name := range names {
		made, err := os.ReadFile(filepath.Join(o.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(goldenName(name), made, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		kept, err := os.ReadFile(goldenName(name))
		if err != nil {
			t.Fatal(err)
		}
		// What is behind the end of a segment was set aside, or not.
		if n := min(len(made), len(kept)); !bytes.Equal(made[:n], kept[:n]) || len(bytes.Trim(made[n:], "\x00"))+len(bytes.Trim(kept[n:], "\x00")) > 0 {
			t.Errorf("%s is not what it was", name)
		}
	}
	o.Dir, o.ReadOnly = filepath.Join("testdata", "format1"), true
	mustReplay(t, o, 0x1000, want)
}

// TestLayout spells out a segment as doc.go does.
func TestLayout(t *testing.T) {
	o := options(newDir(t), quick())
	o.Rand = new(counter)
	if err := journal.Create(o, 0x5000, epoch); err != nil {
		t.Fatal(err)
	}
	l := mustReplay(t, o, 0x5000, nil)
	mustAdd(t, l, []record{{journal.KindRows, []byte("body"), [][]byte{[]byte("payload")}}})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	u32, u64 := binary.LittleEndian.AppendUint32, binary.LittleEndian.AppendUint64
	salt := uint64(0x100f0e0d0c0b0a09)
	sum := func(at uint64, b []byte) uint32 {
		s := salt + at*0x9e3779b97f4a7c15
		return crc32.Update(uint32(s>>32)^uint32(s), table, b)
	}

	want := []byte("PHLOG\r\n\x00\x01\x00\x00\x00\x00\x00\x00\x00")
	for _, v := range []uint64{0x0807060504030201, 0x5000, smallSegment, epoch, salt, 0, uint64(clock().UnixNano())} {
		want = u64(want, v)
	}
	want = append(want, make([]byte, 4092-len(want))...)
	want = u32(want, crc32.Checksum(want, table))

	entry := u32(u32(nil, 7), sum(0x6000+68+8, []byte("payload")))
	header := []byte("\xa7PHr\x01\x05\x00\x00")
	for _, v := range []uint64{0x6000, 0x6000, epoch, uint64(clock().UnixNano())} {
		header = u64(header, v)
	}
	for _, v := range []uint32{0, 1, 15, 4, sum(0x6000, entry), sum(0x6000+68+15, []byte("body"))} {
		header = u32(header, v)
	}
	header = u32(header, sum(0x6000, header))
	want = append(append(append(append(want, header...), entry...), "payload"...), "body"...)

	got, err := os.ReadFile(filepath.Join(o.Dir, "0000000000005000"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		for i := range min(len(got), len(want)) {
			if got[i] != want[i] {
				t.Fatalf("byte %d: got %#x, want %#x", i, got[i], want[i])
			}
		}
		t.Errorf("got %d bytes, want %d", len(got), len(want))
	}
}
