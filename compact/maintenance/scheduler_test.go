package maintenance_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/compact"
	"packhouse/compact/maintenance"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/recovery"
)

// server is a set of repositories with an engine and a scheduler, inside a synctest bubble: its clock
// begins at midnight UTC, 1 January 2000.
type server struct {
	t         *testing.T
	dir       string
	o         datadir.Options // but for Dir
	set       *datadir.Set
	engine    *compact.Engine
	scheduler *maintenance.Scheduler
}

func (s *server) start(o maintenance.Options) {
	s.t.Helper()
	s.o.Dir = s.dir
	s.set = datadir.Open(s.o)
	s.engine = compact.New(compact.Options{Window: o.Config.Window.Next})
	o.Set, o.Engine, o.Config.Zone = s.set, s.engine, time.UTC
	var err error
	if s.scheduler, err = maintenance.Start(o); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) stop() {
	s.t.Helper()
	for what, close := range map[string]func() error{"scheduler": s.scheduler.Close} {
		if err := close(); err != nil {
			s.t.Errorf("close %s: %v", what, err)
		}
	}
	if err := s.engine.Close(); err != nil {
		s.t.Errorf("close engine: %v", err)
	}
	if err := s.set.Close(); err != nil {
		s.t.Errorf("close set: %v", err)
	}
}

func (s *server) create(name string) *repo.Repository {
	s.t.Helper()
	r, err := s.set.Create(context.Background(), name, "test")
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func directory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "packhouse-test-") // in memory: syncs prove nothing here
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

var quiet = maintenance.Config{Scrub: "off", Snapshots: "off", Vacuum: "off", Expiry: "off", Jitter: -1}

// runs collects when a task ran.
type runs struct {
	takes func(name string) time.Duration // nil: no time

	mu    sync.Mutex
	times []string
	now   map[string]int // under way, by repository
	most  int            // of one repository
	all   int            // of all
}

