package compact_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"packhouse/compact"
)

// model carries out a plan in memory, the naive way. ok is false when the plan must be refused.
func model(items map[string]string, ops []compact.Operation) (after map[string]string, outcomes []compact.Outcome, ok bool) {
	made := make(map[string]string)
	explicit := make(map[string]bool)
	for _, op := range ops {
		content, ok := modelContent(items, op)
		if !ok {
			return nil, nil, false
		}
		var o compact.Outcome
		if len(op.Ranges) > 0 || op.Empty {
			o.Size = int64(len(content))
			o.Key = op.Target
			if op.Target == "" {
				h := op.Naming.Algorithm.New()
				h.Write([]byte(content))
				sum := hex.EncodeToString(h.Sum(nil))
				for i := range op.Naming.Levels {
					o.Key += sum[2*i:2*i+2] + "/"
				}
				o.Key = op.Naming.Prefix + "/" + o.Key + sum
			}
			_, twice := made[o.Key]
			if twice && (op.Target != "" || explicit[o.Key]) {
				return nil, nil, false
			}
			_, there := items[o.Key]
			o.Existed = op.Target == "" && (twice || there)
			made[o.Key], explicit[o.Key] = content, op.Target != ""
			if op.Frame == compact.VGerPack {
				at := int64(9)
				for _, r := range op.Ranges {
					o.Offsets = append(o.Offsets, at+4)
					at += 4 + r.Length
				}
			}
		}
		outcomes = append(outcomes, o)
	}
	after = make(map[string]string)
	for key, body := range items {
		after[key] = body
	}
	for i, op := range ops {
		for _, key := range op.Deletes {
			_, output := made[key]
			outcomes[i].Deleted = append(outcomes[i].Deleted, !output)
			if !output {
				delete(after, key)
			}
		}
	}
	for key, body := range made {
		after[key] = body
	}
	return after, outcomes, true
}

func modelContent(items map[string]string, op compact.Operation) (string, bool) {
	var b bytes.Buffer
	if op.Frame == compact.VGerPack && len(op.Ranges) > 0 {
		b.WriteString("VGERPACK\x01")
	}
	for _, r := range op.Ranges {
		body, found := items[r.Key]
		start := r.Offset
		if start < 0 {
			start += int64(len(body))
		}
		if !found || start < 0 || r.Length < 0 || r.Length > 0 && start+r.Length > int64(len(body)) {
			return "", false
		}
		if op.Frame == compact.VGerPack {
			if r.Length == 0 || start < 4 || int64(binary.LittleEndian.Uint32([]byte(body[start-4:start]))) != r.Length {
				return "", false
			}
			b.WriteString(body[start-4 : start])
		}
		if r.Length > 0 {
			b.WriteString(body[start : start+r.Length])
		}
	}
	return b.String(), true
}

// genPack makes a V'Ger pack and its blobs' ranges.
func genPack(t *rapid.T, key string) (string, []compact.Range) {
	body := []byte("VGERPACK\x01")
	var blobs []compact.Range
	for range rapid.IntRange(1, 6).Draw(t, "blobs") {
		blob := bytes.Repeat([]byte{byte(rapid.IntRange('a', 'e').Draw(t, "byte"))}, rapid.IntRange(1, 40).Draw(t, "length"))
		body = binary.LittleEndian.AppendUint32(body, uint32(len(blob)))
		blobs = append(blobs, compact.Range{Key: key, Offset: int64(len(body)), Length: int64(len(blob))})
		body = append(body, blob...)
	}
	return string(body), blobs
}

