package repo_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// newGuarded makes a repository of borg with rules, a grace time and a quota of the trash.
func newGuarded(t *testing.T, settings repo.Settings) *repo.Access {
	t.Helper()
	return newDialect(t, "borgstore", func(o *datadir.Options) {
		if settings.Quota == 0 {
			settings.Quota = -1
		}
		o.Settings = func(string) repo.Settings { return settings }
	})
}

// refusedBy wants a *repo.GuardError of a rule, which names the key.
func refusedBy(t *testing.T, what, rule, key string, err error) *repo.GuardError {
	t.Helper()
	var refused *repo.GuardError
	if !errors.As(err, &refused) || !errors.Is(err, repo.ErrDenied) {
		t.Errorf("%s: got %v, want a refusal by %s", what, err, rule)
		return &repo.GuardError{}
	}
	if refused.Rule != rule || refused.Key != key || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "packhouse guard lift r ") {
		t.Errorf("%s: got %q by %s for %q, want a refusal by %s for %q", what, err, refused.Rule, refused.Key, rule, key)
	}
	return refused
}

// Each way of removing a snapshot is refused while it is young, and changes nothing.
func TestGuardRefusesYoungSnapshots(t *testing.T) {
	for name, remove := range map[string]func(*repo.Access) error{
		"delete":       func(a *repo.Access) error { return a.Delete(ctx, "archives/a") },
		"several":      func(a *repo.Access) error { _, err := a.DeleteAll(ctx, []string{"packs/1", "archives/a"}); return err },
		"soft delete":  func(a *repo.Access) error { return a.Move(ctx, "archives/a", "archives/a.del") },
		"replace":      func(a *repo.Access) error { _, err := put(a, "archives/a", "another"); return err },
		"replace by a": func(a *repo.Access) error { return a.Move(ctx, "packs/1", "archives/a") },
		"batch": func(a *repo.Access) error {
			_, err := a.Commit(ctx, repo.Batch{Deletes: []repo.BatchDelete{{Key: "packs/1"}, {Key: "archives/a"}}})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newGuarded(t, repo.Settings{Guard: repo.Guard{MinAge: 7 * day, Refuse: true}})
				r := a.Repository()
				mustPut(t, a, "archives/a", "an archive")
				mustPut(t, a, "packs/1", "a pack")
				time.Sleep(7*day - time.Minute)
				refused := refusedBy(t, name, repo.RuleMinAge, "archives/a", remove(a))
				if left := time.Until(refused.Until); left <= 0 || left > time.Minute {
					t.Errorf("refused for another %v, want a minute", left)
				}
				wantContent(t, a, "archives/a", "an archive")
				wantContent(t, a, "packs/1", "a pack")
				if got := r.GuardRefusals()[repo.RuleMinAge]; got != 1 {
					t.Errorf("%d refusals counted, want 1", got)
				}
				if h := r.Health(); !h.Degraded() || !strings.Contains(h.Reason, "guard") {
					t.Errorf("health after a refusal: %+v, want that it names the guard", h)
				}
				if err := a.MayDestroy(ctx); err == nil {
					t.Error("the repository could be destroyed")
				}
				time.Sleep(2 * time.Minute)
				if err := remove(a); err != nil {
					t.Errorf("at its time: %v", err)
				}
				time.Sleep(day)
				if h := r.Health(); h.Degraded() {
					t.Errorf("health a day after a refusal: %+v", h)
				}
			})
		})
	}
}

