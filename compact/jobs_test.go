package compact_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/compact"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/repotest"
)

func (p *fixture) submit(when string, ops ...compact.Operation) compact.Job {
	p.t.Helper()
	plan := p.engine.NewPlan(compact.Limits{})
	defer plan.Close()
	for _, op := range ops {
		if err := plan.Add(op); err != nil {
			p.t.Fatal(err)
		}
	}
	job, err := p.engine.Submit(context.Background(), p.a, plan, when, false)
	if err != nil {
		p.t.Fatal(err)
	}
	return job
}

// slow is a plan that takes seconds at the rate of the tests that use it.
func slow(p *fixture) compact.Operation {
	p.put("big", make([]byte, 8<<20))
	return compact.Operation{Ranges: []compact.Range{{Key: "big", Offset: 0, Length: 8<<20 - 1}}, Target: "small", Deletes: []string{"big"}}
}

func limited(_ *datadir.Options, o *compact.Options) { o.Rate = 1 << 20 }

// untilReading waits until a job has read something.
func (p *fixture) untilReading(id string) {
	p.t.Helper()
	enough := errors.New("enough")
	_, err := p.engine.Watch(context.Background(), p.repo, id, 5*time.Millisecond, func(job compact.Job) error {
		if job.Progress.Read > 0 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		p.t.Fatalf("watch: got %v", err)
	}
}

func TestCancelWhileRunning(t *testing.T) {
	p := newFixture(t, limited)
	job := p.submit("now", slow(p))
	p.untilReading(job.ID)
	now, err := p.engine.Job(p.repo, job.ID)
	if err != nil || now.State != compact.Running || now.Progress.ReadTotal != 8<<20-1 || now.Started.IsZero() {
		t.Errorf("running job: got %+v, %v", now, err)
	}
	got, err := p.engine.Cancel(context.Background(), p.repo, job.ID)
	if err != nil || got.State != compact.Cancelled || got.Finished.IsZero() || got.Fault != nil {
		t.Errorf("cancel: got %+v, %v", got, err)
	}
	p.wantKeys("big")
	p.reopen()
	if got, err := p.engine.Job(p.repo, job.ID); err != nil || got.State != compact.Cancelled {
		t.Errorf("after a restart: got %+v, %v", got, err)
	}
	if again, err := p.engine.Cancel(context.Background(), p.repo, job.ID); err != nil || again.State != compact.Cancelled {
		t.Errorf("cancel again: got %+v, %v", again, err)
	}
	if _, err := p.engine.Cancel(context.Background(), p.repo, "nope"); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("cancel of nothing: got %v, want ErrNotFound", err)
	}
}

// A call that a client waits for is a job too, and can be cancelled: the client is told.
func TestCancelCall(t *testing.T) {
	p := newFixture(t, limited)
	op := slow(p)
	failed := make(chan error, 1)
	go func() {
		_, err := p.run(op)
		failed <- err
	}()
	var id string
	for id == "" {
		jobs, err := p.engine.Jobs(context.Background(), p.repo)
		if err != nil {
			t.Fatal(err)
		}
		for _, job := range jobs {
			id = job.ID
		}
	}
	watched := make(chan compact.Job, 1)
	watching := make(chan struct{})
	go func() {
		first := sync.OnceFunc(func() { close(watching) })
		job, err := p.engine.Watch(context.Background(), p.repo, id, 0, func(compact.Job) error { first(); return nil })
		if err != nil {
			t.Errorf("watch: %v", err)
		}
		watched <- job
	}()
	<-watching
	job, err := p.engine.Cancel(context.Background(), p.repo, id)
	if err != nil || job.State != compact.Cancelled || job.ID != id || job.Finished.IsZero() {
		t.Errorf("cancel: got %+v, %v, want it cancelled", job, err)
	}
	if job := <-watched; job.State != compact.Cancelled {
		t.Errorf("watch: got %+v, want it cancelled", job)
	}
	// A refusal: the client must not take it for a fault of the moment and begin again.
	if err := <-failed; !errors.Is(err, repo.ErrDenied) || !strings.Contains(err.Error(), "cancelled") {
		t.Errorf("call: got %v, want ErrDenied", err)
	}
	p.wantKeys("big")
	if _, err := p.engine.Cancel(context.Background(), p.repo, id); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("cancel again: got %v, want ErrNotFound, for there is no row", err)
	}
}

