package compact_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"packhouse/compact"
	"packhouse/repo"
	"packhouse/repo/digest"
	"packhouse/repo/policy"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// blake2b256 is what V'Ger's formats 1 and 2 name packs by.
func blake2b256(t testing.TB) digest.Algorithm {
	t.Helper()
	return algorithm(t, digest.BLAKE2b256)
}

// The vectors of borgstore-rest 11.
func TestDefragVectors(t *testing.T) {
	const sha = "c5081a90d2517e10f3f6dca7a4dd038b3db6eb10795908943816de207ff0d50c"
	ranges := []compact.Range{{Key: "file1", Offset: 2, Length: 3}, {Key: "file2", Offset: 5, Length: 2}}
	for _, c := range []struct {
		name string
		op   compact.Operation
		key  string
		body string
	}{
		{"sha256", compact.Operation{Ranges: ranges, Naming: compact.Naming{Algorithm: algorithm(t, "sha256")}}, sha, "234fg"},
		{"nested", compact.Operation{Ranges: ranges, Naming: compact.Naming{Algorithm: algorithm(t, "sha256"), Prefix: "ns1", Levels: 1}},
			"ns1/c5/" + sha, "234fg"},
		{"two levels", compact.Operation{Ranges: ranges, Naming: compact.Naming{Algorithm: algorithm(t, "sha256"), Prefix: "ns1/ns2", Levels: 2}},
			"ns1/ns2/c5/08/" + sha, "234fg"},
		{"negative levels", compact.Operation{Ranges: ranges, Naming: compact.Naming{Algorithm: algorithm(t, "sha256"), Levels: -1}}, sha, "234fg"},
		{"md5", compact.Operation{Ranges: ranges, Naming: compact.Naming{Algorithm: algorithm(t, "md5"), Prefix: "ns1", Levels: 1}},
			"ns1/0c/0cb5631b6404689bc8dc5660faba80be", "234fg"},
		{"target", compact.Operation{Ranges: ranges, Target: "t"}, "t", "234fg"},
		{"target is a source", compact.Operation{Ranges: ranges, Target: "file1"}, "file1", "234fg"},
		{"from the end", compact.Operation{Ranges: []compact.Range{{Key: "file1", Offset: -3, Length: 3}}, Target: "t"}, "t", "789"},
		{"nothing beyond the end", compact.Operation{Ranges: []compact.Range{{Key: "file1", Offset: 99, Length: 0}, {Key: "file1", Offset: 9, Length: 1}}, Target: "t"}, "t", "9"},
		{"overlap", compact.Operation{Ranges: []compact.Range{{Key: "file1", Offset: 0, Length: 3}, {Key: "file1", Offset: 1, Length: 3}}, Target: "t"}, "t", "012123"},
		{"whole, twice", compact.Operation{Ranges: []compact.Range{{Key: "file1", Offset: 0, Length: 10}, {Key: "file1", Offset: 0, Length: 10}}, Target: "t"}, "t", "01234567890123456789"},
		{"empty", compact.Operation{Empty: true, Naming: compact.Naming{Algorithm: algorithm(t, "sha256")}},
			"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, nil)
			p.put("file1", []byte("0123456789"))
			p.put("file2", []byte("abcdefghij"))
			got := p.mustRun(c.op)
			if len(got) != 1 || got[0].Key != c.key || got[0].Size != int64(len(c.body)) || got[0].Existed || got[0].Offsets != nil {
				t.Errorf("outcome: got %+v, want key %s", got, c.key)
			}
			p.want(c.key, c.body)
			p.want("file2", "abcdefghij")
		})
	}
}