// What is no removal is not refused: undeletion, the same bytes again, other items.
func TestGuardLetsOthersBe(t *testing.T) {
	a := newGuarded(t, repo.Settings{Guard: repo.Guard{MinAge: 7 * day, Refuse: true, MaxRemoved: repo.MaxRemoved{Count: 1}}})
	mustPut(t, a, "archives/a", "an archive")
	mustPut(t, a, "archives/b.del", "one that was deleted before there was a guard")
	mustPut(t, a, "packs/1", "a pack")
	for name, err := range map[string]error{
		"undeletion": a.Move(ctx, "archives/b.del", "archives/b"),
		"a pack":     a.Delete(ctx, "packs/1"),
		"missing":    a.Delete(ctx, "archives/none"),
	} {
		if err != nil && (name != "missing" || !errors.Is(err, repo.ErrNotFound)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := put(a, "archives/a", "an archive"); err != nil {
		t.Errorf("the same bytes: %v", err)
	}
	root := a.Repository().As(repo.Principal{Name: "root", Unguarded: true})
	if err := errors.Join(root.MayDestroy(ctx), root.Move(ctx, "archives/a", "archives/c"), root.Delete(ctx, "archives/c")); err != nil {
		t.Errorf("an administrator: %v", err)
	}
}

// The key of borg's archive is all that there is of it, so that a rename removes it: each of the rules refuses that, and leaves the snapshot.
func TestGuardRefusesRenames(t *testing.T) {
	for name, rules := range map[string]repo.Guard{
		"refuse": {MinAge: time.Hour, Refuse: true}, "keep_last": {KeepLast: 1}, "max_removed": {MaxRemoved: repo.MaxRemoved{Count: 10}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newGuarded(t, repo.Settings{Guard: rules})
				mustPut(t, a, "archives/a", "")
				mustPut(t, a, "archives/b.del", "")
				time.Sleep(2 * time.Hour)
				for _, way := range [][2]string{
					{"archives/a", "junk/a"}, {"archives/a", "archives/c"}, {"archives/a", "archives/c.del"}, {"archives/a", "archives/a.del.del"},
					{"archives/b.del", "archives/c"}, {"archives/b.del", "archives/b.del.del"}, {"archives/b.del", "packs/b"},
				} {
					refusedBy(t, way[1], repo.RuleMoved, way[0], a.Move(ctx, way[0], way[1]))
					wantContent(t, a, way[0], "")
				}
				if err := errors.Join(a.Move(ctx, "archives/a", "archives/a.del"), a.Move(ctx, "archives/a.del", "archives/a"), a.Move(ctx, "archives/a", "archives/a")); err != nil {
					t.Errorf("soft deletion and back: %v", err)
				}
				if err := a.Move(ctx, "archives/none", "archives/c"); !errors.Is(err, repo.ErrNotFound) {
					t.Errorf("of what is not there: %v", err)
				}
			})
		})
	}
}

// A guard is lifted for a time, which a restart does not change.
func TestGuardLift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newGuarded(t, repo.Settings{Guard: repo.Guard{MinAge: 7 * day, Refuse: true}})
		r := a.Repository()
		for i := range 3 {
			mustPut(t, a, fmt.Sprintf("archives/%d", i), "an archive")
		}
		if _, err := r.LiftGuard(ctx, repo.MaxGuardLift+1); !errors.Is(err, repo.ErrInvalid) {
			t.Errorf("for longer than may be: %v", err)
		}
		until, err := r.LiftGuard(ctx, time.Hour)
		if err != nil || !until.Equal(r.GuardLifted()) || time.Until(until) != time.Hour {
			t.Fatalf("lifted until %v, shown %v: %v", until, r.GuardLifted(), err)
		}
		if err := a.Delete(ctx, "archives/0"); err != nil {
			t.Errorf("lifted: %v", err)
		}
		time.Sleep(time.Hour)
		refusedBy(t, "an hour later", repo.RuleMinAge, "archives/1", a.Delete(ctx, "archives/1"))
		if _, err := r.LiftGuard(ctx, time.Hour); err != nil {
			t.Fatal(err)
		}
		if _, err := r.LiftGuard(ctx, 0); err != nil {
			t.Fatal(err)
		}
		refusedBy(t, "taken back", repo.RuleMinAge, "archives/1", a.Delete(ctx, "archives/1"))
	})
}

// What is removed while the guard is lifted does not count on the day after: an honest client goes on with what it removes each day.
func TestGuardLiftDoesNotCount(t *testing.T) {
	a := newGuarded(t, repo.Settings{Guard: repo.Guard{MaxRemoved: repo.MaxRemoved{Count: 1}}})
	r := a.Repository()
	for i := range 6 {
		mustPut(t, a, fmt.Sprintf("archives/%d", i), "")
	}
	if _, err := r.LiftGuard(ctx, time.Hour); err != nil {
		t.Fatal(err)
	}
	if n, err := a.DeleteAll(ctx, []string{"archives/0", "archives/1", "archives/2"}); n != 3 || err != nil {
		t.Fatalf("lifted: %d removed, %v", n, err)
	}
	if _, err := r.LiftGuard(ctx, 0); err != nil {
		t.Fatal(err)
	}
	if err := a.Delete(ctx, "archives/3"); err != nil {
		t.Errorf("one afterwards: %v", err)
	}
	refusedBy(t, "another", repo.RuleMaxRemoved, "archives/4", a.Delete(ctx, "archives/4"))
}

