package repo_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// newVGer makes a repository whose compactions have two halves, and lets a client at it.
func newVGer(t testing.TB, change func(*datadir.Options)) *repo.Access {
	t.Helper()
	r, err := newSet(t, change).Create(context.Background(), "r", "vger")
	if err != nil {
		t.Fatal(err)
	}
	return r.As(repo.Principal{Name: "laptop", Address: "192.0.2.1"})
}

// openPlan carries out a plan that makes output of sources, which stay; it is answered.
func openPlan(t *testing.T, a *repo.Access, job, output string, sources ...string) {
	t.Helper()
	c, err := a.BeginCompaction(job, true)
	if err != nil {
		t.Fatal(err)
	}
	b := repo.Batch{Puts: []repo.BatchPut{{Upload: upload(t, a, output, 1, nil)}}, Open: &repo.OpenPlan{Compaction: c, Sources: sources}}
	if _, err := a.CommitOpen(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	c.Answering()
}

// Open plans are shown with who has them, the oldest first and no more than asked for; when they are complete, what is
// kept after them.
func TestPlansAreShown(t *testing.T) {
	a := newVGer(t, nil)
	r := a.Repository()
	for n := range 6 {
		mustPut(t, a, fmt.Sprintf("packs/%d", n), strings.Repeat("x", 10))
	}
	mustPut(t, a, "index", "1")
	if _, ok, err := r.PlanOf("a"); ok || err != nil {
		t.Errorf("before any plan: got %v, %v", ok, err)
	}
	if plans, err := r.OldestPlans(3); len(plans) != 0 || err != nil {
		t.Errorf("before any plan: got %v, %v", plans, err)
	}
	a.IndexRead("index", a.ReadTime())
	openPlan(t, a, "free", "packs/n0", "packs/0")
	lock := mustPut(t, a, "locks/l.json", "{}").Item.Created.Truncate(time.Millisecond)
	openPlan(t, a, "a", "packs/n1", "packs/1", "packs/2")
	openPlan(t, a, "b", "packs/n2", "packs/3")
	openPlan(t, a, "a", "packs/n3", "packs/4", "packs/1") // as under another lock: packs/1 is its now

	jobs := func(plans []index.Plan) (all []string) {
		for _, p := range plans {
			all = append(all, p.Job)
		}
		return all
	}
	for most, want := range map[int]string{0: "[]", 1: "[free]", 3: "[free a b]", 9: "[free a b a]"} {
		if plans, err := r.OldestPlans(most); err != nil || fmt.Sprint(jobs(plans)) != want {
			t.Errorf("%d plans: got %v, %v, want %s", most, jobs(plans), err, want)
		}
	}
	p, ok, err := r.PlanOf("a")
	if err != nil || !ok || p.ID != 4 || p.Sources != 3 || p.Bytes != 30 || p.Principal != "laptop" || p.Address != "192.0.2.1" {
		t.Errorf("plans of a: got %+v, %v, %v", p, ok, err)
	}
	if id, since := repo.LockName(p.Lock); id != "locks/l.json" || !since.Equal(lock) {
		t.Errorf("its lock: got %q since %s, want locks/l.json since %s", id, since, lock)
	}
	if p, _, err = r.PlanOf("free"); err != nil || p.Lock != "" {
		t.Errorf("without a lock: got %+v, %v", p, err)
	}
	if u := r.Usage(); u.Plans != 4 || u.OpenBytes != 50 || u.KeptItems != 0 {
		t.Errorf("usage: got %+v", u)
	}

	mustPut(t, a, "index", "2")
	if _, ok, err := r.PlanOf("b"); ok || err != nil {
		t.Errorf("complete: got %v, %v", ok, err)
	}
	var kept []string
	if err := r.EachKept(func(k index.Kept) error { kept = append(kept, k.Key); return nil }); err != nil {
		t.Fatal(err)
	}
	if u := r.Usage(); int64(len(kept)) != u.KeptItems || len(kept) == 0 {
		t.Errorf("kept: got %v, want %d", kept, u.KeptItems)
	}
	stop := errors.New("stop")
	if err := r.EachKept(func(index.Kept) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("an error of the caller: got %v", err)
	}
	freed, err := r.EmptyKept(context.Background())
	if want := (repo.Emptied{Items: int64(len(kept)), Bytes: 10 * int64(len(kept))}); err != nil || freed != want {
		t.Errorf("given back: got %+v, %v, want %+v", freed, err, want)
	}
	if again, err := r.EmptyKept(context.Background()); err != nil || again != (repo.Emptied{}) {
		t.Errorf("again: got %+v, %v", again, err)
	}
}

func TestLockName(t *testing.T) {
	at := time.UnixMilli(1764370000123)
	for _, test := range []struct {
		name, id string
		since    time.Time
	}{
		{"", "", time.Time{}},
		{"locks/a.json since 1764370000123", "locks/a.json", at},
		{"locks/a since 7 since 1764370000123", "locks/a since 7", at},
		{"ttl host-1 since 1764370000123456", "host-1", at.Add(456 * time.Microsecond)},
		{"ttl ttl since 1764370000123456", "ttl", at.Add(456 * time.Microsecond)},
		{"locks/a", "locks/a", time.Time{}},
		{"locks/a since then", "locks/a since then", time.Time{}},
	} {
		if id, since := repo.LockName(test.name); id != test.id || !since.Equal(test.since) {
			t.Errorf("%q: got %q, %s; want %q, %s", test.name, id, since, test.id, test.since)
		}
	}
}