// The vectors of vger-rest 15.
func TestRepackVectors(t *testing.T) {
	blake3 := algorithm(t, "blake3")
	blake2 := blake2b256(t)
	const (
		keyS  = "packs/22/22a8d80ade59e7f5243303d9665162b12953f31ffd5cf281f1e052a4fb101d2a"
		keyB2 = "packs/fa/faa0ed092737e5bae9346a24ccad42be84ee0feaafa73989a64d0b9f25dd236c"
		keyB3 = "packs/78/78536d9a3db64d80218f556f8da502a4c707b74c7976cfc4127ea53f1961119e"
		keyA  = "packs/12/12e32af13fe308ccb9d5ba91e72a2197a67990851c4c0d615c240314aa3a1887"
	)
	packS := "564745525041434b01 02000000dead 03000000beef42"
	for _, c := range []struct {
		name    string
		keep    [][2]int64
		hash    digest.Algorithm
		key     string
		body    string
		offsets []int64
		deleted bool
		existed bool
	}{
		{"last blob, BLAKE2b", [][2]int64{{19, 3}}, blake2, keyB2, "564745525041434b01 03000000beef42", []int64{13}, true, false},
		{"last blob, BLAKE3", [][2]int64{{19, 3}}, blake3, keyB3, "564745525041434b01 03000000beef42", []int64{13}, true, false},
		{"first blob", [][2]int64{{13, 2}}, blake2, keyA, "564745525041434b01 02000000dead", []int64{13}, true, false},
		{"everything", [][2]int64{{13, 2}, {19, 3}}, blake2, keyS, packS, []int64{13, 19}, false, true},
		{"other order", [][2]int64{{19, 3}, {13, 2}}, blake2, "", "564745525041434b01 03000000beef42 02000000dead", []int64{13, 20}, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, nil)
			p.put(keyS, unhex(t, packS))
			op := compact.Operation{Frame: compact.VGerPack, Naming: compact.Naming{Algorithm: c.hash, Prefix: "packs", Levels: 1}, Deletes: []string{keyS}}
			for _, k := range c.keep {
				op.Ranges = append(op.Ranges, compact.Range{Key: keyS, Offset: k[0], Length: k[1]})
			}
			got := p.mustRun(op)[0]
			if c.key != "" && got.Key != c.key {
				t.Errorf("key: got %s, want %s", got.Key, c.key)
			}
			if !slices.Equal(got.Offsets, c.offsets) || !slices.Equal(got.Deleted, []bool{c.deleted}) || got.Existed != c.existed {
				t.Errorf("outcome: got %+v, want offsets %v, deleted %v, existed %v", got, c.offsets, c.deleted, c.existed)
			}
			p.want(got.Key, string(unhex(t, c.body)))
			if used := p.repo.Usage().Used; used != got.Size {
				t.Errorf("used: got %d, want %d", used, got.Size)
			}
			p.wantKeys(got.Key)
		})
	}
}