// A request that removes more than one transaction should hold is refused as a whole.
func TestGuardRefusesAllOfMany(t *testing.T) {
	for rule, rules := range map[string]repo.Guard{repo.RuleMinAge: {MinAge: day, Refuse: true}, repo.RuleMaxRemoved: {MaxRemoved: repo.MaxRemoved{Count: 1}}} {
		a := newDialect(t, "vger", func(o *datadir.Options) {
			o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Guard: rules} }
		})
		mustPut(t, a, "config", "a pack")
		mustPut(t, a, "snapshots/a", "a snapshot")
		mustPut(t, a, "snapshots/b", "a snapshot")
		names := []string{"config"}
		for i := range 5000 {
			names = append(names, fmt.Sprintf("packs/00/%d", i))
		}
		names = append(names, "snapshots/a", "snapshots/b")
		n, err := a.DeleteAll(ctx, names)
		if n != 0 {
			t.Errorf("%s: %d were removed", rule, n)
		}
		refusedBy(t, rule, rule, map[string]string{repo.RuleMinAge: "snapshots/a", repo.RuleMaxRemoved: "snapshots/b"}[rule], err)
		wantContent(t, a, "config", "a pack")
		if removed, _, err := a.Repository().RemovedSnapshots(); removed != 0 || err != nil {
			t.Errorf("%s: %d counted, %v", rule, removed, err)
		}
	}
}

// With min_age alone, everything that a client removes is carried out, and can be brought back in one step until min_age is over, without a grace
// time, whatever the trash holds, and although the client does all it can to have it go.
func TestGuardKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newGuarded(t, repo.Settings{Quota: 10_000, TrashQuota: 500, Guard: repo.Guard{MinAge: 20 * day}})
		r := a.Repository()
		for i := range 5 {
			mustPut(t, a, fmt.Sprintf("packs/%d", i), body("p", 50))
			mustPut(t, a, fmt.Sprintf("archives/%d", i), body("a", 50))
			mustPut(t, a, "config/manifest", body("m", 40+i))
		}
		time.Sleep(time.Hour)
		good, want := time.Now(), contentsOf(t, a)
		time.Sleep(time.Hour)
		for i := range 5 {
			if err := errors.Join(a.Move(ctx, fmt.Sprintf("archives/%d", i), fmt.Sprintf("archives/%d.del", i)),
				a.Delete(ctx, fmt.Sprintf("archives/%d.del", i)), a.Delete(ctx, fmt.Sprintf("packs/%d", i))); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 19 * 4 { // over and over, on each day
			_, _ = put(a, "config/manifest", body("x", 100+i))
			_, _ = put(a, "packs/fake", body("y", 100+i))
			_ = a.Delete(ctx, "packs/fake")
			time.Sleep(day / 4)
		}
		plan, err := r.PlanRollback(ctx, repo.RollbackRequest{To: good})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Rollback(ctx, repo.RollbackRequest{To: good, Expect: plan.Last}, repo.Principal{Name: "root"}, nil); err != nil {
			t.Fatal(err)
		}
		if got := contentsOf(t, a); !maps.Equal(got, want) {
			t.Errorf("after a rollback: %v, want %v", got, want)
		}
		time.Sleep(21 * day)
		if n := len(trash(t, r)); n != 0 {
			t.Errorf("%d items in the trash when min_age is over, want none", n)
		}
	})
}

