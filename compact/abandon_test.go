package compact_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"packhouse/compact"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// A job whose repository is moved away below it ends without a trace in the engine. Where the repository is opened
// next, it starts over.
func TestAbandonedJobStartsOver(t *testing.T) {
	p := newFixture(t, func(so *datadir.Options, o *compact.Options) { o.Rate = 1 << 20 })
	p.so.GaveUp = func(r *repo.Repository) { p.engine.Abandon(r) }
	p.reopen()
	job := p.submit("now", slow(p))
	waiting := p.submit("2099-01-01T00:00:00Z", compact.Operation{Deletes: []string{"big"}})
	p.untilReading(job.ID)
	call := make(chan error, 1)
	go func() {
		plan := p.engine.NewPlan(compact.Limits{})
		defer plan.Close()
		if err := plan.Add(compact.Operation{Ranges: []compact.Range{{Key: "big", Offset: 0, Length: 7 << 20}}, Target: "other"}); err != nil {
			t.Error(err)
		}
		call <- p.engine.Run(context.Background(), p.a, plan, func(int, compact.Outcome) error { return nil })
	}()
	for len(callsOf(t, p)) < 3 { // both jobs and the call
		time.Sleep(time.Millisecond)
	}

	here, away := filepath.Join(p.dir, "r"), filepath.Join(p.dir, "away")
	if err := os.Rename(here, away); err != nil {
		t.Fatal(err)
	}
	if err := p.set.Refresh(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-call:
		if !errors.Is(err, repo.ErrDetached) {
			t.Errorf("call: got %v, want ErrDetached", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the call goes on")
	}
	for deadline := time.Now().Add(10 * time.Second); p.engine.Active() > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the job goes on")
		}
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) { // it is closed when nobody uses it
		_, err := p.engine.Jobs(context.Background(), p.repo)
		if errors.Is(err, repo.ErrDetached) {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("jobs of what was given up: got %v, want ErrDetached", err)
		}
	}

	r, err := p.set.Get(context.Background(), "away")
	if err != nil {
		t.Fatal(err)
	}
	p.repo, p.a = r, r.As(repo.Principal{Name: "tester"})
	if err := p.engine.Resume(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	if got, err := p.engine.Await(context.Background(), r, job.ID); err != nil || got.State != compact.Done {
		t.Errorf("the job in the directory that was moved: got %+v, %v; want done", got, err)
	}
	if got, err := p.engine.Job(r, waiting.ID); err != nil || got.State != compact.Queued {
		t.Errorf("the job that waited: got %+v, %v", got, err)
	}
	p.wantKeys("small")
}

// callsOf lists what is queued or running.
func callsOf(t *testing.T, p *fixture) []compact.Job {
	t.Helper()
	jobs, err := p.engine.Jobs(context.Background(), p.repo)
	if err != nil {
		t.Fatal(err)
	}
	return jobs
}

// Two copies of a repository have the same ID. What is asked of the one is not taken for done in the other.
func TestCopiesAreTwoRepositories(t *testing.T) {
	p := newFixture(t, limited)
	op := slow(p)
	p.submit("2099-01-01T00:00:00Z", compact.Operation{Deletes: []string{"big"}})
	p.close()
	if err := os.CopyFS(filepath.Join(p.dir, "copy"), os.DirFS(filepath.Join(p.dir, "r"))); err != nil {
		t.Fatal(err)
	}
	p.open()
	copied, err := p.set.Get(context.Background(), "copy")
	if err != nil {
		t.Fatal(err)
	}
	if copied.ID() != p.repo.ID() {
		t.Fatal("the copy has an ID of its own: this test is of no use")
	}
	done := make(chan error, 2)
	for _, r := range []*repo.Repository{p.repo, copied} {
		go func() {
			plan := p.engine.NewPlan(compact.Limits{})
			defer plan.Close()
			if err := plan.Add(op); err != nil {
				t.Error(err)
			}
			done <- p.engine.Run(context.Background(), r.As(repo.Principal{Name: "tester"}), plan, func(int, compact.Outcome) error { return nil })
		}()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for name, r := range map[string]*repo.Repository{"original": p.repo, "copy": copied} {
		if _, err := r.As(repo.Principal{}).Stat(context.Background(), "small"); err != nil {
			t.Errorf("%s: the plan was answered as done, its output: %v", name, err)
		}
		job, err := p.engine.Jobs(context.Background(), r)
		if err != nil || len(job) != 2 {
			t.Errorf("%s: got %d jobs, %v; want the one that waits and the call", name, len(job), err)
		}
	}
	// Each has its own queue.
	for _, r := range []*repo.Repository{p.repo, copied} {
		jobs, err := p.engine.Jobs(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		for _, job := range jobs {
			if job.State != compact.Queued {
				continue
			}
			if got, err := p.engine.Cancel(context.Background(), r, job.ID); err != nil || got.State != compact.Cancelled {
				t.Errorf("cancel: got %+v, %v", got, err)
			}
		}
	}
}