func TestRunRefuses(t *testing.T) {
	ten := func(key string, offset, length int64) compact.Operation {
		return compact.Operation{Ranges: []compact.Range{{Key: "a", Offset: 0, Length: 1}, {Key: key, Offset: offset, Length: length}}, Target: "t"}
	}
	pack := func(offset, length int64) compact.Operation {
		return compact.Operation{Ranges: []compact.Range{{Key: "s", Offset: offset, Length: length}}, Frame: compact.VGerPack, Target: "t"}
	}
	sha := compact.Naming{Algorithm: algorithm(t, "sha256")}
	for _, c := range []struct {
		name string
		ops  []compact.Operation
		op   int
		rng  int
		err  error
	}{
		{"missing source", []compact.Operation{ten("nope", 0, 1)}, 0, 1, repo.ErrNotFound},
		{"missing source, nothing of it", []compact.Operation{ten("nope", 0, 0)}, 0, 1, repo.ErrNotFound},
		{"second operation", []compact.Operation{{Deletes: []string{"a"}}, ten("a", 0, 11)}, 1, 1, repo.ErrRange},
		{"beyond the end", []compact.Operation{ten("a", 10, 1)}, 0, 1, repo.ErrRange},
		{"before the start", []compact.Operation{ten("a", -11, 1)}, 0, 1, repo.ErrInvalid},
		{"over the end, from the end", []compact.Operation{ten("a", -1, 2)}, 0, 1, repo.ErrRange},
		{"negative length", []compact.Operation{ten("a", 0, -1)}, 0, 1, repo.ErrRange},
		{"overflow", []compact.Operation{ten("a", 1<<62, 1<<62)}, 0, 1, repo.ErrRange},
		{"bad source name", []compact.Operation{ten("a/../b", 0, 1)}, 0, 1, repo.ErrInvalid},
		{"directory as a source", []compact.Operation{ten("dir", 0, 1)}, 0, 1, repo.ErrIsDir},
		{"directory as a target", []compact.Operation{{Empty: true, Target: "dir"}}, 0, -1, repo.ErrIsDir},
		{"directory to delete", []compact.Operation{{Deletes: []string{"dir"}}}, 0, -1, repo.ErrIsDir},
		{"item as a parent of the target", []compact.Operation{{Empty: true, Target: "a/b"}}, 0, -1, repo.ErrNotDir},
		{"bad target", []compact.Operation{{Empty: true, Target: "/x"}}, 0, -1, repo.ErrInvalid},
		{"bad name to delete", []compact.Operation{{Deletes: []string{"a", ".."}}}, 0, -1, repo.ErrInvalid},
		{"no name", []compact.Operation{{Empty: true}}, 0, -1, repo.ErrInvalid},
		{"bad prefix", []compact.Operation{{Empty: true, Naming: compact.Naming{Algorithm: sha.Algorithm, Prefix: "../x"}}}, 0, -1, repo.ErrInvalid},
		{"too many levels", []compact.Operation{{Empty: true, Naming: compact.Naming{Algorithm: sha.Algorithm, Levels: 33}}}, 0, -1, repo.ErrInvalid},
		{"same target twice", []compact.Operation{{Empty: true, Target: "t"}, ten("a", 0, 1), {Empty: true, Naming: sha}, {Empty: true, Target: "t"}}, 1, -1, repo.ErrInvalid},
		{"target is another's digest", []compact.Operation{{Empty: true, Naming: sha},
			{Empty: true, Target: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}}, 1, -1, repo.ErrInvalid},
		{"wrong prefix", []compact.Operation{pack(13, 3)}, 0, 0, repo.ErrInvalid},
		{"no space for a prefix", []compact.Operation{pack(2, 1)}, 0, 0, repo.ErrInvalid},
		{"no space for a prefix, from the end", []compact.Operation{pack(-21, 1)}, 0, 0, repo.ErrInvalid},
		{"empty blob", []compact.Operation{pack(13, 0)}, 0, 0, repo.ErrInvalid},
		{"blob longer than 32 bits", []compact.Operation{pack(13, 1<<32)}, 0, 0, repo.ErrInvalid},
		{"half a blob twice", []compact.Operation{{Frame: compact.VGerPack, Target: "t", Ranges: []compact.Range{{"s", 19, 3}, {"s", 20, 2}}}}, 0, 1, repo.ErrInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, nil)
			p.put("a", []byte("0123456789"))
			p.put("s", unhex(t, "564745525041434b01 02000000dead 03000000beef42"))
			p.put("dir/x", []byte("x"))
			before := fmt.Sprint(p.contents())
			_, err := p.run(c.ops...)
			var e *compact.PlanError
			if !errors.As(err, &e) || !errors.Is(err, c.err) {
				t.Fatalf("run: got %v, want a PlanError of %v", err, c.err)
			}
			if e.Operation != c.op || e.Range != c.rng {
				t.Errorf("place: got operation %d, range %d, want %d, %d (%v)", e.Operation, e.Range, c.op, c.rng, err)
			}
			if after := fmt.Sprint(p.contents()); after != before {
				t.Errorf("repository: got %s, want %s", after, before)
			}
			p.wantNoLeaks()
		})
	}
}

func TestShortRangeSaysHowShort(t *testing.T) {
	p := newPlace(t, nil)
	p.put("file1", []byte("0123456789"))
	_, err := p.run(compact.Operation{Ranges: []compact.Range{{Key: "file1", Offset: 2, Length: 20}}, Target: "t"})
	var e *compact.PlanError
	if !errors.As(err, &e) || e.Key != "file1" || e.Want != 20 || e.Got != 8 || e.Offset != 2 {
		t.Errorf("got %#v, want 20 wanted at 2 of file1 and 8 there", err)
	}
}

