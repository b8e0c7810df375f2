package compact_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/compact"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/policy"
)

// repack is a plan that keeps the middle of a and b, and deletes both and c.
func repack(t testing.TB) []compact.Operation {
	sha := compact.Naming{Algorithm: algorithm(t, "sha256"), Prefix: "packs", Levels: 1}
	return []compact.Operation{
		{Ranges: []compact.Range{{Key: "a", Offset: 1, Length: 3}}, Naming: sha, Deletes: []string{"a"}},
		{Ranges: []compact.Range{{Key: "b", Offset: 2, Length: 3}, {Key: "keep", Offset: 0, Length: 2}}, Naming: sha, Deletes: []string{"b"}},
		{Deletes: []string{"c", "never-was"}},
		{Ranges: []compact.Range{{Key: "keep", Offset: 0, Length: 4}}, Target: "named"},
	}
}

func fill(p *place) {
	p.put("a", []byte("aAAAa"))
	p.put("b", []byte("bbBBB"))
	p.put("c", []byte("ccccc"))
	p.put("keep", []byte("keep"))
}

func TestReplay(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(t *testing.T, p *place) // after the first run
		err    error                        // of the second; nil: the same result
		fresh  bool                         // the second is a run of its own
	}{
		{"at once", func(*testing.T, *place) {}, nil, false},
		{"after a restart", func(_ *testing.T, p *place) { p.reopen() }, nil, false},
		{"source deleted since", func(t *testing.T, p *place) { p.delete("keep") }, nil, false},
		{"output deleted since", func(t *testing.T, p *place) { p.delete("named") }, repo.ErrNotFound, true},
		{"output replaced since", func(t *testing.T, p *place) { p.put("named", []byte("other")) }, repo.ErrNotFound, true},
		{"source replaced since", func(t *testing.T, p *place) { p.put("keep", []byte("KEEP")) }, repo.ErrNotFound, true},
		{"deleted item is back", func(t *testing.T, p *place) { p.put("c", []byte("new")) }, repo.ErrNotFound, true},
		{"everything is back", func(t *testing.T, p *place) { fill(p) }, nil, true},
		{"kept no longer", func(t *testing.T, p *place) { p.later(8 * 24 * time.Hour) }, repo.ErrNotFound, true},
		{"kept for a week", func(t *testing.T, p *place) { p.later(7*24*time.Hour - time.Minute) }, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, nil)
			fill(p)
			first := p.mustRun(repack(t)...)
			before := p.contents()
			c.change(t, p)
			changed := p.contents()
			second, err := p.run(repack(t)...)
			if !errors.Is(err, c.err) || c.err == nil && err != nil {
				t.Fatalf("second run: got %v, want %v", err, c.err)
			}
			if err != nil {
				if got := p.contents(); fmt.Sprint(got) != fmt.Sprint(changed) {
					t.Errorf("a refused run changed %q to %q", changed, got)
				}
				return
			}
			if c.fresh {
				if fmt.Sprint(p.contents()) != fmt.Sprint(before) {
					t.Errorf("contents: got %q, want %q", p.contents(), before)
				}
				if !second[0].Existed || !second[1].Existed {
					t.Errorf("second run: got %+v, want outputs that existed", second)
				}
				return
			}
			if fmt.Sprint(first) != fmt.Sprint(second) {
				t.Errorf("second run: got %+v, want %+v", second, first)
			}
		})
	}
}

// A result belongs to its principal, and to the permissions it was made with.
func TestReplayIsForThePrincipal(t *testing.T) {
	p := newPlace(t, nil)
	fill(p)
	p.mustRun(repack(t)...)
	other := p.repo.As(repo.Principal{Name: "other"})
	if _, err := p.runAs(other, repack(t)...); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("another principal: got %v, want ErrNotFound", err)
	}
	nothing, err := policy.New(map[string]string{})
	if err != nil {
		t.Fatal(err)
	}
	same := p.repo.As(repo.Principal{Name: "tester", Permissions: nothing})
	if _, err := p.runAs(same, repack(t)...); !errors.Is(err, repo.ErrDenied) {
		t.Errorf("without its former permissions: got %v, want ErrDenied", err)
	}
}

