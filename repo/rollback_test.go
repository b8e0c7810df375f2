package repo_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"packhouse/repo"
	"packhouse/repo/datadir"
)

// withHistory gives a set a grace time, a clock and a log for small items.
func withHistory(clock func() time.Time) func(*datadir.Options) {
	return func(o *datadir.Options) {
		inSegments(o)
		o.Now = clock
		withTrash(o)
	}
}

// contentsOf is what a client can read: content by key.
func contentsOf(t *testing.T, a *repo.Access) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, key := range list(t, a, "", true) {
		if strings.HasSuffix(key, "/") {
			continue
		}
		content, err := get(a, key)
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		all[key] = content
	}
	return all
}

func wantContents(t *testing.T, what string, a *repo.Access, want map[string]string) {
	t.Helper()
	got := contentsOf(t, a)
	if maps.Equal(got, want) {
		return
	}
	for key := range want {
		if got[key] != want[key] {
			t.Errorf("%s: %s: got %.20q, want %.20q", what, key, got[key], want[key])
		}
	}
	for key := range got {
		if _, there := want[key]; !there {
			t.Errorf("%s: %s is there", what, key)
		}
	}
}

// TestRollbackModel changes items at random, by small and large ones, moves and deletions, and goes back to a random moment; then it undoes
// that; then on from there, so that later rollbacks reach over earlier ones.
func TestRollbackModel(t *testing.T) {
	for seed := range uint64(12) {
		random := rand.New(rand.NewPCG(seed, 7))
		clock := fixedClock(time.UnixMilli(1_790_000_000_000))
		s := newSet(t, func(o *datadir.Options) {
			withHistory(clock.Now)(o)
			o.TableMemory = int(seed%3) * 300
		})
		r := create(t, s, "r")
		a := r.As(repo.Principal{Name: "alice"})
		clock.Advance(time.Second)
		type moment struct {
			at    time.Time
			state map[string]string
		}
		now := map[string]string{}
		moments := []moment{{clock.Now(), maps.Clone(now)}}
		mark := func() {
			clock.Advance(time.Second)
			moments = append(moments, moment{clock.Now(), maps.Clone(now)})
			clock.Advance(time.Second)
		}
		key := func() string { return fmt.Sprintf("d%d/k%d", random.IntN(3), random.IntN(4)) }
		for i := range 150 {
			clock.Advance(time.Second)
			k := key()
			switch _, there := now[k]; random.IntN(10) {
			case 0, 1, 2, 3:
				size := 10
				if random.IntN(4) == 0 {
					size = 200 << 10
				}
				now[k] = strings.Repeat(fmt.Sprintf("%d.%d,", seed, i), size/5)
				mustPut(t, a, k, now[k])
			case 4, 5:
				if there {
					if err := a.Delete(ctx, k); err != nil {
						t.Fatal(err)
					}
					delete(now, k)
				}
			case 6, 7:
				if to := key(); there && to != k {
					if err := a.Move(ctx, k, to); err != nil {
						t.Fatal(err)
					}
					now[to] = now[k]
					delete(now, k)
				}
			case 8:
				mark()
			default:
				if i%3 > 0 {
					continue
				}
				before := moment{clock.Now(), maps.Clone(now)}
				clock.Advance(time.Second)
				to := moments[random.IntN(len(moments))]
				plan, err := r.PlanRollback(ctx, repo.RollbackRequest{To: to.at})
				if err != nil {
					t.Fatal(err)
				}
				done, err := r.Rollback(ctx, repo.RollbackRequest{To: to.at, Expect: plan.Last}, repo.Principal{Name: "root"}, nil)
				if err != nil || done.Returns != plan.Returns || done.Replaces != plan.Replaces || done.Removes != plan.Removes {
					t.Fatalf("rollback: %+v, %v; the plan %+v", done, err, plan)
				}
				wantContents(t, fmt.Sprintf("seed %d, step %d", seed, i), a, to.state)
				clock.Advance(time.Second)
				if random.IntN(2) == 0 {
					if _, err := r.Rollback(ctx, repo.RollbackRequest{To: before.at}, repo.Principal{}, nil); err != nil {
						t.Fatal(err)
					}
					wantContents(t, fmt.Sprintf("seed %d, step %d, undone", seed, i), a, before.state)
				} else {
					now = maps.Clone(to.state)
				}
				checkAll(t, s)
			}
			if t.Failed() {
				return
			}
		}
	}
}

