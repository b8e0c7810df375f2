package repo_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"packhouse/repo"
	"packhouse/repo/datadir"
)

// TestCoverageModel holds the record of what was verified against one that has the time of each key: it is never later than that, and the
// same while the record needs no more ranges than it may have.
func TestCoverageModel(t *testing.T) {
	const keys = 200
	key := func(i int) string { return fmt.Sprintf("d/%03d", i) }
	for seed := range uint64(6) {
		random := rand.New(rand.NewPCG(seed, 1))
		a := newAccess(t, nil)
		r := a.Repository()
		times := [keys]int64{}
		exact := true
		width := 3
		if seed%2 == 0 {
			width = keys
		}
		for round := range int64(120) {
			from := random.IntN(keys)
			to := min(from+1+random.IntN(width), keys) // keys from…to-1
			after, last := "", ""
			if from > 0 {
				after = key(from - 1)
			}
			if to < keys {
				last = key(to - 1)
			}
			at := time.UnixMilli(1_700_000_000_000 + round*1000)
			if err := r.Covered(ctx, after, last, at, int64(to-from), int64(to-from)*10); err != nil {
				t.Fatal(err)
			}
			for i := from; i < to; i++ {
				times[i] = at.UnixMilli()
			}
			for i := range keys {
				got, parts := repo.VerifiedAt(r, key(i))
				if parts > repo.CoverageParts {
					t.Fatalf("the record has %d ranges", parts)
				}
				exact = exact && parts < repo.CoverageParts
				if got > times[i] || exact && got != times[i] {
					t.Fatalf("seed %d, round %d, key %d: got %d, want %d", seed, round, i, got, times[i])
				}
			}
		}
	}
}

// TestCoverage follows what the repository says of itself over scrubs of parts, of all, and a restart.
func TestCoverage(t *testing.T) {
	clock := fixedClock(time.UnixMilli(1_790_000_000_000))
	dir := t.TempDir()
	options := func(o *datadir.Options) { o.Dir, o.Now = dir, clock.Now }
	s := newSet(t, options)
	r := create(t, s, "r")
	a := r.As(repo.Principal{})
	created := r.Created()
	if c := r.Coverage(); c != (repo.Coverage{}) {
		t.Errorf("an empty repository: got %+v", c)
	}
	for i := range 10 {
		mustPut(t, a, fmt.Sprintf("packs/%d", i), strings.Repeat("x", 100))
	}
	want := func(what string, items, bytes int64, since, oldest time.Time) {
		t.Helper()
		c := r.Coverage()
		if c.Items != items || c.Bytes != bytes || !c.Since.Equal(since) || !c.Oldest.Equal(oldest) {
			t.Errorf("%s: got %+v, want %d items, %d bytes since %v, the oldest %v", what, c, items, bytes, since, oldest)
		}
	}
	read := func(after string, n int, all bool) time.Time {
		t.Helper()
		clock.Advance(time.Hour)
		began := clock.Now().Truncate(time.Millisecond)
		round := r.BeginRound(after)
		first := 0
		if after != "" {
			_, _ = fmt.Sscanf(after, "packs/%d", &first)
			first++
		}
		for i := first; i < first+n; i++ {
			entry, err := a.Row(ctx, fmt.Sprintf("packs/%d", i))
			if err == nil {
				err = round.Verify(ctx, entry, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		round.End(all)
		return began
	}
	want("before any scrub", 0, 0, time.Time{}, created)
	first := read("", 3, false)
	want("three of ten", 3, 300, first, created)
	second := read("packs/2", 4, false)
	want("seven of ten", 7, 700, first, created)
	_ = read("packs/6", 3, true)
	want("all", 10, 1000, first, first)
	_ = read("", 5, false)
	want("half of them again", 10, 1000, second, second)
	if err := errors.Join(s.Close()); err != nil {
		t.Fatal(err)
	}
	s = newSet(t, options)
	var err error
	if r, err = s.Get(ctx, "r"); err != nil {
		t.Fatal(err)
	}
	a = r.As(repo.Principal{})
	want("after a restart", 10, 1000, second, second)
	last := read("", 10, true)
	want("all at once", 10, 1000, last, last)
}

// TestCoverageOfDamagedRecord: it is forgotten, and all has to be verified again.
func TestCoverageOfDamagedRecord(t *testing.T) {
	for _, value := range []string{"x", "{}", `{"parts":[]}`, `{"parts":[{"last":"a","at":5}]}`, `{"parts":[{"last":"b","at":5},{"last":"a"},{"last":""}]}`} {
		dir := t.TempDir()
		options := func(o *datadir.Options) { o.Dir = dir }
		s := newSet(t, options)
		r := create(t, s, "r")
		mustPut(t, r.As(repo.Principal{}), "x", "content")
		if err := errors.Join(r.SetMeta(ctx, "scrub.coverage", []byte(value)), s.Close()); err != nil {
			t.Fatal(err)
		}
		s = newSet(t, options)
		r, err := s.Get(ctx, "r")
		if err != nil {
			t.Fatal(err)
		}
		if c := r.Coverage(); c.Items != 0 || !c.Oldest.Equal(r.Created()) {
			t.Errorf("%s: got %+v, want that nothing was verified", value, c)
		}
	}
}