// The last snapshots stay although their grace time is over, with what was removed after them, until as many newer ones of the same principal have come.
func TestGuardKeepsTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newGuarded(t, repo.Settings{Grace: time.Hour, Guard: repo.Guard{KeepLast: 3}})
		r := a.Repository()
		other := r.As(repo.Principal{Name: "other"})
		for i := range 5 {
			mustPut(t, a, fmt.Sprintf("archives/%d", i), "an archive")
			mustPut(t, a, fmt.Sprintf("packs/%d", i), "a pack")
			time.Sleep(time.Minute)
		}
		remove := func(keys ...string) {
			for _, key := range keys {
				if err := a.Delete(ctx, key); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
			}
		}
		inTrash := func(when string, want ...string) {
			t.Helper()
			time.Sleep(2 * time.Hour)
			var got []string
			for _, row := range trash(t, r) {
				got = append(got, row.Key)
			}
			if strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("%s the trash has %q, want %q", when, got, want)
			}
		}
		remove("packs/0", "archives/0")
		inTrash("after an old one")
		remove("archives/1", "packs/1", "archives/3", "packs/3", "packs/4")
		inTrash("after a new one", "archives/3", "packs/3", "packs/4")
		refusedBy(t, "destroy", repo.RuleKeepLast, "archives/4", a.MayDestroy(ctx))
		if since, err := r.HeldSince(ctx); err != nil || since.IsZero() {
			t.Errorf("held since %v, %v", since, err)
		}
		for i := range 4 {
			mustPut(t, other, fmt.Sprintf("archives/other%d", i), "an archive")
		}
		inTrash("after new ones of another principal", "archives/3", "packs/3", "packs/4")
		rows := trash(t, r)
		if _, err := r.Restore(ctx, rows[2].ID, ""); err != nil {
			t.Errorf("restore of what is held, and expired: %v", err)
		}
		mustPut(t, a, "archives/5", "an archive")
		inTrash("after one more", "archives/3", "packs/3")
		mustPut(t, a, "archives/6", "an archive") // 6, 5 and 4 are the last
		inTrash("after as many newer ones")
		remove("archives/6")
		inTrash("after another", "archives/6")
		if _, err := r.LiftGuard(ctx, 3*time.Hour); err != nil {
			t.Fatal(err)
		}
		inTrash("while the guard is lifted")
	})
}

func TestGuardCountsRemovals(t *testing.T) {
	for _, tt := range []struct {
		most repo.MaxRemoved
		of   int // snapshots
		may  int
	}{{repo.MaxRemoved{Count: 3}, 20, 3}, {repo.MaxRemoved{Share: 0.2}, 20, 4}, {repo.MaxRemoved{Share: 0.01}, 20, 1}} {
		t.Run(fmt.Sprint(tt.most), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newGuarded(t, repo.Settings{Guard: repo.Guard{MaxRemoved: tt.most}})
				r := a.Repository()
				for i := range tt.of {
					mustPut(t, a, fmt.Sprintf("archives/%02d", i), "an archive")
				}
				removed := 0
				remove := func(way int) error {
					key := fmt.Sprintf("archives/%02d", removed)
					var err error
					switch way % 3 {
					case 0:
						err = a.Move(ctx, key, key+".del")
						if err == nil {
							err = a.Delete(ctx, key+".del") // is no other removal
						}
					case 1:
						err = a.Delete(ctx, key)
					default:
						_, err = put(a, key, "another")
					}
					if err == nil {
						removed++
					}
					return err
				}
				for d := range 2 {
					if d == 1 && tt.most.Share == 0.2 { // of 18
						tt.may = 3
					}
					for way := range tt.may {
						if err := remove(way); err != nil {
							t.Fatal(err)
						}
						time.Sleep(time.Hour)
					}
					if got, limit, err := r.RemovedSnapshots(); err != nil || got != int64(tt.may) || limit != int64(tt.may) {
						t.Errorf("%d removed of %d, %v; want %d", got, limit, err, tt.may)
					}
					for way := range 3 {
						refused := refusedBy(t, "one more", repo.RuleMaxRemoved, fmt.Sprintf("archives/%02d", removed), remove(way))
						if refused.Until.Before(time.Now()) || refused.Until.After(time.Now().Add(27*time.Hour)) {
							t.Errorf("refused until %v", refused.Until)
						}
					}
					_, err := a.DeleteAll(ctx, []string{"archives/18", "archives/19"})
					if refusedBy(t, "several", repo.RuleMaxRemoved, "archives/19", err); len(list(t, a, "archives", false)) < 10 {
						t.Error("archives are gone")
					}
					time.Sleep(26 * time.Hour)
				}
			})
		})
	}
}

