package compact_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"packhouse/compact"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// never is after how many commits the next one fails while none is to.
const never = 1 << 30

// failingCommits lets commits of an index fail, before or after they are durable, once as many as left says have not.
func failingCommits(after bool, left *atomic.Int64) (hooks index.Options) {
	left.Store(never)
	fail := func() error {
		if left.Add(-1) < 0 {
			return errors.New("pulled")
		}
		return nil
	}
	if after {
		return index.Options{AfterCommit: fail}
	}
	return index.Options{BeforeCommit: fail}
}

// TestUnknownOutcome: of a job whose commit was interrupted nobody says that it failed, and the next start shows what became of
// it.
func TestUnknownOutcome(t *testing.T) {
	for _, took := range []bool{true, false} {
		for _, queued := range []bool{true, false} {
			t.Run(fmt.Sprintf("took=%v/queued=%v", took, queued), func(t *testing.T) {
				var left atomic.Int64
				hooks := failingCommits(took, &left)
				p := newFixtureAt(t, copyOf(t, template(t, 0)), func(so *datadir.Options, _ *compact.Options) {
					so.Index.BeforeCommit, so.Index.AfterCommit = hooks.BeforeCommit, hooks.AfterCommit
				})
				id := p.untilUnknown(queued, &left)
				left.Store(never)
				p.closeBroken()
				p.open()
				before, after := wantAfter(t)
				want := before
				if took {
					want = after
				}
				if got := fmt.Sprint(p.contents()); got != fmt.Sprint(want) {
					t.Errorf("contents: got %s, want %s", got, fmt.Sprint(want))
				}
				p.wantResolved(id, took, queued)
				if got := fmt.Sprint(p.mustRun(repack(t)...)); got != fmt.Sprint(wantOutcomes(t)) {
					t.Errorf("the same plan again: got %s, want %s", got, fmt.Sprint(wantOutcomes(t)))
				}
				if got := fmt.Sprint(p.contents()); got != fmt.Sprint(after) {
					t.Errorf("contents in the end: got %s, want %s", got, fmt.Sprint(after))
				}
			})
		}
	}
}

// untilUnknown has repack end with an unknown outcome.
func (p *fixture) untilUnknown(queued bool, left *atomic.Int64) (id string) {
	t := p.t.(*testing.T)
	t.Helper()
	if queued {
		left.Store(2) // the rows that say queued and running
		id = p.submit("now", repack(t)...).ID
		if job, err := p.engine.Await(t.Context(), p.repo, id); err != nil || job.State != compact.Unknown {
			t.Fatalf("await: got %+v, %v, want an unknown outcome", job, err)
		}
	} else {
		left.Store(0)
		if _, err := p.run(repack(t)...); !errors.Is(err, repo.ErrReadOnly) || !strings.Contains(err.Error(), "not known") {
			t.Fatalf("run: got %v, want ErrReadOnly that says that the outcome is not known", err)
		}
	}
	jobs, err := p.engine.Jobs(t.Context(), p.repo)
	if err != nil || len(jobs) != 1 || jobs[0].State != compact.Unknown || jobs[0].Fault == nil || jobs[0].Finished.IsZero() {
		t.Fatalf("jobs: got %+v, %v, want one with an unknown outcome", jobs, err)
	}
	// What is refused since then is known to have changed nothing.
	left.Store(0)
	if _, err := p.run(compact.Operation{Deletes: []string{"keep"}}); !errors.Is(err, repo.ErrReadOnly) || strings.Contains(err.Error(), "not known") {
		t.Errorf("another plan: got %v, want ErrReadOnly alone", err)
	}
	return jobs[0].ID
}

// wantResolved wants that the next start knows what became of the job.
func (p *fixture) wantResolved(id string, took, queued bool) {
	p.t.Helper()
	if !took && !queued {
		if job, err := p.engine.Job(p.repo, id); !errors.Is(err, repo.ErrNotFound) {
			p.t.Errorf("job: got %+v, %v, want ErrNotFound", job, err)
		}
		return
	}
	ctx := p.t.(*testing.T).Context()
	if took { // nothing is left to do
		if job, err := p.engine.Job(p.repo, id); err != nil || job.State != compact.Done {
			p.t.Errorf("job: got %+v, %v, want it done", job, err)
		}
	}
	if job, err := p.engine.Await(ctx, p.repo, id); err != nil || job.State != compact.Done || job.Fault != nil {
		p.t.Errorf("await: got %+v, %v, want it done", job, err)
	}
}
