package repo_test

import (
	"fmt"
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

// What the reclaimer thins out: of what was removed longer ago than two days, all but the last of each day and key.
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
		want("while the first day is protected but for its first hours", 102, 103, 104, 105, 106, 107, 108, 109, 110)
		time.Sleep(3 * day)
		want("later", 102, 106, 110)
		placed, _ := blobFiles(t, repo.Dir(r))
		if placed != 3+1+12 {
			t.Errorf("%d blobs, want those of the rows that are left", placed)
		}
	})
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