// The count survives a restart.
func TestGuardRemovalsAreStored(t *testing.T) {
	settings := repo.Settings{Quota: -1, Guard: repo.Guard{MaxRemoved: repo.MaxRemoved{Count: 1}}}
	dir := memoryDir(t)
	open := func() *datadir.Set {
		return datadir.Open(datadir.Options{Dir: dir, Settings: func(string) repo.Settings { return settings }})
	}
	s := open()
	if _, err := s.Create(ctx, "r", "borgstore"); err != nil {
		t.Fatal(err)
	}
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	a := r.As(repo.Principal{})
	mustPut(t, a, "archives/1", "one")
	mustPut(t, a, "archives/2", "two")
	if err := errors.Join(a.Delete(ctx, "archives/1"), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = open()
	defer func() { _ = s.Close() }()
	if r, err = s.Get(ctx, "r"); err != nil {
		t.Fatal(err)
	}
	refusedBy(t, "after a restart", repo.RuleMaxRemoved, "archives/2", r.As(repo.Principal{}).Delete(ctx, "archives/2"))
}

// Many remove at once: no more than may be.
func TestGuardOfMany(t *testing.T) {
	a := newGuarded(t, repo.Settings{Guard: repo.Guard{MaxRemoved: repo.MaxRemoved{Count: 5}}})
	done := make(chan error)
	for i := range 20 {
		mustPut(t, a, fmt.Sprintf("archives/%d", i), "an archive")
	}
	for i := range 20 {
		go func() { done <- a.Delete(ctx, fmt.Sprintf("archives/%d", i)) }()
	}
	removed := 0
	for range 20 {
		if <-done == nil {
			removed++
		}
	}
	if left := len(list(t, a, "archives", false)); removed != 5 || left != 15 {
		t.Errorf("%d removed, %d left, want 5 and 15", removed, left)
	}
}

// A version that was moved to a key, under which another was removed before on the same day, is not superseded by that.
func TestMovedVersionsAreNotThinnedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newGuarded(t, repo.Settings{Grace: 30 * day})
		r := a.Repository()
		mustPut(t, a, "packs/real", "what was there for days")
		time.Sleep(2*day - time.Duration(time.Now().Unix()%86400)*time.Second + time.Hour)
		good := time.Now().Truncate(day)
		mustPut(t, a, "packs/x", "another")
		time.Sleep(time.Hour)
		if err := errors.Join(a.Delete(ctx, "packs/x"), a.Move(ctx, "packs/real", "packs/x"), a.Delete(ctx, "packs/x")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * day)
		if _, err := r.Rollback(ctx, repo.RollbackRequest{To: good}, repo.Principal{Name: "root"}, nil); err != nil {
			t.Fatal(err)
		}
		wantContent(t, a, "packs/real", "what was there for days")
	})
}