// Identical plans at once are one execution: the bytes are read once.
func TestJoin(t *testing.T) {
	p := newPlace(t, func(_ *datadir.Options, o *compact.Options) { o.Rate = 2 << 20 })
	body := strings.Repeat("x", 3<<20)
	p.put("a", []byte(body))
	op := compact.Operation{Ranges: []compact.Range{{Key: "a", Offset: 0, Length: 3<<20 - 1}}, Target: "b", Deletes: []string{"a"}}
	var wg sync.WaitGroup
	results := make([][]compact.Outcome, 4)
	for i := range results {
		wg.Go(func() {
			var err error
			if results[i], err = p.run(op); err != nil {
				t.Errorf("run %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	for _, r := range results {
		if fmt.Sprint(r) != fmt.Sprint(results[0]) {
			t.Errorf("results differ: %+v and %+v", r, results[0])
		}
	}
	jobs, err := p.engine.Jobs(context.Background(), p.repo)
	if err != nil || len(jobs) != 1 || jobs[0].Progress.Read != 3<<20-1 || jobs[0].State != compact.Done {
		t.Errorf("jobs: got %+v, %v, want one that read the source once", jobs, err)
	}
	p.wantKeys("b")
}

// A caller that goes away leaves the run alone; its retry gets the result.
func TestRunOutlivesItsCaller(t *testing.T) {
	p := newPlace(t, func(_ *datadir.Options, o *compact.Options) { o.Rate = 2 << 20 })
	p.put("a", make([]byte, 3<<20))
	op := compact.Operation{Ranges: []compact.Range{{Key: "a", Offset: 0, Length: 3<<20 - 1}}, Target: "b", Deletes: []string{"a"}}
	plan := p.engine.NewPlan(compact.Limits{})
	if err := plan.Add(op); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := p.engine.Run(ctx, p.a, plan, nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("run: got %v, want context.Canceled", err)
	}
	if err := plan.Close(); err != nil {
		t.Fatal(err)
	}
	got := p.mustRun(op)
	if !slices.Equal(got[0].Deleted, []bool{true}) {
		t.Errorf("retry: got %+v", got)
	}
	jobs, err := p.engine.Jobs(context.Background(), p.repo)
	if err != nil || len(jobs) != 1 || jobs[0].Progress.Read != 3<<20-1 {
		t.Errorf("jobs: got %+v, %v, want one", jobs, err)
	}
	p.wantKeys("b")
}

// A client whose answer broke off because the plan failed late sends it again by itself: it is told why, and
// nothing is read again. So it is after a cancellation. A minute later the plan is a new request.
func TestRefusalIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t, limited)
		body := append(make([]byte, 0, 8<<20), "VGERPACK\x01"...)
		body = binary.LittleEndian.AppendUint32(body, 7<<20)
		body = append(body, make([]byte, 7<<20)...)
		body = append(body, 2, 0, 0, 0, 'x', 'y')
		p.put("pack", body)
		op := compact.Operation{Frame: compact.VGerPack, Target: "t", Ranges: []compact.Range{
			{Key: "pack", Offset: 13, Length: 7 << 20}, {Key: "pack", Offset: 13 + 7<<20 + 4, Length: 1}}}
		took := func() (time.Duration, error) {
			start := time.Now()
			_, err := p.run(op)
			return time.Since(start), err
		}
		first, err := took()
		if !errors.Is(err, repo.ErrInvalid) || first < 5*time.Second {
			t.Fatalf("first run: got %v after %s", err, first)
		}
		if again, err2 := took(); fmt.Sprint(err2) != fmt.Sprint(err) || again > 0 {
			t.Errorf("retry: got %v after %s, want at once %v", err2, again, err)
		}
		time.Sleep(time.Minute)
		if again, err := took(); !errors.Is(err, repo.ErrInvalid) || again < first/2 {
			t.Errorf("a minute later: got %v after %s, want a run of its own", err, again)
		}

		op.Ranges[1].Length = 2
		ended := make(chan error)
		go func() {
			_, err := p.run(op)
			ended <- err
		}()
		time.Sleep(2 * time.Second)
		jobs, err := p.engine.Jobs(t.Context(), p.repo)
		if err != nil || len(jobs) != 1 {
			t.Fatalf("jobs: got %+v, %v", jobs, err)
		}
		if _, err := p.engine.Cancel(t.Context(), p.repo, jobs[0].ID); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, repo.ErrDenied) {
			t.Errorf("call: got %v, want ErrDenied", err)
		}
		if _, err := p.run(op); !errors.Is(err, repo.ErrDenied) {
			t.Errorf("retry: got %v, want ErrDenied", err)
		}
		// Who submits it as a job means it.
		if done, err := p.engine.Await(t.Context(), p.repo, p.submit("now", op).ID); err != nil || done.State != compact.Done {
			t.Errorf("job: got %+v, %v", done, err)
		}
		p.mustRun(op)
	})
}

