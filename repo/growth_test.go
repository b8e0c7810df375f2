package repo_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"packhouse/blobstore/vfs/vfstest"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// growthOf is the table as text: day, bytes and added bytes.
func growthOf(t *testing.T, r *repo.Repository) (all []string) {
	t.Helper()
	days, err := r.Growth()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range days {
		all = append(all, fmt.Sprintf("%s %d %d", d.Day.Format(time.DateOnly), d.Bytes, d.Added))
	}
	return all
}

func wantGrowth(t *testing.T, what string, r *repo.Repository, want ...string) {
	t.Helper()
	if got := growthOf(t, r); !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// growing makes a repository whose clock is at noon of 1 March 2026, plus what is in ahead.
func growing(t *testing.T) (r *repo.Repository, a *repo.Access, ahead *atomic.Int64) {
	t.Helper()
	start, ahead := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), new(atomic.Int64)
	a = newAccess(t, func(o *datadir.Options) {
		o.Now = func() time.Time { return start.Add(time.Duration(ahead.Load())) }
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: time.Hour} }
	})
	return a.Repository(), a, ahead
}

const oneDay = int64(24 * time.Hour)

// Each day has the size at its end and what clients stored, also what they removed again; today has what is not recorded yet.
func TestGrowth(t *testing.T) {
	r, a, ahead := growing(t)
	wantGrowth(t, "new", r, "2026-03-01 0 0")
	mustPut(t, a, "packs/a", "12345")
	mustPut(t, a, "locks/l", "a lock is no growth")
	lock := int64(len("a lock is no growth"))
	wantGrowth(t, "not recorded yet", r, fmt.Sprintf("2026-03-01 %d 5", 5+lock))
	record := func() {
		t.Helper()
		if err := r.RecordGrowth(ctx); err != nil {
			t.Fatal(err)
		}
	}
	record()
	if err := a.Delete(ctx, "locks/l"); err != nil {
		t.Fatal(err)
	}
	record()
	record()
	wantGrowth(t, "recorded", r, "2026-03-01 5 5")
	ahead.Add(oneDay)
	mustPut(t, a, "packs/b", "123")
	if err := a.Delete(ctx, "packs/b"); err != nil {
		t.Fatal(err)
	}
	record()
	mustPut(t, a, "packs/c", "1234567")
	record()
	wantGrowth(t, "the second day", r, "2026-03-01 5 5", "2026-03-02 12 10")
	ahead.Add(5 * oneDay)
	record() // nothing has changed: no row
	wantGrowth(t, "after a pause", r, "2026-03-01 5 5", "2026-03-02 12 10", "2026-03-07 12 0")
	ahead.Add(-6 * oneDay)
	record() // a clock that was wrong
	wantGrowth(t, "earlier", r, "2026-03-01 12 5")
}

