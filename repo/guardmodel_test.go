package repo_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"packhouse/repo"
	"packhouse/repo/datadir"
)

// Whatever a client does within min_age, one rollback brings everything back: in a trash that is full, with compactions and restarts, under each
// of the other rules.
func TestGuardKeepsWhateverIsDone(t *testing.T) {
	for seed := range uint64(18) {
		dialect, snapshots, prefix := "vger", "snapshots", ""
		if seed%2 == 1 {
			dialect, snapshots, prefix = "borgstore", "archives", "config/"
		}
		settings := repo.Settings{Quota: 4000, TrashQuota: 600, CompactYoung: time.Millisecond, Guard: repo.Guard{MinAge: 20 * day}}
		switch seed % 3 {
		case 1:
			settings.Guard.KeepLast = 2
		case 2:
			settings.Guard.MaxRemoved.Count = 3
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 9))
				dir := memoryDir(t)
				var s *datadir.Set
				var a *repo.Access
				open := func() {
					s = datadir.Open(datadir.Options{Dir: dir, Settings: func(string) repo.Settings { return settings }})
					r, err := s.Get(ctx, "r")
					if errors.Is(err, repo.ErrNoRepository) {
						r, err = s.Create(ctx, "r", dialect)
					}
					if err != nil {
						t.Fatal(err)
					}
					a = r.As(repo.Principal{Name: "client"})
				}
				open()
				for i := range 6 {
					mustPut(t, a, fmt.Sprintf("packs/%d", i), body("p", 50))
					mustPut(t, a, fmt.Sprintf("%s/%d", snapshots, i), body("a", 5))
				}
				for _, key := range []string{"config", "index", "manifest"} {
					mustPut(t, a, prefix+key, body(key, 60))
				}
				time.Sleep(time.Hour)
				good, want := time.Now(), contentsOf(t, a)
				time.Sleep(time.Hour)
				keys := slices.Sorted(maps.Keys(want))
				any := func() string {
					if n := random.IntN(len(keys) + 5); n < len(keys) {
						return keys[n]
					}
					return fmt.Sprintf("packs/new%d", random.IntN(5))
				}
				for i := 0; time.Since(good) < 17*day; i++ { // what is refused changes nothing
					switch random.IntN(12) {
					case 0, 1, 2:
						_, _ = put(a, any(), body("x", 10+random.IntN(150)))
					case 3, 4:
						_ = a.Delete(ctx, any())
					case 5:
						_ = a.Move(ctx, any(), any())
					case 6:
						_, _ = a.DeleteAll(ctx, []string{any(), any(), any()})
					case 7:
						if dialect == "vger" {
							compactSome(t, a, fmt.Sprint("job", i), random)
						}
					case 8:
						_, _ = put(a, prefix+"index", body(fmt.Sprint(i), 60))
					case 9:
						_, _ = get(a, any())
					case 10:
						if random.IntN(5) == 0 {
							if err := s.Close(); err != nil {
								t.Fatal(err)
							}
							open()
						}
					default:
						time.Sleep(time.Duration(random.Int64N(int64(2 * day))))
					}
				}
				if _, err := a.Repository().Rollback(ctx, repo.RollbackRequest{To: good}, repo.Principal{Name: "root"}, nil); err != nil {
					t.Fatal(err)
				}
				wantContents(t, "after a rollback", a, want)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// compactSome begins a compaction of some packs, one of which is removed as unused.
func compactSome(t *testing.T, a *repo.Access, id string, random *rand.Rand) {
	t.Helper()
	c, err := a.BeginCompaction(id, true)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Answering()
	plan := &repo.OpenPlan{Compaction: c}
	for i := range 6 {
		key := fmt.Sprintf("packs/%d", i)
		if e, err := a.Stat(ctx, key); err == nil && e.Item.Plan == 0 && random.IntN(2) == 0 {
			plan.Sources = append(plan.Sources, key)
		}
	}
	if len(plan.Sources) > 1 {
		plan.Unused, plan.Sources = plan.Sources[:1], plan.Sources[1:]
	}
	_, _ = a.CommitOpen(ctx, repo.Batch{Open: plan})
}