// TestRollbackOfOne undoes what one principal did, and nobody after it.
func TestRollbackOfOne(t *testing.T) {
	clock := fixedClock(time.UnixMilli(1_790_000_000_000))
	s := newSet(t, withHistory(clock.Now))
	r := create(t, s, "r")
	as := func(name string) *repo.Access {
		clock.Advance(time.Second)
		return r.As(repo.Principal{Name: name, Address: "192.0.2.7"})
	}
	for _, key := range []string{"kept", "spoiled", "both", "thrice", "moved", "deleted"} {
		mustPut(t, as("alice"), key, "by alice")
	}
	clock.Advance(time.Second)
	to := clock.Now()
	mustPut(t, as("mallory"), "spoiled", "x")
	mustPut(t, as("mallory"), "spoiled", "y")
	mustPut(t, as("mallory"), "both", "x")
	mustPut(t, as("alice"), "both", "by alice again")
	mustPut(t, as("mallory"), "thrice", "x")
	mustPut(t, as("alice"), "thrice", "by alice again")
	mustPut(t, as("mallory"), "thrice", "y")
	mustPut(t, as("mallory"), "new", "x")
	mustPut(t, as("alice"), "alices", "new")
	if err := errors.Join(as("mallory").Move(ctx, "moved", "elsewhere"), as("mallory").Delete(ctx, "deleted")); err != nil {
		t.Fatal(err)
	}
	mustPut(t, as("mallory"), "deleted/in/its/place", "x") // whose directories must not stand in the way
	clock.Advance(time.Second)
	mallory := "mallory"
	plan, err := r.Rollback(ctx, repo.RollbackRequest{To: to, Principal: &mallory}, repo.Principal{Name: "root"}, nil)
	if err != nil || plan.Returns.Items != 2 || plan.Replaces.Items != 2 || plan.Removes.Items != 3 || plan.Changes != 9 {
		t.Errorf("rollback: %+v, %v", plan, err)
	}
	wantContents(t, "afterwards", as("alice"), map[string]string{
		"kept": "by alice", "spoiled": "by alice", "both": "by alice again", "thrice": "by alice again", "moved": "by alice", "deleted": "by alice", "alices": "new",
	})
	checkAll(t, s)
}

// watched calls a function whenever somebody asks whether it has ended.
type watched struct {
	context.Context
	asked func()
}

func (c watched) Err() error {
	c.asked()
	return c.Context.Err()
}