// Who watches a client's call that fails learns why, although it leaves no row.
func TestWatchCallThatFails(t *testing.T) {
	p := newFixture(t, limited)
	op := slow(p)
	failed := make(chan error, 1)
	go func() {
		_, err := p.run(op)
		failed <- err
	}()
	var id string
	for id == "" {
		jobs, err := p.engine.Jobs(context.Background(), p.repo)
		if err != nil {
			t.Fatal(err)
		}
		for _, job := range jobs {
			id = job.ID
		}
	}
	p.untilReading(id)
	p.put("big", []byte("other"))
	job, err := p.engine.Await(context.Background(), p.repo, id)
	if err != nil || job.State != compact.Failed || job.Fault == nil || job.Fault.Key != "big" {
		t.Errorf("await: got %+v, %v, want the conflict", job, err)
	}
	if err := <-failed; !errors.Is(err, repo.ErrConflict) {
		t.Errorf("call: got %v, want ErrConflict", err)
	}
}

// A client's call does the work of the same plan in the queue. To cancel that afterwards must not take the result away.
func TestCancelKeepsTheResultOfACall(t *testing.T) {
	p := newFixture(t, nil)
	fill(p)
	job := p.submit("2099-01-01T00:00:00Z", repack(t)...)
	first := p.mustRun(repack(t)...)
	now, err := p.engine.Job(p.repo, job.ID)
	if err != nil || now.State != compact.Done || now.When != job.When || !now.Created.Equal(job.Created) {
		t.Errorf("job: got %+v, %v, want that of the queue, done", now, err)
	}
	if got, err := p.engine.Cancel(context.Background(), p.repo, job.ID); err != nil || got.State != compact.Done {
		t.Errorf("cancel: got %+v, %v, want it done", got, err)
	}
	if again := p.mustRun(repack(t)...); fmt.Sprint(again) != fmt.Sprint(first) {
		t.Errorf("retry: got %+v, want %+v", again, first)
	}
	var outcomes []compact.Outcome
	err = p.engine.Outcomes(p.repo, job.ID, func(_ int, o compact.Outcome) error {
		outcomes = append(outcomes, o)
		return nil
	})
	if err != nil || fmt.Sprint(outcomes) != fmt.Sprint(first) {
		t.Errorf("outcomes: got %+v, %v, want %+v", outcomes, err, first)
	}
}

// To cancel a queued job ends the client's call of the same plan, too.
func TestCancelQueuedAndCalled(t *testing.T) {
	p := newFixture(t, limited)
	op := slow(p)
	job := p.submit("2099-01-01T00:00:00Z", op)
	called := make(chan error, 1)
	go func() {
		_, err := p.run(op)
		called <- err
	}()
	p.untilReading(job.ID)
	if got, err := p.engine.Cancel(context.Background(), p.repo, job.ID); err != nil || got.State != compact.Cancelled {
		t.Errorf("cancel: got %+v, %v", got, err)
	}
	if err := <-called; !errors.Is(err, repo.ErrDenied) {
		t.Errorf("call: got %v, want ErrDenied", err)
	}
	if got, err := p.engine.Job(p.repo, job.ID); err != nil || got.State != compact.Cancelled {
		t.Errorf("job: got %+v, %v", got, err)
	}
	p.wantKeys("big")
}

// A job whose end cannot be stored has ended all the same: nobody waits for it for ever.
func TestEndThatCannotBeStored(t *testing.T) {
	var broken atomic.Bool
	p := newFixture(t, func(so *datadir.Options, o *compact.Options) {
		limited(so, o)
		so.Index.BeforeCommit = func() error {
			if broken.Load() {
				return errors.New("pulled")
			}
			return nil
		}
	})
	job := p.submit("now", slow(p))
	p.untilReading(job.ID)
	broken.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	got, err := p.engine.Cancel(ctx, p.repo, job.ID)
	if err != nil || got.State != compact.Cancelled {
		t.Errorf("cancel: got %+v, %v, want it cancelled", got, err)
	}
	jobs, err := p.engine.Jobs(ctx, p.repo)
	if err != nil || len(jobs) != 1 || jobs[0].State != compact.Cancelled {
		t.Errorf("jobs: got %+v, %v", jobs, err)
	}
	broken.Store(false)
	p.reopen()
}