func TestLimits(t *testing.T) {
	one := compact.Operation{Ranges: []compact.Range{{Key: "a", Offset: 0, Length: 5}}, Target: "t"}
	two := compact.Operation{Ranges: []compact.Range{{Key: "a", Offset: 0, Length: 5}, {Key: "b", Offset: 0, Length: 5}}, Target: "u"}
	e := compact.New(compact.Options{})
	defer e.Close()
	for _, c := range []struct {
		name   string
		limits compact.Limits
		ops    []compact.Operation
		op     int
		ok     bool
	}{
		{"just fits", compact.Limits{Operations: 2, Ranges: 2, Output: 15}, []compact.Operation{one, two}, 0, true},
		{"operations", compact.Limits{Operations: 1}, []compact.Operation{one, two}, -1, false},
		{"ranges", compact.Limits{Ranges: 1}, []compact.Operation{one, two}, 1, false},
		{"output", compact.Limits{Output: 14}, []compact.Operation{one, two}, 1, false},
		{"length", compact.Limits{PlanBytes: 20}, []compact.Operation{one, two}, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			plan := e.NewPlan(c.limits)
			defer plan.Close()
			var err error
			for _, op := range c.ops {
				err = plan.Add(op)
			}
			var wrong *compact.PlanError
			switch {
			case c.ok && err != nil:
				t.Errorf("add: got %v, want nil", err)
			case !c.ok && (!errors.As(err, &wrong) || !errors.Is(err, repo.ErrTooLarge) || wrong.Operation != c.op):
				t.Errorf("add: got %v, want ErrTooLarge of operation %d", err, c.op)
			}
		})
	}
}

func TestPermissions(t *testing.T) {
	sha := compact.Naming{Algorithm: algorithm(t, "sha256"), Prefix: "packs"}
	from := []compact.Range{{Key: "packs/a", Offset: 0, Length: 3}}
	for _, c := range []struct {
		name  string
		table map[string]string
		op    compact.Operation
		ok    bool
	}{
		{"read and write new", map[string]string{"": "rw"}, compact.Operation{Ranges: from, Naming: sha}, true},
		{"no read", map[string]string{"": "lwWD"}, compact.Operation{Ranges: from, Naming: sha}, false},
		{"no write", map[string]string{"": "lrD"}, compact.Operation{Ranges: from, Naming: sha}, false},
		{"no write there", map[string]string{"": "lrwW", "packs": "r"}, compact.Operation{Ranges: from, Naming: sha}, false},
		{"append-only deletes", map[string]string{"": "lrw"}, compact.Operation{Ranges: from, Naming: sha, Deletes: []string{"packs/a"}}, false},
		{"append-only deletes what is not there", map[string]string{"": "lrw"}, compact.Operation{Deletes: []string{"packs/z"}}, false},
		{"append-only overwrites", map[string]string{"": "lrw"}, compact.Operation{Ranges: from, Target: "packs/b"}, false},
		{"append-only, new target", map[string]string{"": "lrw"}, compact.Operation{Ranges: from, Target: "packs/c"}, true},
		{"overwrite", map[string]string{"": "rW"}, compact.Operation{Ranges: from, Target: "packs/b"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, nil)
			p.put("packs/a", []byte("aaa"))
			p.put("packs/b", []byte("bbb"))
			permissions, err := policy.New(c.table)
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.runAs(p.repo.As(repo.Principal{Name: "u", Permissions: permissions}), c.op)
			if c.ok && err != nil || !c.ok && !errors.Is(err, repo.ErrDenied) {
				t.Errorf("run: got %v, want success %v, else ErrDenied", err, c.ok)
			}
			if !c.ok {
				p.wantKeys("packs/a", "packs/b")
			}
		})
	}
}