// TestRollbackRefused: a moment that cannot be reached changes nothing, and the refusal says what can be.
func TestRollbackRefused(t *testing.T) {
	clock := fixedClock(time.UnixMilli(1_790_000_000_000))
	s := newSet(t, func(o *datadir.Options) { withHistory(clock.Now)(o); o.TableMemory = 150 })
	r := create(t, s, "r")
	a := r.As(repo.Principal{})
	began := clock.Now()
	step := func() time.Time { clock.Advance(time.Minute); return clock.Now() }
	var moments []time.Time
	for i := range 4 {
		moments = append(moments, step())
		step()
		mustPut(t, a, "x", fmt.Sprint("version ", i))
		mustPut(t, a, fmt.Sprint("y", i), "y")
	}
	after := step()
	for what, to := range map[string]time.Time{"before the history": began.Add(-time.Second), "the future": after.Add(time.Hour)} {
		if _, err := r.PlanRollback(ctx, repo.RollbackRequest{To: to}); !errors.Is(err, repo.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", what, err)
		}
	}
	// The version that was there between the second and the third put is gone.
	rows := trash(t, r)
	if len(rows) != 3 {
		t.Fatalf("trash: %+v", rows)
	}
	if err := repo.PurgeRow(r, rows[1].ID); err != nil {
		t.Fatal(err)
	}
	before := contentsOf(t, a)
	plan, err := r.PlanRollback(ctx, repo.RollbackRequest{To: moments[2]})
	if err != nil || plan.Lost != 1 || plan.LostKeys[0].Key != "x" {
		t.Fatalf("plan: %+v, %v", plan, err)
	}
	if plan.Before.Before(moments[1]) || !plan.Before.Before(moments[2]) || plan.After.Before(moments[2]) || !plan.After.Before(moments[3]) {
		t.Errorf("next to %v: %v and %v", moments[2], plan.Before, plan.After)
	}
	lost := (*repo.LostError)(nil)
	served := false // in the end of the call
	watching := watched{ctx, func() { served = r.Available() == nil }}
	if _, err := r.Rollback(watching, repo.RollbackRequest{To: moments[2]}, repo.Principal{}, nil); !errors.As(err, &lost) || !errors.Is(err, repo.ErrInvalid) {
		t.Errorf("rollback: got %v, want a LostError", err)
	}
	if !served {
		t.Error("clients are refused while another moment is looked for")
	}
	wantContents(t, "after the refusals", a, before)
	if _, err := r.Rollback(ctx, repo.RollbackRequest{To: plan.Before, Expect: plan.Last + 1}, repo.Principal{}, nil); !errors.Is(err, repo.ErrConflict) {
		t.Errorf("another history than expected: got %v, want ErrConflict", err)
	}
	for _, near := range []time.Time{plan.After, plan.Before} {
		if _, err := r.Rollback(ctx, repo.RollbackRequest{To: near}, repo.Principal{}, nil); err != nil {
			t.Errorf("rollback to %v: %v", near, err)
		}
		if got, err := get(a, "x"); err != nil || !strings.HasPrefix(got, "version ") {
			t.Errorf("x: got %q, %v", got, err)
		}
		step()
	}
	// In part.
	if _, err := r.Rollback(ctx, repo.RollbackRequest{To: moments[2], Partial: true}, repo.Principal{}, nil); err != nil {
		t.Error(err)
	}
	wantContents(t, "in part", a, map[string]string{"x": "version 0", "y0": "y", "y1": "y"})
	checkAll(t, s)
}

// TestHistorySince: what was changed without a grace time cannot be undone, and nothing from before that.
func TestHistorySince(t *testing.T) {
	clock := fixedClock(time.UnixMilli(1_790_000_000_000))
	s := newSet(t, withHistory(clock.Now))
	r := create(t, s, "r")
	a := r.As(repo.Principal{})
	grace := func(d time.Duration) {
		clock.Advance(time.Minute)
		r.Configure(repo.Settings{Quota: -1, Grace: d})
		clock.Advance(time.Minute)
	}
	possible := func(to time.Time) bool {
		_, err := r.PlanRollback(ctx, repo.RollbackRequest{To: to})
		if err != nil && !errors.Is(err, repo.ErrInvalid) {
			t.Error(err)
		}
		return err == nil
	}
	grace(time.Hour)
	first := clock.Now()
	if !possible(first) {
		t.Error("a moment after the beginning is refused")
	}
	grace(0)
	if possible(clock.Now()) {
		t.Error("a rollback is possible where nothing is recorded")
	}
	mustPut(t, a, "x", "x")
	grace(2 * time.Hour)
	if possible(first) {
		t.Error("a rollback over changes that were not recorded is possible")
	}
	second := clock.Now()
	clock.Advance(time.Second)
	mustPut(t, a, "x", "y")
	if !possible(second) {
		t.Error("a moment after the second beginning is refused")
	}
	// What was forgotten under a shorter grace time does not come back with a longer one.
	grace(time.Minute)
	clock.Advance(time.Hour)
	if err := repo.ForgetChanges(r); err != nil {
		t.Fatal(err)
	}
	grace(24 * time.Hour)
	if possible(second) {
		t.Error("a rollback over forgotten changes is possible")
	}
}