func (r *runs) task(schedule string) maintenance.Task {
	r.now = make(map[string]int)
	return maintenance.Task{Name: "test", Schedule: schedule, Run: func(ctx context.Context, name string, _ *repo.Repository) error {
		r.mu.Lock()
		r.now[name]++
		r.most = max(r.most, r.now[name])
		sum := 0
		for _, n := range r.now {
			sum += n
		}
		r.all = max(r.all, sum)
		r.times = append(r.times, name+" "+time.Now().UTC().Format("2 15:04"))
		r.mu.Unlock()
		if r.takes != nil {
			time.Sleep(r.takes(name))
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.now[name]--
		return nil
	}}
}

// wantRuns is for runs that have ended. Those of different repositories are in no order.
func wantRuns(t *testing.T, r *runs, want ...string) {
	t.Helper()
	slices.Sort(r.times)
	if fmt.Sprint(r.times) != fmt.Sprint(want) {
		t.Errorf("runs: got %q, want %q", r.times, want)
	}
	if r.most > 1 || r.all > 2 {
		t.Errorf("%d runs of a repository at once, %d of all", r.most, r.all)
	}
}

func TestTaskRunsAtItsTimes(t *testing.T) {
	dir := directory(t)
	synctest.Test(t, func(t *testing.T) {
		s := &server{t: t, dir: dir}
		var r runs
		s.start(maintenance.Options{Config: quiet, Tasks: []maintenance.Task{r.task("30 3 * * *")}})
		s.create("a")
		time.Sleep(50 * time.Hour)
		s.create("b")
		time.Sleep(24 * time.Hour)
		s.stop()
		wantRuns(t, &r, "a 1 03:30", "a 2 03:30", "a 3 03:30", "b 3 03:30")
	})
}

// What was missed while the server was down runs once when it is back.
func TestMissedRuns(t *testing.T) {
	dir := directory(t)
	synctest.Test(t, func(t *testing.T) {
		s := &server{t: t, dir: dir}
		var r runs
		o := maintenance.Options{Config: quiet, Tasks: []maintenance.Task{r.task("30 3 * * *")}}
		s.start(o)
		s.create("a")
		time.Sleep(4 * time.Hour)
		s.stop()
		time.Sleep(72 * time.Hour)
		s.start(o)
		time.Sleep(24 * time.Hour)
		s.stop()
		s.start(o) // a restart is no reason to run again
		time.Sleep(time.Hour)
		s.stop()
		wantRuns(t, &r, "a 1 03:30", "a 4 04:00", "a 5 03:30")
	})
}

// A run that takes longer than its interval is followed by the next time of the schedule, not by all it missed.
func TestNoOverlap(t *testing.T) {
	dir := directory(t)
	synctest.Test(t, func(t *testing.T) {
		s := &server{t: t, dir: dir}
		r := runs{takes: func(string) time.Duration { return 150 * time.Minute }}
		s.start(maintenance.Options{Config: quiet, Tasks: []maintenance.Task{r.task("0 * * * *")}})
		s.create("a")
		time.Sleep(9 * time.Hour)
		s.stop()
		// Missed at 02:00 and 03:00 is made up for once.
		wantRuns(t, &r, "a 1 01:00", "a 1 03:30", "a 1 06:00", "a 1 08:30")
	})
}

// A long run in one repository does not put off those of the others; two long ones do: two at once is enough.
func TestRepositoriesDoNotWaitForEachOther(t *testing.T) {
	dir := directory(t)
	synctest.Test(t, func(t *testing.T) {
		s := &server{t: t, dir: dir}
		r := runs{takes: func(name string) time.Duration {
			return map[string]time.Duration{"long": 5*time.Hour - time.Minute, "other": 10 * time.Minute}[name]
		}}
		s.start(maintenance.Options{Config: quiet, Tasks: []maintenance.Task{r.task("0 */2 * * *")}})
		for _, name := range []string{"long", "a", "b", "other"} {
			s.create(name)
		}
		time.Sleep(7*time.Hour + 30*time.Minute)
		s.stop()
		for i, run := range r.times { // who waits for "other" is a little late
			r.times[i] = strings.TrimSuffix(run, run[len(run)-2:])
		}
		wantRuns(t, &r, "a 1 02:", "a 1 04:", "a 1 06:", "b 1 02:", "b 1 04:", "b 1 06:",
			"long 1 02:", "long 1 06:", "other 1 02:", "other 1 04:", "other 1 06:")
	})
}

// Tasks that wait for a disk that does not answer do not put off those of repositories on another.
func TestDisksDoNotWaitForEachOther(t *testing.T) {
	dir := directory(t)
	synctest.Test(t, func(t *testing.T) {
		s := &server{t: t, dir: dir}
		s.o.FileSystem = func(at string) string { return strings.TrimRight(filepath.Base(at), "123") }
		r := runs{takes: func(name string) time.Duration {
			return map[string]time.Duration{"slow1": 100 * time.Hour, "slow2": 100 * time.Hour}[name]
		}}
		s.start(maintenance.Options{Config: quiet, Tasks: []maintenance.Task{r.task("0 */2 * * *")}})
		for _, name := range []string{"slow1", "slow2", "fast"} {
			s.create(name)
		}
		time.Sleep(7 * time.Hour)
		s.stop()
		slices.Sort(r.times)
		if want := []string{"fast 1 02:00", "fast 1 04:00", "fast 1 06:00", "slow1 1 02:00", "slow2 1 02:00"}; !slices.Equal(r.times, want) {
			t.Errorf("runs: got %q, want %q", r.times, want)
		}
	})
}

func TestJobWaitsForTheWindow(t *testing.T) {
	dir := directory(t)
	window, err := maintenance.ParseWindow("22:00-02:00", time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s := &server{t: t, dir: dir}
		config := quiet
		config.Window = window
		s.start(maintenance.Options{Config: config})
		a := s.create("a").As(repo.Principal{Name: "u"})
		time.Sleep(3 * time.Hour)
		_, err := a.Put(t.Context(), repo.PutRequest{Key: "x", Body: strings.NewReader("xxx"), Size: 3})
		if err != nil {
			t.Fatal(err)
		}
		ids := make(map[string]string)
		for when, target := range map[string]string{compact.WhenWindow: "w", "2000-01-02T12:00:00Z": "t"} {
			plan := s.engine.NewPlan(compact.Limits{})
			op := compact.Operation{Ranges: []compact.Range{{Key: "x", Offset: 0, Length: 2}}, Target: target}
			if err := plan.Add(op); err != nil {
				t.Fatal(err)
			}
			job, err := s.engine.Submit(t.Context(), a, plan, when, false)
			if err != nil {
				t.Fatal(err)
			}
			ids[target] = job.ID
			if err := plan.Close(); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(time.Hour)
		s.stop() // both survive it
		s.start(maintenance.Options{Config: config})
		r, err := s.set.Get(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		for target, want := range map[string]string{"w": "2000-01-01T22:00:00Z", "t": "2000-01-02T12:00:00Z"} {
			job, err := s.engine.Await(t.Context(), r, ids[target])
			if err != nil || job.State != compact.Done || job.Started.UTC().Format(time.RFC3339) != want {
				t.Errorf("job of %s: got %+v, %v, want it to begin at %s", target, job, err, want)
			}
		}
		s.stop()
	})
}

// The parts of a rolling scrub cover the repository, and begin again at its end.
func TestRollingScrub(t *testing.T) {
	dir := directory(t)
	synctest.Test(t, func(t *testing.T) {
		s := &server{t: t, dir: dir}
		s.start(maintenance.Options{Config: maintenance.Config{Snapshots: "off", ScrubShare: 0.25, Jitter: -1}})
		r := s.create("a")
		a := r.As(repo.Principal{})
		for i := range 8 {
			_, err := a.Put(t.Context(), repo.PutRequest{Key: fmt.Sprintf("k%d", i), Body: strings.NewReader("12345678"), Size: 8})
			if err != nil {
				t.Fatal(err)
			}
		}
		var cursors []string
		for range 5 {
			time.Sleep(24 * time.Hour)
			cursor, err := r.Meta("scrub.after")
			if err != nil {
				t.Fatal(err)
			}
			cursors = append(cursors, string(cursor))
		}
		if want := []string{"k1", "k3", "k5", "", "k1"}; fmt.Sprint(cursors) != fmt.Sprint(want) {
			t.Errorf("cursors: got %q, want %q", cursors, want)
		}
		jobs, err := s.engine.Jobs(t.Context(), r)
		if err != nil || len(jobs) != 5 {
			t.Fatalf("jobs: got %+v, %v", jobs, err)
		}
		for _, job := range jobs {
			if job.State != compact.Done || job.Progress.Read != 16 || job.Progress.Operations != 2 || job.Principal != "maintenance" {
				t.Errorf("job: got %+v, want 16 bytes of 2 items read", job)
			}
		}
		s.stop()
	})
}

// A vacuum is queued at its time, where a log has something to win back, and no job where it has not.
func TestVacuumAtItsTime(t *testing.T) {
	dir := directory(t)
	synctest.Test(t, func(t *testing.T) {
		s := &server{t: t, dir: dir}
		s.o.Small, s.o.Index.SegmentSize = index.MaxPayload, 1<<20
		config := quiet
		config.Vacuum = ""
		s.start(maintenance.Options{Config: config})
		r := s.create("a")
		a := r.As(repo.Principal{})
		var keys []string
		for i := range 40 {
			keys = append(keys, fmt.Sprintf("packs/%02d", i))
			_, err := a.Put(t.Context(), repo.PutRequest{Key: keys[i], Body: strings.NewReader(strings.Repeat("x", 64<<10)), Size: 64 << 10})
			if err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(24 * time.Hour)
		if jobs, err := s.engine.Jobs(t.Context(), r); err != nil || len(jobs) != 0 {
			t.Errorf("jobs while all is needed: got %+v, %v", jobs, err)
		}
		if _, err := a.DeleteAll(t.Context(), keys[1:]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(48 * time.Hour)
		jobs, err := s.engine.Jobs(t.Context(), r)
		if err != nil || len(jobs) != 1 || jobs[0].Kind != compact.Vacuum || jobs[0].State != compact.Done || jobs[0].Progress.Operations != 1 || jobs[0].Principal != "maintenance" {
			t.Errorf("jobs: got %+v, %v, want one vacuum of a segment", jobs, err)
		}
		if u, err := r.LogUsage(); err != nil || u.Items != 1 || u.Segments > 2 {
			t.Errorf("log: got %+v, %v", u, err)
		}
		s.stop()
	})
}

func TestSnapshotsAreKept(t *testing.T) {
	dir := directory(t)
	synctest.Test(t, func(t *testing.T) {
		s := &server{t: t, dir: dir}
		s.start(maintenance.Options{Config: maintenance.Config{Scrub: "off", Keep: 2, Jitter: -1}})
		s.create("a")
		time.Sleep(4 * 24 * time.Hour)
		kept, err := recovery.Snapshots(vfs.OS(), filepath.Join(dir, "a"))
		if err != nil || len(kept) != 2 {
			t.Errorf("snapshots: got %+v, %v, want 2", kept, err)
		}
		s.stop()
	})
}

// A repository that cannot be opened keeps the others from nothing, and does not fill the log.
func TestTroubleIsToldOnce(t *testing.T) {
	dir := directory(t)
	synctest.Test(t, func(t *testing.T) {
		s := &server{t: t, dir: dir}
		var r runs
		var log bytes.Buffer
		o := maintenance.Options{Config: quiet, Tasks: []maintenance.Task{r.task("30 3 * * *")}}
		s.start(o)
		s.create("a")
		s.create("b")
		s.stop()
		if err := os.WriteFile(filepath.Join(dir, "a", "index.db"), []byte("not an index"), 0o600); err != nil {
			t.Fatal(err)
		}
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		s.start(o)
		time.Sleep(5 * time.Hour)
		s.stop()
		wantRuns(t, &r, "b 1 03:30")
		if n := strings.Count(log.String(), "could not open the repository"); n != 1 {
			t.Errorf("log: got %d lines, want one: %.300s", n, log.String())
		}
	})
}

func TestStartReportsEveryFault(t *testing.T) {
	_, err := maintenance.Start(maintenance.Options{Config: maintenance.Config{Scrub: "x", Snapshots: "y", Expiry: "off"}})
	if err == nil || !strings.Contains(err.Error(), "scrub") || !strings.Contains(err.Error(), "snapshot") {
		t.Errorf("got %v, want both faults", err)
	}
	if _, err := maintenance.Start(maintenance.Options{Config: maintenance.Config{ScrubShare: 2}}); err == nil {
		t.Error("a share of 2 is accepted")
	}
}

// TestClockThatWasAhead: after a clock that was a year ahead has been corrected, tasks run at their next times, also without a restart.
func TestClockThatWasAhead(t *testing.T) {
	dir := directory(t)
	synctest.Test(t, func(t *testing.T) {
		s := &server{t: t, dir: dir}
		var r runs
		var ahead atomic.Int64
		ahead.Store(int64(365 * 24 * time.Hour))
		now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		s.start(maintenance.Options{Config: quiet, Now: now, Tasks: []maintenance.Task{r.task("30 3 * * *")}})
		s.create("a")
		time.Sleep(4 * time.Hour) // it runs a year ahead
		ahead.Store(0)
		time.Sleep(24 * time.Hour)
		s.stop()
		wantRuns(t, &r, "a 1 03:30", "a 2 03:30")
	})
}

// TestEndsAreTold: the end of each run of a task is told, with its error.
func TestEndsAreTold(t *testing.T) {
	dir := directory(t)
	synctest.Test(t, func(t *testing.T) {
		s := &server{t: t, dir: dir}
		var told []string
		broken := errors.New("broken")
		fails := true
		task := maintenance.Task{Name: "test", Schedule: "30 3 * * *", Run: func(context.Context, string, *repo.Repository) error {
			if fails {
				return broken
			}
			return nil
		}}
		s.start(maintenance.Options{Config: quiet, Tasks: []maintenance.Task{task}, Ended: func(repository, task string, err error) {
			told = append(told, fmt.Sprint(repository, " ", task, " ", err))
			fails = false
		}})
		s.create("a")
		time.Sleep(30 * time.Hour)
		s.stop()
		if want := []string{"a test broken", "a test <nil>"}; !slices.Equal(told, want) {
			t.Errorf("got %q, want %q", told, want)
		}
	})
}