// A stop interrupts a running job; the next start carries it out from the beginning.
func TestRunningJobSurvivesRestart(t *testing.T) {
	p := newFixture(t, limited)
	job := p.submit("now", slow(p))
	p.untilReading(job.ID)
	p.close()
	p.o.Rate = 0
	p.open()
	p.wantKeys("big")
	if err := p.engine.Resume(context.Background(), p.repo); err != nil {
		t.Fatal(err)
	}
	done, err := p.engine.Await(context.Background(), p.repo, job.ID)
	if err != nil || done.State != compact.Done || !done.Created.Equal(job.Created) {
		t.Errorf("await: got %+v, %v", done, err)
	}
	p.wantKeys("small")
	p.emptyTrash()
}

// A job whose process dies at any file call is carried out by the next one, once.
func TestJobSurvivesKill(t *testing.T) {
	for _, mode := range modes {
		template := template(t, mode.small)
		for n, hit := 1, true; hit; n++ {
			t.Run(fmt.Sprintf("%s/%d", mode.name, n), func(t *testing.T) {
				failing := vfstest.NewFailing(vfs.OS())
				p := newFixtureAt(t, copyOf(t, template), func(so *datadir.Options, _ *compact.Options) { mode.use(t, so, failing) })
				job := submitAndDie(p, failing, n)
				hit = failing.Hit()
				mode.use(t, &p.so, vfs.OS())
				p.open()
				p.wantCarriedOut(job)
			})
			if t.Failed() {
				return
			}
		}
	}
}

// submitAndDie submits repack as a job and stops at the n-th file call that it makes.
func submitAndDie(p *fixture, failing *vfstest.Failing, n int) compact.Job {
	t := p.t.(*testing.T)
	// Of the file calls of a submission the first are those of the plan's file, before anything was promised.
	failing.Reset()
	job := p.submit("2099-01-01T00:00:00Z", repack(t)...)
	if _, err := p.engine.Cancel(context.Background(), p.repo, job.ID); err != nil {
		t.Fatal(err)
	}
	prepared := len(failing.Calls())
	failing.Reset()
	failing.StopAt(prepared+n, vfstest.Before, syscall.EIO)
	job = p.submit("now", repack(t)...)
	if _, err := p.engine.Await(context.Background(), p.repo, job.ID); err != nil {
		t.Logf("await: %v", err)
	}
	p.closeBroken()
	return job
}

// wantCarriedOut wants what repack makes, when the job was resumed, or submitted again if it failed.
func (p *fixture) wantCarriedOut(job compact.Job) {
	t := p.t.(*testing.T)
	_, after := wantAfter(t)
	done, err := p.engine.Job(p.repo, job.ID)
	if err != nil {
		t.Fatal(err)
	}
	if done.State == compact.Queued || done.State == compact.Running {
		if err := p.engine.Resume(context.Background(), p.repo); err != nil {
			t.Fatal(err)
		}
		if done, err = p.engine.Await(context.Background(), p.repo, job.ID); err != nil {
			t.Fatal(err)
		}
	}
	if done.State == compact.Failed { // the disk failed before the process was gone: nothing happened
		done = p.submit("now", repack(t)...)
		if done, err = p.engine.Await(context.Background(), p.repo, done.ID); err != nil {
			t.Fatal(err)
		}
	}
	if done.State != compact.Done || fmt.Sprint(p.contents()) != fmt.Sprint(after) {
		t.Errorf("job: got %+v, contents %q", done, p.contents())
	}
}

// Jobs run one after the other, in the order they came.
func TestJobsTakeTurns(t *testing.T) {
	p := newFixture(t, nil)
	p.put("a", make([]byte, 1<<20))
	var ids []string
	for i := range 5 {
		op := compact.Operation{Ranges: []compact.Range{{Key: "a", Offset: int64(i), Length: 1000}}, Target: fmt.Sprintf("t%d", i)}
		ids = append(ids, p.submit("now", op).ID)
	}
	var last time.Time
	for _, id := range ids {
		job, err := p.engine.Await(context.Background(), p.repo, id)
		if err != nil || job.State != compact.Done {
			t.Fatalf("job: got %+v, %v", job, err)
		}
		if job.Started.Before(last) {
			t.Errorf("job began at %s, the one before it ended at %s", job.Started, last)
		}
		last = job.Finished
	}
	jobs, err := p.engine.Jobs(context.Background(), p.repo)
	if err != nil || len(jobs) != 5 {
		t.Errorf("jobs: got %+v, %v", jobs, err)
	}
}

