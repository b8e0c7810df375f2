package compact_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/compact"
	"packhouse/index"
	"packhouse/internal/sampling"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// modes are the places where small items lie, and what of a repository uses a disk that fails.
var modes = []struct {
	name  string
	small int64
	use   func(t *testing.T, so *datadir.Options, fsys vfs.FS)
}{
	{"files", 0, func(_ *testing.T, so *datadir.Options, fsys vfs.FS) { so.FS, so.Index.FS = fsys, vfs.OS() }},
	{"log", index.MaxPayload, func(t *testing.T, so *datadir.Options, fsys vfs.FS) {
		so.FS, so.Small, so.Index.Database = fsys, index.MaxPayload, vfstest.Bolt(t, fsys)
	}},
}

// template is a directory with a repository that holds what repack works on, to be copied. Items of up to small bytes lie in the log.
func template(t *testing.T, small int64) string {
	t.Helper()
	p := newFixture(t, func(so *datadir.Options, _ *compact.Options) { so.Small = small })
	fill(p)
	dir := filepath.Join(fastDir(t), "template")
	p.close()
	if err := os.CopyFS(dir, os.DirFS(p.dir)); err != nil {
		t.Fatal(err)
	}
	p.open()
	return dir
}

func copyOf(t *testing.T, template string) string {
	t.Helper()
	dir := filepath.Join(fastDir(t), "copy")
	if err := os.CopyFS(dir, os.DirFS(template)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// wantWhole: the repository is as before the plan or as after it, and says so when asked again.
func wantWhole(t *testing.T, p *fixture, before, after map[string]string, err error) {
	t.Helper()
	p.check()
	p.wantNoLeaks()
	have := fmt.Sprint(p.contents())
	switch {
	case err == nil && have != fmt.Sprint(after):
		t.Errorf("acknowledged: got %s, want %s", have, after)
	case have != fmt.Sprint(before) && have != fmt.Sprint(after):
		t.Errorf("half done: got %s", have)
	}
	outcomes := p.mustRun(repack(t)...)
	if got := fmt.Sprint(p.contents()); got != fmt.Sprint(after) {
		t.Errorf("after the retry: got %s, want %s", got, after)
	}
	if got := fmt.Sprint(outcomes); got != fmt.Sprint(wantOutcomes(t)) {
		t.Errorf("outcome of the retry: got %s, want %s", got, fmt.Sprint(wantOutcomes(t)))
	}
	p.wantNoLeaks()
}

func wantOutcomes(t *testing.T) []compact.Outcome {
	t.Helper()
	_, outcomes, ok := model(map[string]string{"a": "aAAAa", "b": "bbBBB", "c": "ccccc", "keep": "keep"}, repack(t))
	if !ok {
		t.Fatal("the model refuses the plan")
	}
	return outcomes
}

func wantAfter(t *testing.T) (before, after map[string]string) {
	t.Helper()
	before = map[string]string{"a": "aAAAa", "b": "bbBBB", "c": "ccccc", "keep": "keep"}
	after, _, _ = model(before, repack(t))
	return before, after
}

// TestRunSurvivesFailure lets every single file call of a plan fail.
func TestRunSurvivesFailure(t *testing.T) {
	for _, mode := range modes {
		template := template(t, mode.small)
		share := sampling.NewShare(t, 3)
		for _, when := range []vfstest.When{vfstest.Before, vfstest.After} {
			for _, fault := range []error{syscall.EIO, syscall.ENOSPC} {
				for n, hit := 1, true; hit; n++ {
					if !share.Takes() {
						continue
					}
					t.Run(fmt.Sprintf("%s/%v/%v/%d", mode.name, when, fault, n), func(t *testing.T) {
						failing := vfstest.NewFailing(vfs.OS())
						p := newFixtureAt(t, copyOf(t, template), func(so *datadir.Options, _ *compact.Options) { mode.use(t, so, failing) })
						hit = runOnFailing(p, failing, when, fault, n)
					})
					if t.Failed() {
						return
					}
				}
			}
		}
	}
}

// runOnFailing carries out repack while the n-th file call fails.
func runOnFailing(p *fixture, failing *vfstest.Failing, when vfstest.When, fault error, n int) (hit bool) {
	t := p.t.(*testing.T)
	before, after := wantAfter(t)
	failing.Reset()
	failing.FailAt(n, when, fault)
	_, err := p.run(repack(t)...)
	p.closeBroken()
	hit = failing.Hit()
	failing.Reset()
	switch {
	case err == nil:
	case !hit:
		t.Errorf("run: %v, and no call failed", err)
	case fault == syscall.ENOSPC && !errors.Is(err, repo.ErrNoSpace) && !errors.Is(err, repo.ErrReadOnly):
		t.Errorf("run: got %v, want ErrNoSpace, or ErrReadOnly after a sync", err)
	case strings.Contains(err.Error(), p.dir):
		t.Errorf("error shows a path: %v", err)
	}
	p.open()
	wantWhole(t, p, before, after, err)
	return hit
}

// failingReads lets the n-th open or read of a file fail.
type failingReads struct {
	vfs.FS
	calls *atomic.Int64
	n     int64
}

func (f failingReads) fail() bool { return f.calls.Add(1) == f.n }

func (f failingReads) Open(name string) (vfs.File, error) {
	if f.fail() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EIO}
	}
	file, err := f.FS.Open(name)
	if err != nil {
		return nil, err
	}
	if filepath.Ext(name) == ".sums" {
		return file, nil // checksums that cannot be read are made anew
	}
	return failingReader{file, f, name}, nil
}