func TestSubmit(t *testing.T) {
	p := newPlace(t, nil)
	fill(p)
	ctx := context.Background()
	plan := p.engine.NewPlan(compact.Limits{})
	defer plan.Close()
	for _, op := range repack(t) {
		if err := plan.Add(op); err != nil {
			t.Fatal(err)
		}
	}
	tomorrow := time.Now().Add(24 * time.Hour).Format(time.RFC3339)
	job, err := p.engine.Submit(ctx, p.a, plan, tomorrow, false)
	if err != nil || job.State != compact.Queued {
		t.Fatalf("submit: got %+v, %v", job, err)
	}
	if same, err := p.engine.Submit(ctx, p.a, plan, "now", false); err != nil || same.ID != job.ID || same.State != compact.Queued {
		t.Errorf("submit again: got %+v, %v, want the queued job", same, err)
	}
	p.reopen()
	if got, err := p.engine.Cancel(ctx, p.repo, job.ID); err != nil || got.State != compact.Cancelled {
		t.Errorf("cancel: got %+v, %v", got, err)
	}
	p.wantKeys("a", "b", "c", "keep")
	if job, err = p.engine.Submit(ctx, p.a, plan, "now", false); err != nil {
		t.Fatal(err)
	}
	done, err := p.engine.Await(ctx, p.repo, job.ID)
	if err != nil || done.State != compact.Done || done.Progress.Freed != 15 || done.When != "now" {
		t.Errorf("await: got %+v, %v, want done with 15 bytes freed", done, err)
	}
	if again, err := p.engine.Submit(ctx, p.a, plan, "now", false); err != nil || again.State != compact.Done {
		t.Errorf("submit when done: got %+v, %v", again, err)
	}
	p.reopen()
	var outcomes []compact.Outcome
	err = p.engine.Outcomes(p.repo, job.ID, func(_ int, o compact.Outcome) error {
		outcomes = append(outcomes, o)
		return nil
	})
	if err != nil || fmt.Sprint(outcomes) != fmt.Sprint(wantOutcomes(t)) {
		t.Errorf("outcomes: got %+v, %v, want %+v", outcomes, err, wantOutcomes(t))
	}
	p.later(8 * 24 * time.Hour)
	if err := p.engine.Prune(ctx, p.repo); err != nil {
		t.Fatal(err)
	}
	if names, err := p.repo.Files(repo.JobsFolder); err != nil || len(names) != 0 {
		t.Errorf("plans: got %q, %v, want none", names, err)
	}
	if jobs, err := p.engine.Jobs(ctx, p.repo); err != nil || len(jobs) != 0 {
		t.Errorf("jobs: got %+v, %v, want none", jobs, err)
	}
}

// onPlanFile calls meanwhile, once, while the plan of a job is being stored.
type onPlanFile struct {
	vfs.FS
	meanwhile *func()
}

func (f onPlanFile) Create(name string) (vfs.File, error) {
	if meanwhile := *f.meanwhile; meanwhile != nil && strings.Contains(name, "/jobs/") {
		*f.meanwhile = nil
		meanwhile()
	}
	return f.FS.Create(name)
}

// A client's call that is carried out while the same plan is being queued keeps its result, whatever the row said before.
func TestQueueingKeepsResultOfCall(t *testing.T) {
	for _, before := range []compact.State{"", compact.Cancelled} {
		t.Run("row before: "+string(before), func(t *testing.T) {
			var meanwhile func()
			p := newPlace(t, func(so *datadir.Options, _ *compact.Options) { so.FS = onPlanFile{vfs.OS(), &meanwhile} })
			fill(p)
			if before == compact.Cancelled {
				job := p.submit("2099-01-01T00:00:00Z", repack(t)...)
				if _, err := p.engine.Cancel(context.Background(), p.repo, job.ID); err != nil {
					t.Fatal(err)
				}
			}
			var first []compact.Outcome
			meanwhile = func() { first = p.mustRun(repack(t)...) }
			job := p.submit("now", repack(t)...)
			if first == nil {
				t.Fatal("nothing was carried out meanwhile")
			}
			if job, err := p.engine.Await(context.Background(), p.repo, job.ID); err != nil || job.State != compact.Done {
				t.Errorf("job: got %+v, %v, want it done", job, err)
			}
			if again := p.mustRun(repack(t)...); fmt.Sprint(again) != fmt.Sprint(first) {
				t.Errorf("retry: got %+v, want %+v", again, first)
			}
		})
	}
}