// A scrub takes as long as there are bytes to read: compactions do not wait for it, nor it for them.
func TestKindsDoNotWaitForEachOther(t *testing.T) {
	p := newFixture(t, limited)
	slow(p)
	scrub, err := p.engine.SubmitScrub(context.Background(), p.repo, "tester", 0, "now")
	if err != nil {
		t.Fatal(err)
	}
	running := errors.New("running")
	_, err = p.engine.Watch(context.Background(), p.repo, scrub.ID, 0, func(job compact.Job) error {
		if job.State == compact.Running {
			return running
		}
		return nil
	})
	if !errors.Is(err, running) {
		t.Fatal(err)
	}
	job := p.submit("now", compact.Operation{Deletes: []string{"never-was"}})
	if done, err := p.engine.Await(context.Background(), p.repo, job.ID); err != nil || done.State != compact.Done {
		t.Errorf("job: got %+v, %v", done, err)
	}
	if now, err := p.engine.Job(p.repo, scrub.ID); err != nil || now.State != compact.Running {
		t.Errorf("scrub: got %+v, %v, want it running", now, err)
	}
	// One scrub of a repository is enough.
	if again, err := p.engine.SubmitScrub(context.Background(), p.repo, "tester", 0, "now"); err != nil || again.ID != scrub.ID {
		t.Errorf("second scrub: got %+v, %v, want the first", again, err)
	}
	if got, err := p.engine.Cancel(context.Background(), p.repo, scrub.ID); err != nil || got.State != compact.Cancelled {
		t.Errorf("cancel: got %+v, %v", got, err)
	}
}

// A plan that a client carries out while it also waits in the queue is carried out once; its result stays.
func TestQueuedPlanIsDoneMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFixture(t, nil)
		fill(p)
		job := p.submit(time.Now().Add(time.Hour).UTC().Format(time.RFC3339), repack(t)...)
		first := p.mustRun(repack(t)...)
		time.Sleep(2 * time.Hour)
		done, err := p.engine.Await(context.Background(), p.repo, job.ID)
		if err != nil || done.State != compact.Done {
			t.Errorf("job: got %+v, %v", done, err)
		}
		if again := p.mustRun(repack(t)...); fmt.Sprint(again) != fmt.Sprint(first) {
			t.Errorf("retry: got %+v, want %+v", again, first)
		}
	})
}

// While clients are served, what is in the background reads slowly; a call does not, and who waits for the job
// is not a client to give way to.
func TestBackgroundGivesWay(t *testing.T) {
	for _, c := range []struct {
		name string
		busy int
		when string
		slow bool
	}{{"background", 1, "now", true}, {"only the one who waits", 0, "now", false}, {"a call", 1, "", false}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				busy := c.busy + 1 // the one who waits below
				p := newFixture(t, func(_ *datadir.Options, o *compact.Options) { o.Busy = func() int { return busy } })
				const size = 40 << 20 // 32 MiB are a second's worth, and come at once
				p.put("a", make([]byte, size))
				op := compact.Operation{Ranges: []compact.Range{{Key: "a", Offset: 0, Length: size}}, Target: "b"}
				start := time.Now()
				if c.when == "" {
					p.mustRun(op)
				} else if done, err := p.engine.Await(context.Background(), p.repo, p.submit(c.when, op).ID); err != nil || done.State != compact.Done {
					t.Fatalf("job: got %+v, %v", done, err)
				}
				// The clock of the bubble stands still but for waiting.
				if took := time.Since(start); (took >= 200*time.Millisecond) != c.slow {
					t.Errorf("took %s, want slow %v", took, c.slow)
				}
			})
		})
	}
}

// What is slow in the background holds no client's call up, whatever it has at work.
func TestCallsDoNotWaitForBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFixture(t, func(_ *datadir.Options, o *compact.Options) {
			o.Workers = 1
			o.Busy = func() int { return 1 }
		})
		const size = 40 << 20 // 32 MiB are a second's worth, and come at once
		p.put("a", make([]byte, size))
		op := compact.Operation{Ranges: []compact.Range{{Key: "a", Offset: 0, Length: size}}, Target: "b"}
		job := p.submit("now", op)
		time.Sleep(time.Millisecond)
		start := time.Now()
		p.mustRun(compact.Operation{Ranges: []compact.Range{{Key: "a", Offset: 0, Length: 1000}}, Target: "c"})
		if took := time.Since(start); took > 0 { // the clock of the bubble stands still but for waiting
			t.Errorf("the call waited %s for the background", took)
		}
		if done, err := p.engine.Await(context.Background(), p.repo, job.ID); err != nil || done.State != compact.Done {
			t.Errorf("job: got %+v, %v", done, err)
		}
	})
}