// Permissions may differ below the namespace: the digest decides, and the operation is named.
func TestPermissionsByDigest(t *testing.T) {
	p := newPlace(t, nil)
	p.put("a", []byte("aAAAa"))
	sha := compact.Naming{Algorithm: algorithm(t, "sha256"), Prefix: "packs", Levels: 1}
	permissions, err := policy.New(map[string]string{"": "lrwWD", "packs/cb": "r"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.runAs(p.repo.As(repo.Principal{Name: "u", Permissions: permissions}),
		compact.Operation{Ranges: []compact.Range{{Key: "a", Offset: 0, Length: 1}}, Naming: sha},
		compact.Operation{Ranges: []compact.Range{{Key: "a", Offset: 1, Length: 3}}, Naming: sha, Deletes: []string{"a"}}) // cb1ad2…
	var e *compact.PlanError
	if !errors.Is(err, repo.ErrDenied) || !errors.As(err, &e) || e.Operation != 1 {
		t.Errorf("run: got %v, want ErrDenied of operation 1", err)
	}
	p.wantKeys("a")
	p.wantNoLeaks()
}

// What a client sends for a key may be as long as the plan: no error repeats it.
func TestErrorsAreShort(t *testing.T) {
	p := newPlace(t, nil)
	long := strings.Repeat("é", 1<<20)
	sha := compact.Naming{Algorithm: algorithm(t, "sha256"), Prefix: long}
	for _, op := range []compact.Operation{
		{Ranges: []compact.Range{{Key: long, Offset: 0, Length: 1}}, Target: "t"},
		{Ranges: []compact.Range{{Key: "a", Offset: 0, Length: 1}}, Target: long},
		{Deletes: []string{long}},
		{Empty: true, Naming: sha},
	} {
		_, err := p.run(op)
		var e *compact.PlanError
		if !errors.Is(err, repo.ErrInvalid) || !errors.As(err, &e) || len(err.Error()) > 1000 || len(e.Key) > 1000 || !utf8.ValidString(e.Key) {
			t.Errorf("run: got %.300v, want a short ErrInvalid", err)
		}
	}
}

// A dry run and the run itself agree on what is freed, where a target is known.
func TestEstimateAgreesWithRun(t *testing.T) {
	for _, c := range []struct {
		name string
		ops  []compact.Operation
	}{
		{"deletes its source", []compact.Operation{{Ranges: []compact.Range{{Key: "a", Offset: 1, Length: 3}}, Target: "t", Deletes: []string{"a", "b", "never"}}}},
		{"target is deleted", []compact.Operation{{Ranges: []compact.Range{{Key: "a", Offset: 1, Length: 3}}, Target: "a", Deletes: []string{"a", "b"}}}},
		{"replaces", []compact.Operation{{Ranges: []compact.Range{{Key: "a", Offset: 1, Length: 3}}, Target: "b"}, {Deletes: []string{"a", "b"}}}},
		{"deleted twice", []compact.Operation{{Deletes: []string{"a", "a"}}, {Deletes: []string{"a"}}}},
		{"grows", []compact.Operation{{Ranges: []compact.Range{{Key: "a", Offset: 0, Length: 5}, {Key: "a", Offset: 0, Length: 5}}, Target: "t"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, nil)
			p.put("a", []byte("aAAAa"))
			p.put("b", []byte("bb"))
			before := p.contents()
			plan := p.engine.NewPlan(compact.Limits{})
			defer plan.Close()
			for _, op := range c.ops {
				if err := plan.Add(op); err != nil {
					t.Fatal(err)
				}
			}
			got, err := p.engine.Estimate(context.Background(), p.a, plan)
			if err != nil || fmt.Sprint(p.contents()) != fmt.Sprint(before) {
				t.Fatalf("estimate: %v, contents %q", err, p.contents())
			}
			used := p.repo.Usage().Used
			p.mustRun(c.ops...)
			jobs, err := p.engine.Jobs(context.Background(), p.repo)
			if err != nil || len(jobs) != 1 {
				t.Fatalf("jobs: got %+v, %v", jobs, err)
			}
			did := jobs[0].Progress
			if got.Freed != did.Freed || got.Read != did.Read || got.Written != did.Written || got.Saved != used-p.repo.Usage().Used {
				t.Errorf("estimate: got %+v, then %+v, saved %d", got, did, used-p.repo.Usage().Used)
			}
		})
	}
}

// An output that would need more than what the deletions free is refused; one that fits after them is not.
func TestQuotaIsOfWhatRemains(t *testing.T) {
	p := newPlace(t, nil)
	p.put("a", []byte(strings.Repeat("a", 1000)))
	if err := p.repo.SetQuota(context.Background(), 1100); err != nil {
		t.Fatal(err)
	}
	op := compact.Operation{Ranges: []compact.Range{{Key: "a", Offset: 0, Length: 600}}, Target: "b"}
	_, err := p.run(op)
	var q *repo.QuotaError
	if !errors.As(err, &q) || q.Limit != 1100 {
		t.Errorf("keeping the source: got %v, want a QuotaError", err)
	}
	op.Deletes = []string{"a"}
	p.mustRun(op)
	p.wantKeys("b")
	if used := p.repo.Usage().Used; used != 600 {
		t.Errorf("used: got %d, want 600", used)
	}
}
