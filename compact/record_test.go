package compact

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"packhouse/repo/digest"
)

func sha256Algorithm(t testing.TB) digest.Algorithm {
	t.Helper()
	a, err := digest.Lookup(digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// An operation that decodes encodes to the same bytes' meaning, and decoding allocates no more than its input asks for.
func FuzzDecodeOperation(f *testing.F) {
	sha := sha256Algorithm(f)
	for _, o := range []Operation{
		{},
		{Empty: true, Target: "t"},
		{Ranges: []Range{{"a", -3, 3}, {"a", 5, 0}, {"b", 1 << 40, 9}}, Naming: Naming{sha, "packs", 2}, Frame: VGerPack, Deletes: []string{"a", "b"}},
	} {
		f.Add(appendOperation(nil, &o))
	}
	f.Add([]byte{0, 255, 255, 255, 255, 255, 255, 255, 255, 127})
	f.Fuzz(func(t *testing.T, b []byte) {
		var first, second Operation
		if decodeOperation(b, &first, digest.Lookup) != nil {
			return
		}
		again := appendOperation(nil, &first)
		if err := decodeOperation(again, &second, digest.Lookup); err != nil {
			t.Fatalf("decode of the encoded: %v", err)
		}
		first.Naming.Algorithm.New, second.Naming.Algorithm.New = nil, nil
		if fmt.Sprint(first) != fmt.Sprint(second) {
			t.Errorf("got %+v, want %+v", second, first)
		}
	})
}

func FuzzDecodeJob(f *testing.F) {
	res := &result{outputs: []made{{sum: []byte("0123"), print: 7, existed: true}, {print: 8}}, sources: []uint64{1, 2}}
	f.Add(encodeJob(Job{ID: "x", Kind: Compaction, State: Done, Permissions: "null", Created: time.Unix(1, 0).UTC()}, res))
	f.Add(encodeJob(Job{ID: "y", State: Queued, When: WhenWindow}, nil))
	f.Add([]byte{1, 2, '{', '}', 255, 255, 255, 127})
	f.Fuzz(func(t *testing.T, b []byte) {
		job, rest, err := decodeJob(b)
		if err != nil {
			return
		}
		res, err := decodeResult(rest)
		if err != nil {
			res = nil
		}
		job2, rest, err := decodeJob(encodeJob(job, res))
		if err != nil {
			t.Fatalf("decode of the encoded: %v", err)
		}
		if !job.Created.Equal(job2.Created) || job.State != job2.State || job.Permissions != job2.Permissions || job.Progress != job2.Progress {
			t.Errorf("job: got %+v, want %+v", job2, job)
		}
		if res == nil {
			return
		}
		if res2, err := decodeResult(rest); err != nil || !reflect.DeepEqual(res, res2) {
			t.Errorf("result: got %+v, %v, want %+v", res2, err, res)
		}
	})
}

// The digest of a plan depends on the order and on every member of its operations.
func TestIdentityTellsPlansApart(t *testing.T) {
	sha := sha256Algorithm(t)
	e := New(Options{})
	defer e.Close()
	base := []Operation{
		{Ranges: []Range{{"a", 1, 2}}, Naming: Naming{sha, "p", 1}, Deletes: []string{"a"}},
		{Ranges: []Range{{"b", 1, 2}}, Target: "t"},
	}
	sum := func(ops []Operation) string {
		p := e.NewPlan(Limits{})
		defer p.Close()
		for _, o := range ops {
			if err := p.Add(o); err != nil {
				t.Fatal(err)
			}
		}
		return fmt.Sprintf("%x", p.sum.Sum(nil))
	}
	seen := map[string]string{sum(base): "base"}
	change := func(name string, fn func(ops []Operation)) {
		ops := []Operation{base[0], base[1]}
		fn(ops)
		s := sum(ops)
		if other, ok := seen[s]; ok {
			t.Errorf("%s is taken for %s", name, other)
		}
		seen[s] = name
	}
	change("order", func(ops []Operation) { ops[0], ops[1] = ops[1], ops[0] })
	change("key", func(ops []Operation) { ops[0].Ranges = []Range{{"c", 1, 2}} })
	change("offset", func(ops []Operation) { ops[0].Ranges = []Range{{"a", -1, 1}} })
	change("length", func(ops []Operation) { ops[0].Ranges = []Range{{"a", 1, 3}} })
	change("one range more", func(ops []Operation) { ops[0].Ranges = []Range{{"a", 1, 2}, {"a", 1, 2}} })
	change("prefix", func(ops []Operation) { ops[0].Naming.Prefix = "q" })
	change("levels", func(ops []Operation) { ops[0].Naming.Levels = 2 })
	change("target", func(ops []Operation) { ops[1].Target = "u" })
	change("deletions", func(ops []Operation) { ops[0].Deletes = nil })
	change("frame", func(ops []Operation) { ops[0].Frame, ops[0].Ranges = VGerPack, []Range{{"a", 5, 2}} })
	change("frame not", func(ops []Operation) { ops[0].Ranges = []Range{{"a", 5, 2}} })
	if again := sum([]Operation{base[0], base[1]}); seen[again] != "base" {
		t.Error("the same plan has another digest")
	}
}
