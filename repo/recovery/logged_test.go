package recovery_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"packhouse/index"
	"packhouse/journal"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/recovery"
)

// state is what a repository holds, for a comparison: items, what can be restored, directories, settings, locks.
func state(t *testing.T, a *repo.Access) map[string]string {
	t.Helper()
	all := contents(t, a)
	for i, row := range trash(t, a.Repository()) {
		all[fmt.Sprintf("trash %d", i)] = fmt.Sprintf("%s, %d bytes, until %s", row.Key, row.Item.Size, row.Expires)
	}
	if entry, err := a.Stat(ctx, "empty"); err == nil {
		all["directory empty"] = entry.Item.Created.String()
	}
	all["usage"] = fmt.Sprintf("%+v", a.Repository().Usage())
	locks, err := a.Locks(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range locks {
		all["lock "+l.ID] = l.Holder
	}
	return all
}

// TestRebuildReplays: where the log goes on from the snapshot, all is as it was: what was removed stays removed, what was moved stays where it
// went, what can be restored, settings and locks. Also where the bytes of an item are damaged: of that item alone.
func TestRebuildReplays(t *testing.T) {
	for _, damaged := range []bool{false, true} {
		t.Run(fmt.Sprintf("damaged=%v", damaged), func(t *testing.T) {
			var want map[string]string
			var place journal.Place
			l := loseSmall(t, index.MaxPayload, time.Hour, func(a *repo.Access) {
				r := a.Repository()
				for i := range 20 {
					mustPut(t, a, fmt.Sprintf("packs/%02d", i), strings.Repeat("p", 20_000))
				}
				mustPut(t, a, "packs/large", strings.Repeat("l", 300_000))
				if err := a.Delete(ctx, "packs/02"); err != nil {
					t.Fatal(err)
				}
				if _, err := r.Snapshot(ctx, 1); err != nil {
					t.Fatal(err)
				}
				id := trash(t, r)[0].ID
				restored, err := r.Restore(ctx, id, "restored")
				if err != nil || restored.Size != 20_000 {
					t.Fatalf("restore: %+v, %v", restored, err)
				}
				mustPut(t, a, "packs/since", strings.Repeat("s", 10_000))
				mustPut(t, a, "packs/large since", strings.Repeat("L", 300_000))
				mustPut(t, a, "packs/00", "overwritten")
				_, lockErr := a.AcquireLock(ctx, "lock", "me", nil, 100*time.Hour)
				err = errors.Join(a.Delete(ctx, "packs/01"), a.Move(ctx, "packs/03", "moved"), a.Move(ctx, "packs/04", "packs/05"), a.Move(ctx, "packs/large", "large moved"),
					a.MakeDir(ctx, "empty"), r.SetQuota(ctx, 1<<30), lockErr)
				if err != nil {
					t.Fatal(err)
				}
				want = state(t, a)
				entry, err := r.Entry("packs/since")
				if err != nil {
					t.Fatal(err)
				}
				place, _ = journal.ParseRef(entry.Item.Ref)
			})
			if damaged {
				flip(t, l.segment(place), place.Offset+100)
			}
			a, report := l.rebuild(t)
			if !report.Replayed || report.LogDamaged != 0 || report.Recovered != 0 || report.Missing != 0 || report.Superseded != 0 {
				t.Errorf("report: %+v, want the log replayed", report)
			}
			if damaged {
				if _, err := get(a, "packs/since"); !errors.Is(err, repo.ErrDamaged) {
					t.Errorf("get: got %v, want ErrDamaged", err)
				}
				mustPut(t, a, "packs/since", strings.Repeat("s", 10_000)) // the same bytes mend it
				wantContent(t, a, "packs/since", strings.Repeat("s", 10_000))
				return
			}
			if got := state(t, a); !maps.Equal(got, want) {
				for key := range want {
					if got[key] != want[key] {
						t.Errorf("%s: got %.200q, want %.200q", key, got[key], want[key])
					}
				}
				t.Errorf("%d facts, want %d", len(got), len(want))
			}
		})
	}
}

// segment is the file of a place in the log.
func (l *lost) segment(place journal.Place) string {
	return filepath.Join(l.path, index.LogDir, fmt.Sprintf("%016x", uint64(place.Segment)))
}

// flip changes a byte of a file.
func flip(t testing.TB, name string, off int64) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[off] ^= 1
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRebuildOfADamagedLog: a group that is damaged costs what it said, and nothing else. The file with the damage is there under a second name
// when its segment has gone.
func TestRebuildOfADamagedLog(t *testing.T) {
	var place journal.Place
	l := loseSmall(t, index.MaxPayload, 0, func(a *repo.Access) {
		if _, err := a.Repository().Snapshot(ctx, 1); err != nil {
			t.Fatal(err)
		}
		for i := range 30 {
			mustPut(t, a, fmt.Sprintf("packs/%02d", i), strings.Repeat("p", 20_000+i))
		}
		entry, err := a.Repository().Entry("packs/10")
		if err != nil {
			t.Fatal(err)
		}
		place, _ = journal.ParseRef(entry.Item.Ref)
	})
	flip(t, l.segment(place), place.Offset+place.Length+10) // in the body, behind the payload
	a, report := l.rebuild(t)
	if report.Replayed || report.LogDamaged != 1 || report.Items != 29 || report.Recovered != 19 {
		t.Errorf("report: %+v, want all but one item", report)
	}
	for i := range 30 {
		if i != 10 {
			wantContent(t, a, fmt.Sprintf("packs/%02d", i), strings.Repeat("p", 20_000+i))
		}
	}
	if _, err := get(a, "packs/10"); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("the item of a damaged group: got %v", err)
	}
	if _, err := os.Stat(l.segment(place) + ".lost"); err != nil {
		t.Errorf("the file with the damage: %v", err)
	}
}

