package compact_test

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"packhouse/compact"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/layout"
)

// putFormat1 stores an item as an earlier version did: a file with a trailer, without checksums beside it. The byte at flip is wrong in it;
// negative: none.
func putFormat1(t *testing.T, p *fixture, key string, body []byte, flip int) {
	t.Helper()
	p.close()
	sum := blake3.Sum256(body)
	id := [16]byte{15: 0x42, 0: 1}
	file := append([]byte(nil), body...)
	if flip >= 0 {
		file[flip] ^= 1
	}
	trailer := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32(nil, 0), uint64(len(body)))
	trailer = append(trailer, sum[:]...)
	trailer = append(trailer, 1, 0, 0, 0)
	trailer = binary.LittleEndian.AppendUint32(trailer, crc32.Checksum(trailer, crc32.MakeTable(crc32.Castagnoli)))
	file = append(append(file, trailer...), "PHBLOB\r\n"...)
	dir := filepath.Join(p.dir, "r")
	if err := os.WriteFile(filepath.Join(dir, "blobs", "42", hex.EncodeToString(id[:])), file, 0o600); err != nil {
		t.Fatal(err)
	}
	x, err := index.Open(filepath.Join(dir, layout.IndexFile), index.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = x.Apply(t.Context(), index.Put{Key: key, Limit: -1, Now: time.Now(), Item: index.Item{
		Size: int64(len(body)), BLAKE3: sum, Ref: "\x01" + string(id[:]),
	}})
	if err := errors.Join(err, x.Close()); err != nil {
		t.Fatal(err)
	}
	p.open()
}

// TestRangesOfUnprovenSource: a wrong byte in a file of an earlier version, which has no checksums yet, does not become a part of a new item, whose
// checksums would say that it is right. A sound one is copied, and has its checksums from then on.
func TestRangesOfUnprovenSource(t *testing.T) {
	const size = 300 << 10
	body := noise(1, size)
	operation := compact.Operation{Ranges: []compact.Range{{Key: "packs/old", Offset: 70 << 10, Length: 100 << 10}}, Target: "packs/new"}
	for _, flip := range []int{-1, 80 << 10, 200 << 10} {
		p := newFixture(t, nil)
		putFormat1(t, p, "packs/old", body, flip)
		_, err := p.run(operation)
		switch {
		case flip < 0 && err != nil:
			t.Errorf("a sound source: %v", err)
		case flip >= 0 && !errors.Is(err, repo.ErrDamaged) && !errors.Is(err, repo.ErrCorrupt):
			t.Errorf("wrong at %d: got %v, want that it is damaged", flip, err)
		case flip >= 0:
			if e, err := p.repo.Entry("packs/old"); err != nil || e.Item.Flags&index.FlagDamaged == 0 {
				t.Errorf("wrong at %d: the item is not marked: %+v, %v", flip, e.Item.Flags, err)
			}
			if _, err := p.repo.Entry("packs/new"); err == nil {
				t.Errorf("wrong at %d: the output is there", flip)
			}
		default:
			object, err := p.a.Open(t.Context(), "packs/old")
			if err != nil {
				t.Fatal(err)
			}
			if object.Unproven() {
				t.Error("the source has no checksums after it was read")
			}
			object.Close()
		}
	}
}