type failingReader struct {
	vfs.File
	fs   failingReads
	name string
}

func (f failingReader) ReadAt(p []byte, off int64) (int, error) {
	if f.fs.fail() {
		return 0, &fs.PathError{Op: "read", Path: f.name, Err: syscall.EIO}
	}
	return f.File.ReadAt(p, off)
}

// TestRunSurvivesReadFailure lets every opening and reading of a source fail: nothing changes, and the retry is right.
func TestRunSurvivesReadFailure(t *testing.T) {
	for _, mode := range modes {
		template := template(t, mode.small)
		for n, hit := int64(1), true; hit; n++ {
			t.Run(fmt.Sprintf("%s/%d", mode.name, n), func(t *testing.T) {
				var calls atomic.Int64
				calls.Store(n) // none fails yet
				p := newFixtureAt(t, copyOf(t, template), func(so *datadir.Options, _ *compact.Options) {
					mode.use(t, so, failingReads{vfs.OS(), &calls, n})
				})
				hit = runOnFailingReads(p, &calls, n)
			})
			if t.Failed() {
				return
			}
		}
	}
}

// runOnFailingReads carries out repack while the n-th read fails.
func runOnFailingReads(p *fixture, calls *atomic.Int64, n int64) (hit bool) {
	t := p.t.(*testing.T)
	before, after := wantAfter(t)
	calls.Store(0)
	_, err := p.run(repack(t)...)
	if hit = calls.Load() >= n; hit != (err != nil) {
		t.Errorf("run: got %v with a failed read %v", err, hit)
	}
	if err != nil && strings.Contains(err.Error(), p.dir) {
		t.Errorf("error shows a path: %v", err)
	}
	calls.Store(n)
	want := after
	if err != nil {
		want = before
	}
	if got := fmt.Sprint(p.contents()); got != fmt.Sprint(want) {
		t.Errorf("contents: got %s, want %s", got, fmt.Sprint(want))
	}
	wantWhole(t, p, before, after, err)
	return hit
}

