package repo_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// TestVersionsOfAMonth: a client that only adds, in a repository whose trash has space for that and no more, overwrites its
// index six times a day for two months. It is never refused, and can have back every version of the last two days, and one
// of each day of the month before.
func TestVersionsOfAMonth(t *testing.T) {
	for _, dialect := range []string{"vger", "test"} {
		const size, perDay = 100, 6
		a, clock := newTrash(t, dialect, 10_000, (2*perDay+1+30)*size)
		a = a.Repository().As(repo.Principal{Permissions: permissions(t, `{"": "lrw", "index": "lrW"}`)})
		for i := range 60 * perDay {
			if _, err := put(a, "index", body(fmt.Sprint(i%10), size)); err != nil {
				t.Fatalf("%s: backup %d: %v", dialect, i, err)
			}
			mustPut(t, a, fmt.Sprintf("packs/%d", i), "a pack")
			clock.Advance(day / perDay)
		}
		now := clock.Now()
		recent, byDay := 0, map[string]int{}
		for _, row := range trash(t, a.Repository()) {
			if row.At.After(now.Add(-48 * time.Hour)) {
				recent++
			} else {
				byDay[row.At.UTC().Format(time.DateOnly)]++
			}
		}
		if recent < 2*perDay-1 {
			t.Errorf("%s: %d versions of the last 48 hours, want all %d", dialect, recent, 2*perDay)
		}
		if len(byDay) < 27 {
			t.Errorf("%s: versions of %d days before, want one of each of 28", dialect, len(byDay))
		}
	}
}

// What the reclaimer thins out: of what was removed longer ago than two days, all but the first of each day and key.
func TestReclaimerThinsOutVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccess(t, func(o *datadir.Options) {
			o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: 30 * day} }
		})
		r := a.Repository()
		time.Sleep(day - time.Duration(time.Now().Unix()%86400)*time.Second) // midnight UTC
		for i := range 3 * 4 {
			mustPut(t, a, "index", body("x", 100+i))
			mustPut(t, a, fmt.Sprintf("packs/%d", i), "a pack")
			if err := a.Delete(ctx, fmt.Sprintf("packs/%d", i)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(6 * time.Hour)
		}
		sizes := func() (of []int64) {
			t.Helper()
			packs := 0
			for _, row := range trash(t, r) {
				if row.Key == "index" {
					of = append(of, row.Item.Size)
				} else {
					packs++
				}
			}
			if packs != 12 {
				t.Errorf("%d packs are left, want all", packs)
			}
			return of
		}
		want := func(what string, of ...int64) {
			t.Helper()
			if got := sizes(); fmt.Sprint(got) != fmt.Sprint(of) {
				t.Errorf("%s: got versions %v, want %v", what, got, of)
			}
		}
		// The version of 100 bytes was overwritten at 6 o'clock of the first day, and so on.
		time.Sleep(2 * time.Hour)
		want("while the second day is protected but for its first hours", 100, 103, 104, 105, 106, 107, 108, 109, 110)
		time.Sleep(3 * day)
		want("later", 100, 103, 107)
		placed, _ := blobFiles(t, repo.Dir(r))
		if placed != 3+1+12 {
			t.Errorf("%d blobs, want those of the rows that are left", placed)
		}
	})
}

// TestEachDayCanBeGoneBackTo: keys that are overwritten several times a day, each at hours of its own. The state in which each day began can be gone back to when versions are thinned out.
func TestEachDayCanBeGoneBackTo(t *testing.T) {
	a, clock := newTrash(t, "test", -1, -1)
	r := a.Repository()
	clock.Advance(day - time.Duration(clock.Now().Unix()%86400)*time.Second - time.Duration(clock.Now().Nanosecond()))
	mustPut(t, a, "early", "0")
	mustPut(t, a, "late", "0")
	clock.Advance(day - time.Minute)
	const days = 5
	var begins []time.Time
	for n := range days {
		begins = append(begins, clock.Now())
		clock.Advance(time.Minute)
		for hour := range 24 {
			for key, hours := range map[string][]int{"early": {1, 2, 3}, "late": {3, 20, 22}} {
				if slices.Contains(hours, hour) {
					mustPut(t, a, key, fmt.Sprintf("%d.%d", n, hour))
				}
			}
			if hour < 23 {
				clock.Advance(time.Hour)
			}
		}
		clock.Advance(time.Hour - time.Minute)
	}
	clock.Advance(3 * day)
	if gone := repo.ThinVersions(t, r, 1); gone != days*2*2 {
		t.Errorf("%d versions were removed, want two of three of each day and key", gone)
	}
	for n, begin := range begins {
		plan, err := r.PlanRollback(ctx, repo.RollbackRequest{To: begin})
		if err != nil || plan.Lost != 0 {
			t.Errorf("day %d: %d are lost, of %v; %v", n, plan.Lost, plan.LostKeys, err)
		}
	}
	if _, err := r.Rollback(ctx, repo.RollbackRequest{To: begins[2]}, repo.Principal{}, nil); err != nil {
		t.Fatal(err)
	}
	wantContents(t, "the third day", a, map[string]string{"early": "1.3", "late": "1.22"})
}

// TestThinningInParts: more keys than are remembered at once, of which some are overwritten, and one that is restored meanwhile.
func TestThinningInParts(t *testing.T) {
	a, clock := newTrash(t, "test", -1, -1)
	r := a.Repository()
	for range 3 {
		for i := range 20 {
			mustPut(t, a, fmt.Sprint("key", i), "x")
			if err := a.Delete(ctx, fmt.Sprint("key", i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	rows := trash(t, r)
	if gone := repo.ThinVersions(t, r, 1); gone != 0 {
		t.Errorf("%d protected versions were removed", gone)
	}
	clock.Advance(3 * day)
	if _, err := r.Restore(ctx, rows[0].ID, "restored"); err != nil {
		t.Fatal(err)
	}
	if gone := repo.ThinVersions(t, r, 7); gone < 39 || gone > 40 {
		t.Errorf("%d versions were removed, want 39", gone)
	}
	left := map[string]index.Removed{}
	for _, row := range trash(t, r) {
		if other, ok := left[row.Key]; ok && row.At.Unix()/86400 == other.At.Unix()/86400 {
			t.Errorf("two versions of %s are left", row.Key)
		}
		left[row.Key] = row
	}
	if len(left) != 20 {
		t.Errorf("versions of %d keys are left, want 20", len(left))
	}
}