// TestRebuildOfDamagedBytes: behind a gap, an item whose bytes are wrong is what it was, damaged, and no older one takes its key.
func TestRebuildOfDamagedBytes(t *testing.T) {
	var place journal.Place
	l := loseSmall(t, index.MaxPayload, 0, func(a *repo.Access) {
		mustPut(t, a, "packs/a", "old")
		mustPut(t, a, "packs/a", strings.Repeat("a", 1000))
		mustPut(t, a, "packs/b", "b")
		entry, err := a.Repository().Entry("packs/a")
		if err != nil {
			t.Fatal(err)
		}
		place, _ = journal.ParseRef(entry.Item.Ref)
	})
	flip(t, l.segment(place), place.Offset)
	a, report := l.rebuild(t)
	if report.Snapshot != "" || report.Damaged != 1 || report.LogDamaged != 0 || report.Items != 2 {
		t.Errorf("report: %+v, want one damaged item", report)
	}
	wantContent(t, a, "packs/b", "b")
	if _, err := get(a, "packs/a"); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("get: got %v, want ErrDamaged", err)
	}
	if h := a.Repository().Health(); h.Damaged != 1 || h.Missing != 0 {
		t.Errorf("health: %+v", h)
	}
}

// TestRebuildBehindTheFirstSegments: the log tells whose it is, also when its first segments have gone and none was begun by a payload.
func TestRebuildBehindTheFirstSegments(t *testing.T) {
	const all, left = 1200, 300
	l := loseSmall(t, index.MaxPayload, 0, func(a *repo.Access) {
		var gone []string
		for i := range all {
			key := fmt.Sprintf("archives/%064d", i)
			mustPut(t, a, key, "x")
			if i < all-left {
				gone = append(gone, key)
			}
		}
		if _, err := a.DeleteAll(ctx, gone); err != nil {
			t.Fatal(err)
		}
		waitReclaimed(t, a.Repository(), a.Repository().Now)
		if _, err := a.Repository().Vacuum(ctx, nil, nil); err != nil {
			t.Fatal(err)
		}
	})
	a, report := l.rebuild(t)
	if report.Snapshot != "" || report.Items != left || a.Repository().Dialect() != "test" {
		t.Errorf("dialect %q, report: %+v, want %d items", a.Repository().Dialect(), report, left)
	}
}