// genOperation makes an operation that is mostly right.
func genOperation(t *rapid.T, tb testing.TB, items map[string]string, keys []string, packs map[string][]compact.Range) compact.Operation {
	var op compact.Operation
	name := []string{"sha256", "blake2b-256", "blake3", "md5"}[rapid.IntRange(0, 3).Draw(t, "algorithm")]
	op.Naming = compact.Naming{Algorithm: algorithm(tb, name), Prefix: "p", Levels: rapid.IntRange(0, 2).Draw(t, "levels")}
	key := rapid.SampledFrom(keys)
	switch rapid.IntRange(0, 9).Draw(t, "shape") {
	case 0:
		op.Empty = true
	case 1: // deletes only
	case 2, 3, 4, 5:
		op.Frame = compact.VGerPack
		blobs := packs[rapid.SampledFrom([]string{"v0", "v1"}).Draw(t, "pack")]
		for _, b := range blobs {
			if rapid.Bool().Draw(t, "alive") {
				op.Ranges = append(op.Ranges, b)
			}
		}
		if len(op.Ranges) > 0 && rapid.IntRange(0, 19).Draw(t, "stale") == 0 {
			op.Ranges[0].Length++
		}
	default:
		for range rapid.IntRange(1, 5).Draw(t, "ranges") {
			r := compact.Range{Key: key.Draw(t, "source")}
			size := int64(len(items[r.Key]))
			r.Offset = rapid.Int64Range(-size, size).Draw(t, "offset")
			start := r.Offset
			if start < 0 {
				start += size
			}
			r.Length = rapid.Int64Range(0, size-start).Draw(t, "length")
			if rapid.IntRange(0, 29).Draw(t, "wrong") == 0 {
				r.Length = size - start + 1
			}
			op.Ranges = append(op.Ranges, r)
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "explicit") == 0 {
		op.Target = rapid.SampledFrom(append([]string{"t0", "t1", "t2"}, keys...)).Draw(t, "target")
	}
	for range rapid.IntRange(0, 2).Draw(t, "deletes") {
		op.Deletes = append(op.Deletes, rapid.SampledFrom(append([]string{"gone"}, keys...)).Draw(t, "delete"))
	}
	return op
}

// Any plan on any items does what the naive reference does, or is refused and changes nothing; and sent
// again it has the same result.
func TestPlansAgainstModel(t *testing.T) {
	p := newFixture(t, nil)
	rapid.Check(t, func(t *rapid.T) {
		for key := range p.contents() {
			p.delete(key)
		}
		items := make(map[string]string)
		packs := make(map[string][]compact.Range)
		keys := []string{"a", "b", "c", "v0", "v1"}
		for _, key := range keys {
			if key[0] == 'v' {
				items[key], packs[key] = genPack(t, key)
			} else {
				items[key] = rapid.StringMatching(`[0-9]{0,60}`).Draw(t, "body")
			}
			p.put(key, []byte(items[key]))
		}
		var ops []compact.Operation
		for range rapid.IntRange(1, 6).Draw(t, "operations") {
			ops = append(ops, genOperation(t, p.t, items, keys, packs))
		}
		after, want, ok := model(items, ops)
		got, err := p.run(ops...)
		if (err == nil) != ok {
			t.Fatalf("run: got %v, want success %v", err, ok)
		}
		if !ok {
			after = items
		}
		if have := p.contents(); fmt.Sprint(have) != fmt.Sprint(after) {
			t.Fatalf("contents: got %q, want %q", have, after)
		}
		p.check()
		if !ok {
			return
		}
		for round := range 2 {
			for i := range want {
				g, w := got[i], want[i]
				if g.Key != w.Key || g.Size != w.Size || g.Existed != w.Existed ||
					fmt.Sprint(g.Offsets) != fmt.Sprint(w.Offsets) || fmt.Sprint(g.Deleted) != fmt.Sprint(w.Deleted) {
					t.Fatalf("round %d, outcome %d: got %+v, want %+v", round, i, g, w)
				}
			}
			if got, err = p.run(ops...); err != nil {
				t.Fatalf("again: %v", err)
			}
		}
		if have := p.contents(); fmt.Sprint(have) != fmt.Sprint(after) {
			t.Fatalf("contents after the repeat: got %q, want %q", have, after)
		}
	})
}