// What the table holds is bounded, and written only when something has changed.
func TestGrowthIsBounded(t *testing.T) {
	r, a, ahead := growing(t)
	for range repo.GrowthDays + 10 {
		mustPut(t, a, "packs/a", "x")
		if err := r.RecordGrowth(ctx); err != nil {
			t.Fatal(err)
		}
		ahead.Add(oneDay)
	}
	days, err := r.Growth()
	if err != nil || len(days) != repo.GrowthDays+1 { // and today
		t.Fatalf("got %d days, %v", len(days), err)
	}
	value, err := r.Meta("growth")
	if err != nil || len(value) > repo.GrowthDays*8 {
		t.Errorf("the table has %d bytes, %v", len(value), err)
	}
	before := r.LogStatus().Bytes
	for range 3 {
		if err := r.RecordGrowth(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if after := r.LogStatus().Bytes; after != before {
		t.Errorf("the log grew from %d to %d bytes, although nothing has changed", before, after)
	}
}

// A table that cannot be read is worth a plot, not a repository: it begins anew.
func TestGrowthOfGarbage(t *testing.T) {
	for _, garbage := range []string{"", "\x02", "\x01\x01", "\x01\x00\x00\x00", "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "\x01\x01\x01\x00", "\x01\xff\xff\x7f\x02\x00"} {
		r, a, _ := growing(t)
		if err := r.SetMeta(ctx, "growth", []byte(garbage)); err != nil {
			t.Fatal(err)
		}
		mustPut(t, a, "packs/a", "12345")
		wantGrowth(t, fmt.Sprintf("%q", garbage), r, "2026-03-01 5 5")
		if err := r.RecordGrowth(ctx); err != nil {
			t.Fatal(err)
		}
		wantGrowth(t, fmt.Sprintf("%q, recorded", garbage), r, "2026-03-01 5 5")
	}
}

// What was recorded is there when the machine has crashed. What could not be recorded is recorded by the next call.
func TestGrowthSurvivesPowerFailure(t *testing.T) {
	dir := newRepository(t)
	lossy := vfstest.NewLossy(t, dir)
	fsys := vfstest.NewFailing(lossy)
	s := datadir.Open(datadir.Options{Dir: dir, Environment: repo.Environment{FS: fsys, Index: index.Options{Database: vfstest.Bolt(t, fsys)}}})
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, r.As(repo.Principal{}), "packs/growth", "12345")
	fsys.FailOp(vfstest.Write, 1, vfstest.Before, syscall.ENOSPC)
	if err := r.RecordGrowth(ctx); !errors.Is(err, repo.ErrNoSpace) {
		t.Errorf("on a full disk: got %v, want ErrNoSpace", err)
	}
	fsys.Reset()
	if err := r.RecordGrowth(ctx); err != nil {
		t.Fatal(err)
	}
	want := growthOf(t, r)
	if err := lossy.Crash(nil); err != nil {
		t.Fatal(err)
	}
	_ = s.Close() // of a machine that is not there any more
	after := datadir.Open(datadir.Options{Dir: dir})
	defer after.Close()
	if r, err = after.Get(ctx, "r"); err != nil {
		t.Fatal(err)
	}
	wantGrowth(t, "after the crash", r, want...)
	if len(want) != 1 || !strings.HasSuffix(want[0], " 5") {
		t.Errorf("got %q, want 5 bytes added today", want)
	}
}

// The writers with the latest backups come first.
func TestWriters(t *testing.T) {
	r, _, ahead := growing(t)
	for i, name := range []string{"c", "a", "b", "d", "a"} {
		ahead.Add(int64(time.Minute))
		_, err := r.As(repo.Principal{Name: name}).Put(ctx, repo.PutRequest{Key: fmt.Sprint("archives/", i), Body: strings.NewReader("x"), Size: 1, Backup: true})
		if err != nil {
			t.Fatal(err)
		}
	}
	for n, want := range []string{"", "a", "a d", "a d b", "a d b c", "a d b c"} {
		writers, total, err := r.LatestWriters(n)
		var names []string
		for _, w := range writers {
			names = append(names, w.Name)
		}
		if got := strings.Join(names, " "); err != nil || got != want || total != 4 {
			t.Errorf("%d writers: got %q of %d, %v, want %q of 4", n, got, total, err, want)
		}
	}
}

// Pages of the history go back from the last change, however many there are and whatever they cost.
func TestLatestChanges(t *testing.T) {
	a := newAccess(t, func(o *datadir.Options) {
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: time.Hour} }
	})
	r := a.Repository()
	latest := func(before uint64, most int) (ids []uint64) {
		t.Helper()
		enough := errors.New("enough")
		err := r.LatestChanges(ctx, before, func(c index.Change) error {
			if ids = append(ids, c.ID); len(ids) == most {
				return enough
			}
			return nil
		})
		if err != nil && !errors.Is(err, enough) {
			t.Fatal(err)
		}
		return ids
	}
	if got := latest(0, 10); len(got) != 0 {
		t.Errorf("of an empty history: got %d", got)
	}
	for i := range 700 { // more than one window of those with the longest keys
		mustPut(t, a, fmt.Sprintf("packs/%04d%s", i, strings.Repeat("/"+strings.Repeat("k", 200), i%5)), "x")
	}
	var want []uint64
	if err := r.Changes(ctx, func(c index.Change) error { want = append(want, c.ID); return nil }); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(want)
	if got := latest(0, 10_000); !slices.Equal(got, want) {
		t.Errorf("got %d changes, want %d, or in another order", len(got), len(want))
	}
	if got := latest(want[4], 3); !slices.Equal(got, want[5:8]) {
		t.Errorf("before the fifth: got %d, want %d", got, want[5:8])
	}
	if got := latest(1<<62, 2); !slices.Equal(got, want[:2]) {
		t.Errorf("before one that there is not: got %d, want %d", got, want[:2])
	}
	if got := latest(want[len(want)-1], 2); len(got) != 0 {
		t.Errorf("before the first: got %d", got)
	}
}