// TestRebuildWhereSegmentsWent: the rows of an item go with no segment but that in which its bytes lie, also where many were
// stored at once: whichever segments have gone, those that are there have their items.
func TestRebuildWhereSegmentsWent(t *testing.T) {
	for odd := range 2 {
		t.Run(fmt.Sprint(odd), func(t *testing.T) {
			want := make(map[string]string)
			l := loseSmall(t, index.MaxPayload, 0, func(a *repo.Access) {
				var clients sync.WaitGroup
				for i := range 96 {
					key, body := fmt.Sprintf("packs/%02d", i), strings.Repeat(fmt.Sprintf("%02d", i), 10_000)
					want[key] = body
					clients.Go(func() { mustPut(t, a, key, body) })
				}
				clients.Wait()
				var gone []string
				for key := range want {
					entry, err := a.Repository().Entry(key)
					if err != nil {
						t.Fatal(err)
					}
					if place, _ := journal.ParseRef(entry.Item.Ref); int(place.Segment/(256<<10))%2 == odd {
						gone = append(gone, key)
						delete(want, key)
					}
				}
				if _, err := a.DeleteAll(ctx, gone); err != nil {
					t.Fatal(err)
				}
				waitReclaimed(t, a.Repository(), a.Repository().Now)
				if _, err := a.Repository().Vacuum(ctx, nil, nil); err != nil {
					t.Fatal(err)
				}
			})
			a, report := l.rebuild(t)
			if got := contents(t, a); report.Snapshot != "" || !maps.Equal(got, want) {
				t.Errorf("%d items, want %d; report: %+v", len(got), len(want), report)
			}
		})
	}
}

// TestRebuildOfMovedItems: behind a gap too, items are where they went last: those that changed places, one whose former key
// another has, also where a vacuum has named it later than that, and one whose new key had been a directory's.
func TestRebuildOfMovedItems(t *testing.T) {
	var gap []string
	large := strings.Repeat("f", 100_000)
	l := loseSmall(t, index.MaxPayload, time.Hour, func(a *repo.Access) {
		for _, key := range []string{"x", "y", "old", "vacuumed", "dir/in it", "into"} {
			mustPut(t, a, key, key)
		}
		mustPut(t, a, "large/0", large)
		mustPut(t, a, "large/1", large)
		if _, err := a.Repository().Snapshot(ctx, 1); err != nil {
			t.Fatal(err)
		}
		for i := range 8 {
			mustPut(t, a, fmt.Sprintf("gap/%d", i), large)
			entry, err := a.Repository().Entry(fmt.Sprintf("gap/%d", i))
			if err != nil {
				t.Fatal(err)
			}
			place, _ := journal.ParseRef(entry.Item.Ref)
			gap = append(gap, fmt.Sprintf("%016x", uint64(place.Segment)))
		}
		move := func(from, to string) {
			t.Helper()
			if err := a.Move(ctx, from, to); err != nil {
				t.Fatal(err)
			}
		}
		move("x", "z")
		move("y", "x")
		move("z", "y")
		move("old", "new")
		mustPut(t, a, "old", "newer")
		move("vacuumed", "elsewhere")
		mustPut(t, a, "vacuumed", "newer")
		_, deleteErr := a.DeleteAll(ctx, []string{"large/0", "large/1"})
		_, emptyErr := a.Repository().EmptyTrash(ctx, a.Repository().Now().Add(time.Hour))
		report, err := a.Repository().Vacuum(ctx, nil, nil)
		if err := errors.Join(deleteErr, emptyErr, err); err != nil || report.Items < 6 {
			t.Fatalf("vacuum: %+v, %v", report, err)
		}
		move("dir/in it", "out")
		if err := a.RemoveDir(ctx, "dir"); err != nil {
			t.Fatal(err)
		}
		move("into", "dir")
	})
	if err := os.Remove(filepath.Join(l.path, index.LogDir, gap[4])); err != nil { // neither the first nor the last
		t.Fatal(err)
	}
	a, report := l.rebuild(t)
	if report.Replayed || report.Snapshot == "" {
		t.Errorf("report: %+v, want a gap behind the snapshot", report)
	}
	for key, body := range map[string]string{
		"x": "y", "y": "x", "new": "old", "old": "newer", "elsewhere": "vacuumed", "vacuumed": "newer", "out": "dir/in it",
	} {
		wantContent(t, a, key, body)
	}
	// A directory that was removed may be back. Then the item that has its name can be restored.
	if body, err := get(a, "dir"); err != nil || body != "into" {
		restorable := slices.ContainsFunc(trash(t, a.Repository()), func(row index.Removed) bool { return row.Key == "lost+found:dir" })
		if !restorable {
			t.Errorf("the item under the name of a directory: %q, %v", body, err)
		}
	}
}