// TestRunSurvivesPowerLoss stops everything at each file call and forgets what was not synced.
func TestRunSurvivesPowerLoss(t *testing.T) {
	before, after := wantAfter(t)
	for _, mode := range modes {
		template := template(t, mode.small)
		share := sampling.NewShare(t, 3)
		for n, hit := 1, true; hit; n++ {
			for _, forget := range []string{"all", "some"} {
				if !share.Takes() {
					continue
				}
				t.Run(fmt.Sprintf("%s/%d/forget=%s", mode.name, n, forget), func(t *testing.T) {
					dir := copyOf(t, template)
					lossy := vfstest.NewLossy(t, dir)
					failing := vfstest.NewFailing(lossy)
					p := newFixtureAt(t, dir, func(so *datadir.Options, _ *compact.Options) { mode.use(t, so, failing) })
					failing.Reset()
					failing.StopAt(n, vfstest.Before, syscall.EIO)
					_, err := p.run(repack(t)...)
					p.closeBroken()
					hit = failing.Hit()
					var random *rand.Rand
					if forget == "some" {
						random = rand.New(rand.NewPCG(uint64(n), 1))
					}
					if err := lossy.Crash(random); err != nil {
						t.Fatal(err)
					}
					mode.use(t, &p.so, vfs.OS())
					p.open()
					wantWhole(t, p, before, after, err)
				})
			}
			if t.Failed() {
				return
			}
		}
	}
}

// TestRunSurvivesCommitFailure fails the commit itself, before and after it took effect.
func TestRunSurvivesCommitFailure(t *testing.T) {
	template := template(t, 0)
	before, after := wantAfter(t)
	for _, c := range []struct {
		name string
		took bool
	}{{"before", false}, {"after", true}} {
		t.Run(c.name, func(t *testing.T) {
			var fail error
			hook := func(on bool) func() error {
				return func() error {
					if on {
						return fail
					}
					return nil
				}
			}
			p := newFixtureAt(t, copyOf(t, template), func(so *datadir.Options, _ *compact.Options) {
				so.Index.BeforeCommit, so.Index.AfterCommit = hook(!c.took), hook(c.took)
			})
			fail = errors.New("pulled")
			_, err := p.run(repack(t)...)
			if !errors.Is(err, repo.ErrReadOnly) {
				t.Errorf("run: got %v, want ErrReadOnly", err)
			}
			// What was kept may not be on the disk: it is no answer.
			if _, err := p.run(repack(t)...); !errors.Is(err, repo.ErrReadOnly) {
				t.Errorf("run again: got %v, want ErrReadOnly", err)
			}
			fail = nil
			p.reopen()
			want := before
			if c.took {
				want = after
			}
			if got := p.contents(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("contents: got %q, want %q", got, want)
			}
			wantWhole(t, p, before, after, err)
		})
	}
}

// A run that is cancelled, at whatever moment, is all there or not at all.
func TestCancelAtAnyMoment(t *testing.T) {
	template := template(t, 0)
	before, after := wantAfter(t)
	for n := range 30 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			var engine *compact.Engine
			var calls atomic.Int64
			p := newFixtureAt(t, copyOf(t, template), func(so *datadir.Options, _ *compact.Options) {
				so.FS = onCall{vfs.OS(), func() {
					if calls.Add(1) == int64(n) && engine != nil {
						go engine.Close()
					}
				}}
			})
			engine = p.engine
			calls.Store(0)
			_, err := p.run(repack(t)...)
			if err != nil && !errors.Is(err, repo.ErrBusy) {
				t.Errorf("run: got %v, want ErrBusy", err)
			}
			calls.Store(1000)
			p.reopen()
			wantWhole(t, p, before, after, err)
		})
	}
}

