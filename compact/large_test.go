package compact_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"packhouse/compact"
	"packhouse/index"
	"packhouse/repo"
)

// bigPack makes a V'Ger pack of n blobs up to 20,000 bytes, so that lengths lie across every edge of a buffer.
func bigPack(random *rand.ChaCha8, key string, n int) ([]byte, []compact.Range) {
	sizes := rand.New(random)
	body := []byte("VGERPACK\x01")
	var blobs []compact.Range
	for range n {
		size := 1 + sizes.IntN(20_000)
		body = binary.LittleEndian.AppendUint32(body, uint32(size))
		at := len(body)
		body = append(body, make([]byte, size)...)
		_, _ = random.Read(body[at:])
		blobs = append(blobs, compact.Range{Key: key, Offset: int64(at), Length: int64(size)})
	}
	return body, blobs
}

// Outputs of many buffers are what the naive reference makes of them.
func TestOutputsOfManyBuffers(t *testing.T) {
	p := newFixture(t, nil)
	random := rand.NewChaCha8([32]byte{1})
	choose := rand.New(random)
	items := make(map[string]string)
	var ops []compact.Operation
	for i, name := range []string{"sha256", "blake2b-256", "blake3", "md5"} {
		key := "packs/" + name
		body, blobs := bigPack(random, key, 800)
		p.put(key, body)
		items[key] = string(body)
		var keep []compact.Range
		for _, b := range blobs {
			if choose.IntN(3) > 0 {
				keep = append(keep, b)
			}
		}
		ops = append(ops,
			compact.Operation{Ranges: keep, Frame: compact.VGerPack, Deletes: []string{key},
				Naming: compact.Naming{Algorithm: algorithm(t, name), Prefix: "p", Levels: 1}},
			compact.Operation{Ranges: []compact.Range{{Key: key, Offset: 0, Length: int64(len(body))}, {Key: key, Offset: -5_000_001, Length: 5_000_000}},
				Target: "whole/" + name})
		if i == 0 {
			ops = append(ops, compact.Operation{Ranges: []compact.Range{{Key: key, Offset: 7, Length: 1 << 20}}, Target: "one buffer"},
				compact.Operation{Ranges: []compact.Range{{Key: key, Offset: 7, Length: 1<<20 + 1}}, Target: "one byte more"})
		}
	}
	after, want, ok := model(items, ops)
	if !ok {
		t.Fatal("the model refuses the plan")
	}
	got := p.mustRun(ops...)
	for i := range want {
		if got[i].Key != want[i].Key || got[i].Size != want[i].Size || len(got[i].Offsets) != len(want[i].Offsets) {
			t.Errorf("outcome %d: got %s of %d, want %s of %d", i, got[i].Key, got[i].Size, want[i].Key, want[i].Size)
		}
	}
	have := p.contents()
	if len(have) != len(after) {
		t.Errorf("items: got %d, want %d", len(have), len(after))
	}
	for key, body := range after {
		if have[key] != body {
			t.Errorf("%s: got %d bytes, want %d others", key, len(have[key]), len(body))
		}
	}
}

// A length that is wrong far inside a pack fails the plan, and the error says where.
func TestStaleLengthFarInside(t *testing.T) {
	p := newFixture(t, nil)
	body, blobs := bigPack(rand.NewChaCha8([32]byte{2}), "a", 600)
	p.put("a", body)
	for _, wrong := range []int{1, 150, 599} {
		keep := append([]compact.Range(nil), blobs...)
		keep[wrong].Length--
		op := compact.Operation{Ranges: keep, Frame: compact.VGerPack, Naming: compact.Naming{Algorithm: algorithm(t, "blake3")}, Deletes: []string{"a"}}
		_, err := p.run(op)
		var e *compact.PlanError
		if !errors.As(err, &e) || !errors.Is(err, repo.ErrInvalid) || e.Range != wrong {
			t.Errorf("blob %d: got %v, want ErrInvalid there", wrong, err)
		}
	}
	p.wantKeys("a")
	p.wantNoLeaks()
}

// spoil changes the file of the only blob.
func (p *fixture) spoil(change func(path string) error) {
	p.t.Helper()
	n := 0
	err := filepath.WalkDir(filepath.Join(p.dir, "r", "blobs"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) == ".sums" {
			return err
		}
		n++
		return change(path)
	})
	if err != nil || n != 1 {
		p.t.Fatalf("spoil: %d blobs, %v", n, err)
	}
}

// Damage in a source that is read whole is found, and marked; so is one that is cut short, in any case.
func TestDamagedSource(t *testing.T) {
	flip := func(path string) error {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt([]byte{0xff}, 2_000_000)
		return err
	}
	cut := func(path string) error { return os.Truncate(path, 1_000_000) }
	for _, c := range []struct {
		name   string
		change func(string) error
		ranges []compact.Range
	}{
		{"changed, read whole", flip, []compact.Range{{Key: "a", Offset: 0, Length: 3_000_000}}},
		{"changed, read whole in two ranges", flip, []compact.Range{{Key: "a", Offset: 0, Length: 5}, {Key: "a", Offset: 5, Length: 2_999_995}}},
		{"cut short", cut, []compact.Range{{Key: "a", Offset: 1_500_000, Length: 10}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newFixture(t, nil)
			p.put("a", make([]byte, 3_000_000))
			p.spoil(c.change)
			op := compact.Operation{Ranges: c.ranges, Target: "t", Deletes: []string{"a"}}
			for range 2 {
				_, err := p.run(op)
				if !errors.Is(err, repo.ErrCorrupt) {
					t.Errorf("run: got %v, want ErrCorrupt", err)
				}
			}
			entry, err := p.repo.Entry("a")
			if err != nil || entry.Item.Flags&index.FlagDamaged == 0 {
				t.Errorf("item: got flags %v, %v, want FlagDamaged", entry.Item.Flags, err)
			}
			if _, err := p.a.Stat(context.Background(), "t"); !errors.Is(err, repo.ErrNotFound) {
				t.Errorf("output: got %v, want ErrNotFound", err)
			}
		})
	}
}