// A list of many jobs is whole and in order.
func TestEachJob(t *testing.T) {
	p := newFixture(t, nil)
	p.put("a", []byte("aAAAa"))
	const n = 300
	var want []string
	for i := range n {
		op := compact.Operation{Ranges: []compact.Range{{Key: "a", Offset: 0, Length: 1}}, Target: fmt.Sprintf("t%d", i)}
		if i%100 == 50 {
			want = append(want, p.submit("2099-01-01T00:00:00Z", op).ID)
			continue
		}
		p.mustRun(op)
		want = append(want, "")
	}
	var last compact.Job
	i := 0
	err := p.engine.EachJob(context.Background(), p.repo, func(job compact.Job) error {
		if job.Created.Before(last.Created) {
			t.Errorf("job %d was made before the one before it", i)
		}
		if state := map[bool]compact.State{true: compact.Done, false: compact.Queued}[want[i] == ""]; job.State != state || want[i] != "" && job.ID != want[i] {
			t.Errorf("job %d: got %+v, want %s", i, job, state)
		}
		last = job
		i++
		return nil
	})
	if err != nil || i != n {
		t.Errorf("got %d jobs, %v, want %d", i, err, n)
	}
	enough := errors.New("enough")
	if err := p.engine.EachJob(context.Background(), p.repo, func(compact.Job) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v, want the error of the caller", err)
	}

	// Pages of it go from the latest back.
	var back []compact.Job
	for skip := 0; ; skip += 70 {
		page, total, err := p.engine.RecentJobs(context.Background(), p.repo, nil, skip, 70)
		if err != nil || total != n {
			t.Fatalf("page from %d on: got %d in all, %v", skip, total, err)
		}
		if back = append(back, page...); len(page) < 70 {
			break
		}
	}
	for i, job := range back {
		if i > 0 && job.Created.After(back[i-1].Created) || want[n-1-i] != "" && job.ID != want[n-1-i] {
			t.Errorf("job %d from the end: got %s", i, job.ID)
		}
	}
	queued, total, err := p.engine.RecentJobs(context.Background(), p.repo, func(job compact.Job) bool { return job.State == compact.Queued }, 1, 10)
	if err != nil || len(back) != n || total != 3 || len(queued) != 2 || queued[0].ID != want[150] {
		t.Errorf("got %d jobs, %d of %d queued ones, %v", len(back), len(queued), total, err)
	}
}

func TestStopWatching(t *testing.T) {
	p := newFixture(t, nil)
	fill(p)
	job := p.submit("2099-01-01T00:00:00Z", repack(t)...)
	ended := make(chan error)
	for range 2 {
		go func() {
			_, err := p.engine.Await(context.Background(), p.repo, job.ID)
			ended <- err
		}()
		p.engine.StopWatching()
		if err := <-ended; !errors.Is(err, repo.ErrBusy) {
			t.Errorf("await: got %v, want ErrBusy", err)
		}
	}
	if got, err := p.engine.Job(p.repo, job.ID); err != nil || got.State != compact.Queued {
		t.Errorf("job: got %+v, %v, want it queued", got, err)
	}
}