// Where no grace time is set it is implied by a client that may only add, and stays when that does not come any more.
func TestImpliedGrace(t *testing.T) {
	dir, now := memoryDir(t), newClock()
	settings := repo.Settings{Quota: -1, Grace: -1}
	open := func() (*datadir.Set, *repo.Repository) {
		o := datadir.Options{Dir: dir, Settings: func(string) repo.Settings { return settings }}
		o.Now = now.Now
		s := datadir.Open(o)
		if _, err := s.Create(ctx, "r", "borgstore"); err != nil && !errors.Is(err, repo.ErrExists) {
			t.Fatal(err)
		}
		r, err := s.Get(ctx, "r")
		if err != nil {
			t.Fatal(err)
		}
		return s, r
	}
	s, r := open()
	a := r.As(repo.Principal{Name: "all"})
	mustPut(t, a, "config/manifest", "1")
	mustPut(t, a, "config/manifest", "2")
	if r.Grace() != 0 {
		t.Errorf("a grace time of %v, and nobody has set one", r.Grace())
	}
	r.As(repo.Principal{Permissions: permissions(t, "borgbackup-read-only")})
	if r.Grace() != 0 {
		t.Errorf("a grace time of %v by who may only read", r.Grace())
	}
	restricted := r.As(repo.Principal{Permissions: permissions(t, "borgbackup-no-delete")})
	if r.Grace() != repo.ImpliedGrace {
		t.Errorf("a grace time of %v, want %v", r.Grace(), repo.ImpliedGrace)
	}
	mustPut(t, restricted, "config/manifest", "3")
	if rows := trash(t, r); len(rows) == 0 || rows[len(rows)-1].Expires.Sub(rows[len(rows)-1].At).Round(time.Second) != repo.ImpliedGrace {
		t.Errorf("in the trash %v, want the version that was replaced, for 30 days", rows)
	}
	since, err := r.HistorySince()
	if err != nil || since.IsZero() {
		t.Errorf("history since %v, %v", since, err)
	}
	for _, tt := range []struct{ set, want time.Duration }{{-1, repo.ImpliedGrace}, {0, 0}, {time.Hour, time.Hour}, {-1, repo.ImpliedGrace}} {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		settings.Grace = tt.set
		s, r = open()
		if r.Grace() != tt.want {
			t.Errorf("opened with %v: %v, want %v", tt.set, r.Grace(), tt.want)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// Whatever call of the file system fails, and is the last that is carried out: what was removed is what was counted.
func TestGuardCountsWhatSurvives(t *testing.T) {
	settings := func(string) repo.Settings {
		return repo.Settings{Quota: -1, Guard: repo.Guard{MinAge: day, MaxRemoved: repo.MaxRemoved{Count: 3}}}
	}
	for _, when := range []vfstest.When{vfstest.Before, vfstest.After} {
		for n := 1; ; n++ {
			dir := memoryDir(t)
			f := vfstest.NewFailing(vfs.OS())
			s := datadir.Open(datadir.Options{
				Dir: dir, Environment: repo.Environment{FS: f, Index: index.Options{Database: vfstest.Bolt(t, f)}}, Settings: settings,
			})
			if _, err := s.Create(ctx, "r", "borgstore"); err != nil {
				t.Fatal(err)
			}
			r, err := s.Get(ctx, "r")
			if err != nil {
				t.Fatal(err)
			}
			a := r.As(repo.Principal{})
			for i := range 5 {
				mustPut(t, a, fmt.Sprintf("archives/%d", i), "an archive")
			}
			f.StopAt(n, when, syscall.EIO)
			acknowledged := 0
			for i, err := range []error{a.Delete(ctx, "archives/0"), a.Move(ctx, "archives/1", "archives/1.del"), a.Delete(ctx, "archives/2"), a.Delete(ctx, "archives/3")} {
				if err == nil {
					acknowledged++
				}
				if i == 3 && err == nil {
					t.Fatal("one too many was removed")
				}
			}
			hit := f.Hit()
			_ = s.Close()
			f.Reset()

			s = datadir.Open(datadir.Options{Dir: dir, Settings: settings})
			if r, err = s.Get(ctx, "r"); err != nil {
				t.Fatal(err)
			}
			left := 0
			for _, key := range list(t, r.As(repo.Principal{}), "archives", false) {
				if !strings.HasSuffix(key, ".del") {
					left++
				}
			}
			counted, _, err := r.RemovedSnapshots()
			if err != nil || int64(5-left) != counted || 5-left < acknowledged {
				t.Errorf("call %d: %d of 5 archives are left, %d removals are counted, %v, and %d were acknowledged", n, left, counted, err, acknowledged)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if !hit {
				break
			}
		}
	}
}

// What keep_last holds can be rolled back when the grace time is over, without one that was set, and is not lost with the repository.
func TestGuardKeepsTheLastForARollback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newGuarded(t, repo.Settings{Quota: 10_000, TrashQuota: 1000, Guard: repo.Guard{KeepLast: 3}})
		r := a.Repository()
		mustPut(t, a, "packs/1", "a pack")
		mustPut(t, a, "archives/a", "")
		want := contentsOf(t, a)
		time.Sleep(time.Hour + time.Minute/7)
		good := time.Now().Add(-time.Millisecond)
		if err := errors.Join(a.Delete(ctx, "archives/a"), a.Delete(ctx, "packs/1")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Hour)
		refusedBy(t, "destroy", repo.RuleKeepLast, "archives/a", a.MayDestroy(ctx))
		since, err := r.HeldSince(ctx)
		if err != nil || !since.After(good) {
			t.Errorf("held since %v, %v; want it after %v", since, err, good)
		}
		for _, to := range []time.Time{good, since.Truncate(time.Second)} {
			if _, err := r.Rollback(ctx, repo.RollbackRequest{To: to}, repo.Principal{Name: "root"}, nil); err != nil {
				t.Fatal(err)
			}
			if got := contentsOf(t, a); !maps.Equal(got, want) {
				t.Errorf("after a rollback to %v: %v, want %v", to, got, want)
			}
		}
		// And what is held counts: not even a key that every backup replaces fills the disk.
		if err := a.Delete(ctx, "archives/a"); err != nil {
			t.Fatal(err)
		}
		for i := range 200 {
			_, _ = put(a, "config/manifest", body("m", 100+i))
			time.Sleep(time.Minute)
		}
		if held := r.Usage().TrashBytes; held > 1000+300 {
			t.Errorf("the trash holds %d bytes, and may hold 1000", held)
		}
	})
}

// What is held, and has expired, does not keep other things in a trash that is beyond its bound.
func TestHeldRowsDoNotKeepOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := repo.Settings{Quota: 10_000, TrashQuota: 500, Grace: 30 * day, Guard: repo.Guard{KeepLast: 1}}
		a := newGuarded(t, settings)
		r := a.Repository()
		for i := range 10 {
			mustPut(t, a, fmt.Sprintf("packs/%d", i), body("p", 100))
		}
		for i := range 10 {
			if err := a.Delete(ctx, fmt.Sprintf("packs/%d", i)); err != nil {
				t.Fatal(err)
			}
		}
		mustPut(t, a, "archives/a", body("a", 100))
		settings.Grace = time.Hour // what is removed now expires first
		r.Configure(settings)
		time.Sleep(time.Minute)
		if err := a.Delete(ctx, "archives/a"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * day)
		if held := r.Usage().TrashBytes; held > 500 {
			t.Errorf("the trash holds %d bytes, and may hold 500", held)
		}
		if rows := trash(t, r); len(rows) == 0 || rows[0].Key != "archives/a" {
			t.Errorf("in the trash %v, want what is held", rows)
		}
	})
}