// chance is a story that comes by chance, of items in a log of small segments that are stored, overwritten, removed and vacuumed, with a snapshot in the
// middle. It returns what there is in the end.
func chance(t *testing.T, random *rand.Rand, a *repo.Access) map[string]string {
	t.Helper()
	want := make(map[string]string)
	for step := range 400 {
		key := fmt.Sprintf("packs/%02d", random.IntN(40))
		switch n := random.IntN(20); {
		case step == 200:
			if _, err := a.Repository().Snapshot(ctx, 1); err != nil {
				t.Fatal(err)
			}
		case n < 12:
			want[key] = strings.Repeat(fmt.Sprintf("%04d", step), 1+random.IntN(3000))
			mustPut(t, a, key, want[key])
		case n < 19:
			if err := a.Delete(ctx, key); err != nil && !errors.Is(err, repo.ErrNotFound) {
				t.Fatal(err)
			}
			delete(want, key)
		default:
			waitReclaimed(t, a.Repository(), a.Repository().Now)
			if _, err := a.Repository().Vacuum(ctx, nil, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	return want
}

// TestRebuildByChance: whatever happened, each item is there with its last bytes, also what a vacuum moved, from the log alone, or from
// snapshot and log with or without a gap between them. Removed ones may be back.
func TestRebuildByChance(t *testing.T) {
	for seed := range uint64(12) {
		for _, snapshot := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d/snapshot=%v", seed, snapshot), func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 5))
				var want map[string]string
				l := loseSmall(t, index.MaxPayload, 0, func(a *repo.Access) { want = chance(t, random, a) })
				if !snapshot {
					if err := os.RemoveAll(filepath.Join(l.path, "snapshots")); err != nil {
						t.Fatal(err)
					}
				}
				a, report := l.rebuild(t)
				got := contents(t, a)
				for key, body := range want {
					if got[key] != body {
						t.Errorf("%s: got %.20q, want %.20q", key, got[key], body)
					}
				}
				if report.Replayed && !maps.Equal(got, want) {
					t.Errorf("%d items, want %d: %+v", len(got), len(want), report)
				}
				if report.LogDamaged != 0 || report.Damaged != 0 {
					t.Errorf("report: %+v, want no damage", report)
				}
				// What was rebuilt works, and can be rebuilt again.
				mustPut(t, a, "afterwards", "works")
				if _, err := a.Repository().Vacuum(ctx, nil, nil); err != nil {
					t.Errorf("vacuum: %v", err)
				}
				wantContent(t, a, "afterwards", "works")
			})
		}
	}
}

// TestRebuildTwice: what a rebuild made, and what was stored since, is there after another one without a snapshot.
func TestRebuildTwice(t *testing.T) {
	l := loseSmall(t, index.MaxPayload, 0, func(a *repo.Access) {
		for i := range 30 {
			mustPut(t, a, fmt.Sprintf("packs/%02d", i), strings.Repeat("p", 20_000+i))
		}
	})
	for round := range 3 {
		if _, err := recovery.Rebuild(ctx, l.path, recovery.RebuildOptions{Now: l.clock.Now, Replace: true}); err != nil {
			t.Fatal(err)
		}
		s := datadir.Open(l.o)
		r, err := s.Get(ctx, "r")
		if err != nil {
			t.Fatal(err)
		}
		a := r.As(repo.Principal{})
		mustPut(t, a, fmt.Sprintf("since/%d", round), strings.Repeat("s", 30_000))
		for i := range 30 {
			wantContent(t, a, fmt.Sprintf("packs/%02d", i), strings.Repeat("p", 20_000+i))
		}
		for i := range round + 1 {
			wantContent(t, a, fmt.Sprintf("since/%d", i), strings.Repeat("s", 30_000))
		}
		if r.Dialect() != "test" {
			t.Errorf("dialect %q", r.Dialect())
		}
		checkAll(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRebuildWithoutTheLog: items whose log is lost are missing, and what is stored then is not taken for them.
func TestRebuildWithoutTheLog(t *testing.T) {
	l := loseSmall(t, index.MaxPayload, 0, func(a *repo.Access) {
		mustPut(t, a, "packs/a", "12345")
		mustPut(t, a, "packs/b", "12345")
		if _, err := a.Repository().Snapshot(ctx, 1); err != nil {
			t.Fatal(err)
		}
	})
	l.loseLog(t)
	a, report := l.rebuild(t)
	if report.Missing != 2 || report.Items != 0 {
		t.Errorf("report: %+v, want two missing items", report)
	}
	for i := range 20 {
		mustPut(t, a, fmt.Sprintf("packs/new %d", i), "abcde")
	}
	for _, key := range []string{"packs/a", "packs/b"} {
		if got, err := get(a, key); !errors.Is(err, repo.ErrNotFound) {
			t.Errorf("get %s: got %q, %v; want ErrNotFound", key, got, err)
		}
		mustPut(t, a, key, "12345")
		wantContent(t, a, key, "12345")
	}
}