// A client whose connection breaks, at whatever moment, sends the plan again: while the first run is under way or after it, and
// after a restart. The plan is carried out once, and every answer is the same.
func TestLostAnswerAtAnyMoment(t *testing.T) {
	template := template(t, 0)
	_, after := wantAfter(t)
	for n, hit := int64(1), true; hit; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			var calls atomic.Int64
			ctx, lose := context.WithCancel(t.Context())
			p := newFixtureAt(t, copyOf(t, template), func(so *datadir.Options, _ *compact.Options) {
				so.FS = onCall{vfs.OS(), func() {
					if calls.Add(1) == n {
						lose()
					}
				}}
			})
			calls.Store(0)
			plan := p.engine.NewPlan(compact.Limits{})
			defer plan.Close()
			for _, op := range repack(t) {
				if err := plan.Add(op); err != nil {
					t.Fatal(err)
				}
			}
			err := p.engine.Run(ctx, p.a, plan, nil)
			if hit = ctx.Err() != nil; hit && err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("run: got %v, want context.Canceled", err)
			}
			for _, when := range []string{"at once", "again", "after a restart"} {
				if when == "after a restart" {
					p.reopen()
				}
				if got := fmt.Sprint(p.mustRun(repack(t)...)); got != fmt.Sprint(wantOutcomes(t)) {
					t.Errorf("%s: got %s, want %s", when, got, fmt.Sprint(wantOutcomes(t)))
				}
			}
			jobs, err := p.engine.Jobs(t.Context(), p.repo)
			if err != nil || len(jobs) != 1 || jobs[0].Progress.Read != 12 {
				t.Errorf("jobs: got %+v, %v, want one that read 12 bytes", jobs, err)
			}
			if got := fmt.Sprint(p.contents()); got != fmt.Sprint(after) {
				t.Errorf("contents: got %s, want %s", got, after)
			}
			p.wantNoLeaks()
		})
		if t.Failed() {
			return
		}
	}
}

// Outputs of many buffers go through a pipeline: what fails in it, or stops it, leaves nothing, and no goroutine.
func TestLargeOutputSurvivesFailure(t *testing.T) {
	body := []byte(strings.Repeat("0123456789abcdef", 4<<20/16))
	sha := compact.Naming{Algorithm: algorithm(t, "sha256"), Prefix: "packs"}
	op := compact.Operation{Ranges: []compact.Range{{Key: "a", Offset: 1, Length: 4<<20 - 1}}, Naming: sha, Deletes: []string{"a"}}
	share := sampling.NewShare(t, 3)
	for _, fault := range []error{syscall.EIO, syscall.ENOSPC} {
		for n, hit := 1, true; hit; n++ {
			if !share.Takes() {
				continue
			}
			t.Run(fmt.Sprintf("%v/%d", fault, n), func(t *testing.T) {
				failing := vfstest.NewFailing(vfs.OS())
				p := newFixture(t, func(so *datadir.Options, _ *compact.Options) { so.FS, so.Index.FS = failing, vfs.OS() })
				p.put("a", body)
				before := runtime.NumGoroutine()
				failing.Reset()
				failing.FailAt(n, vfstest.Before, fault)
				_, err := p.run(op)
				hit = failing.Hit()
				for i := 0; runtime.NumGoroutine() > before+1; i++ { // the reclaimer may be at work
					if time.Sleep(time.Millisecond); i > 30_000 {
						t.Fatalf("goroutines: %d before, %d after", before, runtime.NumGoroutine())
					}
				}
				failing.Reset()
				p.reopen()
				if err != nil {
					p.wantKeys("a")
					p.wantNoLeaks()
				}
				key := p.mustRun(op)[0].Key
				p.want(key, string(body[1:]))
				p.wantKeys(key)
				p.wantNoLeaks()
			})
			if t.Failed() {
				return
			}
		}
	}
}

// onCall calls fn before every call that makes, links or syncs.
type onCall struct {
	vfs.FS
	fn func()
}

func (f onCall) Create(name string) (vfs.File, error) { f.fn(); return f.FS.Create(name) }
func (f onCall) Link(from, to string) error           { f.fn(); return f.FS.Link(from, to) }
func (f onCall) SyncDir(name string) error            { f.fn(); return f.FS.SyncDir(name) }