// For how long nothing gives way to the bound of the trash is a setting.
func TestProtect(t *testing.T) {
	for _, tt := range []struct {
		protect time.Duration
		goes    bool
	}{{0, true}, {2 * day, true}, {5 * day, false}} {
		synctest.Test(t, func(t *testing.T) {
			a := newGuarded(t, repo.Settings{Quota: 10_000, TrashQuota: 1000, Grace: 30 * day, Protect: tt.protect})
			mustPut(t, a, "config/x", body("a", 600))
			mustPut(t, a, "config/x", body("b", 600))
			time.Sleep(3 * day)
			_, err := put(a, "config/x", body("c", 600))
			if tt.goes && err != nil {
				t.Errorf("%v: what was removed 3 days ago does not give way: %v", tt.protect, err)
			} else if !tt.goes {
				refusedForTrash(t, tt.protect.String(), err)
			}
		})
	}
}

// What is kept after compactions gives way to a short disk, but not before min_age is over.
func TestGuardKeepsForAShortDisk(t *testing.T) {
	for _, tt := range []struct {
		minAge time.Duration
		gives  bool
	}{{0, true}, {7 * day, false}} {
		a := newGuarded(t, repo.Settings{Guard: repo.Guard{MinAge: tt.minAge}})
		if got := repo.GivesUpKept(a.Repository()); got != tt.gives {
			t.Errorf("min_age %v: what is kept gives way: %v, want %v", tt.minAge, got, tt.gives)
		}
	}
}

// TestGuardNamesTheCommand: as a shell reads it, whatever the name of the repository.
func TestGuardNamesTheCommand(t *testing.T) {
	err := &repo.GuardError{Rule: repo.RuleKeepLast, Repository: "alice/mein büro"}
	if want := "packhouse guard lift 'alice/mein büro' --for 1h"; !strings.Contains(err.Error(), want) {
		t.Errorf("got %q, want %q in it", err, want)
	}
}