// TestRollbackIsResumed: one that is more than a transaction is cut at each of its parts, as by kill -9; the next start completes it, and serves
// nobody before that. While one is carried out clients are refused.
func TestRollbackIsResumed(t *testing.T) {
	const keys = 2600
	clock := fixedClock(time.UnixMilli(1_790_000_000_000))
	dir := memoryDir(t)
	withFiles := func(o *datadir.Options) {
		withHistory(clock.Now)(o)
		o.TableMemory = 50_000
	}
	s := newSet(t, func(o *datadir.Options) { withFiles(o); o.Dir = dir })
	r := create(t, s, "r")
	a := r.As(repo.Principal{})
	want := make(map[string]string)
	for i := range keys {
		key := fmt.Sprintf("d%d/%04d", i%7, i)
		want[key] = key
		mustPut(t, a, key, key)
	}
	clock.Advance(time.Second)
	to := clock.Now()
	clock.Advance(time.Second)
	i := 0
	for key := range want {
		var err error
		switch i++; i % 3 {
		case 0:
			_, err = put(a, key, "spoiled")
		case 1:
			err = a.Delete(ctx, key)
		default:
			err = a.Move(ctx, key, "moved/"+key)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	clock.Advance(time.Second)
	var copies []string
	_, err := r.Rollback(ctx, repo.RollbackRequest{To: to}, repo.Principal{}, func(done, total int64) {
		if _, err := s.Get(ctx, "r"); !errors.Is(err, repo.ErrBusy) {
			t.Errorf("get: got %v, want ErrBusy", err)
		}
		if _, err := put(a, "d0/new", "new"); !errors.Is(err, repo.ErrBusy) {
			t.Errorf("put: got %v, want ErrBusy", err)
		}
		if done < total {
			cut := filepath.Join(memoryDir(t), "cut")
			if err := os.CopyFS(cut, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			copies = append(copies, cut)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	wantContents(t, "uncut", a, want)
	if len(copies) < 2 {
		t.Fatalf("it was cut %d times only", len(copies))
	}
	for i, cut := range copies {
		if left, err := filepath.Glob(filepath.Join(cut, "r", "*sorted*")); err != nil || len(left) > 0 {
			t.Errorf("cut %d: the directory has %v (%v)", i, left, err)
		}
		s := newSet(t, func(o *datadir.Options) { withFiles(o); o.Dir = cut })
		waitFor(t, "the rest of the rollback", func() bool {
			r, err = s.Get(ctx, "r")
			if err != nil && !errors.Is(err, repo.ErrBusy) {
				t.Fatal(err)
			}
			return err == nil
		})
		wantContents(t, fmt.Sprint("cut ", i), r.As(repo.Principal{}), want)
		checkAll(t, s)
	}
}

// TestCloseWithLeftRollback: a repository can be closed whose rollback did not come to its end, whatever ends first.
func TestCloseWithLeftRollback(t *testing.T) {
	for _, before := range []bool{false, true} {
		for range 10 { // a goroutine that could go on or end does either
			s := newSet(t, withHistory(time.Now))
			r := create(t, s, "r")
			if !repo.LeaveRollback(r, before) {
				t.Fatalf("before %v: the trash is held for good: Close would wait for its reclaimer for ever", before)
			}
			if !before && !errors.Is(r.Available(), repo.ErrBusy) {
				t.Error("a repository is served although a rollback is left")
			}
		}
	}
}