// Plans that wait are few, of a principal and of all, within the quota and the next days, and their files go when they are cancelled.
func TestPlansThatWaitAreBounded(t *testing.T) {
	p := newFixture(t, nil)
	submit := func(a *repo.Access, when, key string) (compact.Job, error) {
		plan := p.engine.NewPlan(compact.Limits{})
		defer plan.Close()
		if err := plan.Add(compact.Operation{Deletes: []string{key}}); err != nil {
			t.Fatal(err)
		}
		return p.engine.Submit(context.Background(), a, plan, when, false)
	}
	for i := range 20 {
		p.put(fmt.Sprintf("packs/%d", i), []byte("x"))
	}
	const later = "2099-01-01T00:00:00Z"
	if _, err := submit(p.a, "2999-01-01T00:00:00Z", "packs/0"); !errors.Is(err, repo.ErrInvalid) {
		t.Errorf("in a thousand years: got %v, want ErrInvalid", err)
	}
	var jobs []compact.Job
	for i := range 16 {
		job, err := submit(p.a, later, fmt.Sprintf("packs/%d", i))
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, job)
	}
	if _, err := submit(p.a, later, "packs/17"); !errors.Is(err, repo.ErrBusy) {
		t.Errorf("the 17th of a principal: got %v, want ErrBusy", err)
	}
	other := p.repo.As(repo.Principal{Name: "other"})
	if _, err := submit(other, later, "packs/17"); err != nil {
		t.Errorf("another principal: %v", err)
	}
	if files, err := p.repo.Files(repo.JobsFolder); err != nil || len(files) != 17 {
		t.Errorf("files: %q, %v", files, err)
	}
	for _, job := range jobs {
		if _, err := p.engine.Cancel(context.Background(), p.repo, job.ID); err != nil {
			t.Error(err)
		}
	}
	if files, err := p.repo.Files(repo.JobsFolder); err != nil || len(files) != 1 {
		t.Errorf("files after the others were cancelled: %q, %v", files, err)
	}
	if _, err := submit(p.a, later, "packs/0"); err != nil {
		t.Errorf("the same plan after it was cancelled: %v", err)
	}
}

// Beyond some megabytes, plans that wait count against the quota.
func TestPlansThatWaitCountAgainstTheQuota(t *testing.T) {
	p := newFixture(t, nil)
	p.put("packs/a", []byte("x"))
	if err := p.repo.SetQuota(context.Background(), 20<<20); err != nil {
		t.Fatal(err)
	}
	if err := p.a.AdmitPlan(0, 15<<20); err != nil {
		t.Errorf("the first: %v", err)
	}
	if err := p.a.AdmitPlan(15<<20, 4<<20); err != nil {
		t.Errorf("within the quota: %v", err)
	}
	var quota *repo.QuotaError
	if err := p.a.AdmitPlan(15<<20, 6<<20); !errors.As(err, &quota) {
		t.Errorf("beyond the quota: got %v, want a QuotaError", err)
	}
}

// A job or a plan that waits for a disk that does not answer holds up none on another.
func TestDisksDoNotWaitForEachOther(t *testing.T) {
	fsys := vfstest.NewStalling(vfs.OS())
	p := newFixture(t, func(so *datadir.Options, o *compact.Options) {
		so.FS, so.FileSystem, o.Workers = fsys, filepath.Base, 1
	})
	other, err := p.set.Create(context.Background(), "other", "test")
	if err != nil {
		t.Fatal(err)
	}
	stuck := other.As(repo.Principal{Name: "tester"})
	repotest.MustPut(t, stuck, "item", "some bytes")
	fill(p)
	when := time.Now().Add(2 * time.Second).UTC().Format(time.RFC3339)
	scrub, err := p.engine.SubmitScrub(context.Background(), other, "tester", 1, when)
	if err != nil {
		t.Fatal(err)
	}
	release := fsys.Stall(filepath.Join(p.dir, "other"))
	defer release()
	copied := make(chan error, 1)
	go func() {
		plan := p.engine.NewPlan(compact.Limits{})
		defer plan.Close()
		err := plan.Add(compact.Operation{Ranges: []compact.Range{{Key: "item", Length: 4}}, Target: "part"})
		copied <- errors.Join(err, p.engine.Run(context.Background(), stuck, plan, func(int, compact.Outcome) error { return nil }))
	}()
	repotest.WaitFor(t, "job and plan that wait", func() bool {
		job, err := p.engine.Job(other, scrub.ID)
		return err == nil && job.State == compact.Running && fsys.Waiting() > 1
	})
	job, err := p.engine.SubmitScrub(context.Background(), p.repo, "tester", 1, compact.WhenNow)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if done, err := p.engine.Await(ctx, p.repo, job.ID); err != nil || done.State != compact.Done {
		t.Errorf("scrub: got %+v, %v", done, err)
	}
	p.mustRun(repack(t)...)
	release()
	if err := <-copied; err != nil {
		t.Error(err)
	}
	if done, err := p.engine.Await(ctx, other, scrub.ID); err != nil || done.State != compact.Done {
		t.Errorf("scrub of the disk that answers again: got %+v, %v", done, err)
	}
}
