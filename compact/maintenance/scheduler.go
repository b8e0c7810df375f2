package maintenance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"packhouse/compact"
	"packhouse/repo"
)

// Config is the configuration of maintenance. The zero value works. Schedules are cron expressions of five fields, descriptors
// such as @daily or "@every 6h", or "off".
type Config struct {
	Window     Window
	Zone       *time.Location // nil means the machine's
	Jitter     time.Duration  // runs begin up to this much later; 0 means 10 minutes, negative none
	Scrub      string         // "" means daily at the window's beginning, or at 03:00
	ScrubShare float64        // part of a repository's bytes that one scrub reads; 0 means 1/30
	Snapshots  string         // of indexes; "" means daily, as Scrub
	Keep       int            // snapshots kept for each repository; 0 means 3
	Vacuum     string         // of logs; "" means daily, as Scrub
	Expiry     string         // of locks and of old jobs, and the record of the growth; "" means every hour
}

// Task is a maintenance task of a repository with its own schedule.
type Task struct {
	Name     string // one word; the last run is remembered under it
	Schedule string
	Run      func(ctx context.Context, name string, r *repo.Repository) error
}

// Repositories are those that are maintained.
type Repositories interface {
	Names() ([]string, error)
	// Get opens a repository, if it is not open yet: repo.ErrNoRepository when it is gone.
	Get(ctx context.Context, name string) (*repo.Repository, error)
	// FileSystem names the file system of a repository, without a look at it.
	FileSystem(name string) string
}

// Jobs carries out what takes long, or waits for a time, see compact.Engine.
type Jobs interface {
	Resume(ctx context.Context, r *repo.Repository) error
	SubmitScrub(ctx context.Context, r *repo.Repository, principal string, share float64, when string) (compact.Job, error)
	SubmitVacuum(ctx context.Context, r *repo.Repository, principal, when string) (compact.Job, error)
	Prune(ctx context.Context, r *repo.Repository) error
}

var _ Jobs = (*compact.Engine)(nil)

// Options of Start. Set and Engine are required.
type Options struct {
	Set    Repositories
	Engine Jobs
	Config Config
	Tasks  []Task // besides our own
	// Ended is called when a task has run, with its error. nil: nobody wants to know.
	Ended  func(repository, task string, err error)
	Now    func() time.Time // nil means time.Now
	Logger *slog.Logger     // nil means silence
}

// lookInterval is the longest time between two searches for new repositories.
const lookInterval = time.Minute

// atOnce is in how many repositories of a file system tasks run at the same time: a long snapshot of one does not delay all others, and most of
// the machine remains available for clients. File systems do not wait for each other: one of them may not answer.
const atOnce = 2

// Scheduler runs tasks between Start and Close.
type Scheduler struct {
	o     Options
	tasks []task
	stop  context.CancelFunc
	done  sync.WaitGroup

	mu       sync.Mutex               // held for a look at the maps only
	attended map[string]bool          // by name; guarded by mu
	slots    map[string]chan struct{} // by file system: a token per repository that has its round; guarded by mu
}

type task struct {
	Task
	schedule *schedule
}

// Start starts the scheduler. Its error contains every fault of the configuration.
func Start(o Options) (*Scheduler, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Ended == nil {
		o.Ended = func(string, string, error) {}
	}
	s := &Scheduler{o: o, slots: make(map[string]chan struct{}), attended: make(map[string]bool)}
	tasks, err := s.ownTasks()
	if err != nil {
		return nil, err
	}
	var faults []error
	for _, t := range append(tasks, o.Tasks...) {
		times, err := parseSchedule(t.Schedule, zone(o.Config.Zone), jitter(o.Config.Jitter))
		if err != nil {
			faults = append(faults, fmt.Errorf("maintenance: %s: %w", t.Name, err))
		}
		if times != nil {
			s.tasks = append(s.tasks, task{t, times})
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.done.Go(func() { s.run(ctx) })
	return s, nil
}

// Close stops the scheduler and waits for running tasks. Jobs continue, because they belong to the engine.
func (s *Scheduler) Close() error {
	s.stop()
	s.done.Wait()
	return nil
}

func zone(z *time.Location) *time.Location {
	if z == nil {
		return time.Local
	}
	return z
}

func jitter(d time.Duration) time.Duration {
	if d == 0 {
		return 10 * time.Minute
	}
	return max(d, 0)
}

// ownTasks are the tasks of every server.
func (s *Scheduler) ownTasks() ([]Task, error) {
	c := s.o.Config
	share, keep := c.ScrubShare, c.Keep
	if share == 0 {
		share = 1.0 / 30
	}
	if keep == 0 {
		keep = 3
	}
	if !(share > 0 && share <= 1) || keep < 1 {
		return nil, errors.New("maintenance: a scrub reads a share above 0, at most 1, and at least one snapshot is kept")
	}
	daily := "0 3 * * *"
	if !c.Window.always() {
		daily = fmt.Sprintf("%d %d * * *", c.Window.from.minute, c.Window.from.hour)
	}
	or := func(text, otherwise string) string {
		if text == "" {
			return otherwise
		}
		return text
	}
	return []Task{
		{"expiry", or(c.Expiry, "@hourly"), func(ctx context.Context, _ string, r *repo.Repository) error {
			return errors.Join(r.ExpireLocks(ctx), s.o.Engine.Prune(ctx, r), r.RecordGrowth(ctx))
		}},
		{"snapshot", or(c.Snapshots, daily), func(ctx context.Context, _ string, r *repo.Repository) error {
			_, err := r.Snapshot(ctx, keep)
			return err
		}},
		{"scrub", or(c.Scrub, daily), func(ctx context.Context, _ string, r *repo.Repository) error {
			_, err := s.o.Engine.SubmitScrub(ctx, r, "maintenance", share, compact.WhenWindow)
			return err
		}},
		{"vacuum", or(c.Vacuum, daily), func(ctx context.Context, _ string, r *repo.Repository) error {
			_, err := s.o.Engine.SubmitVacuum(ctx, r, "maintenance", compact.WhenWindow)
			return err
		}},
	}, nil
}

// run starts a worker for every repository, and looks for new repositories every lookInterval.
func (s *Scheduler) run(ctx context.Context) {
	for ok := true; ok; ok = sleep(ctx, lookInterval) {
		names, err := s.o.Set.Names()
		if err != nil {
			s.o.Logger.Error("maintenance: could not list the repositories", "error", err)
		}
		for _, name := range names {
			s.attend(ctx, name)
		}
	}
}

// sleep returns false when ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}

// attend starts a goroutine for the tasks of a repository, which ends when the repository no longer exists, unless there is one already.
func (s *Scheduler) attend(ctx context.Context, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attended[name] {
		return
	}
	s.attended[name] = true
	w := &worker{Scheduler: s, name: name, last: make(map[string]time.Time)}
	s.done.Go(func() {
		for {
			next, there := w.round(ctx)
			if !there || !sleep(ctx, min(next.Sub(s.o.Now()), lookInterval)) {
				break
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.attended, name)
	})
}

// worker runs the tasks of one repository. Its methods are for one goroutine.
type worker struct {
	*Scheduler
	name    string
	last    map[string]time.Time // when a task last ran, by repository ID and task
	trouble string               // what was last said of a repository that cannot be used
}

// slotsOf are those of the file system of a repository.
func (s *Scheduler) slotsOf(name string) chan struct{} {
	fileSystem := s.o.Set.FileSystem(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	slots := s.slots[fileSystem]
	if slots == nil {
		slots = make(chan struct{}, atOnce)
		s.slots[fileSystem] = slots
	}
	return slots
}

// round runs the tasks that are due, and returns when the next one is due. It waits while tasks run in atOnce other repositories of the
// file system. there is false if the repository no longer exists or ctx has ended.
func (w *worker) round(ctx context.Context) (next time.Time, there bool) {
	slots := w.slotsOf(w.name)
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return next, false
	}
	next = w.o.Now().Add(lookInterval)
	r, err := w.o.Set.Get(ctx, w.name)
	if err == nil && r.ReadOnlyDisk() {
		w.trouble = ""
		return next, true // until it is mounted otherwise
	}
	if err == nil {
		err = w.o.Engine.Resume(ctx, r)
	}
	switch {
	case ctx.Err() != nil || errors.Is(err, repo.ErrNoRepository):
		return next, false
	case err != nil:
		if w.trouble != err.Error() {
			w.trouble = err.Error() // once, not with every look
			w.o.Logger.Warn("maintenance: could not open the repository", "repository", w.name, "error", err)
		}
		return next, true
	}
	w.trouble = ""
	for _, t := range w.tasks {
		if at := w.perform(ctx, r, t); at.Before(next) {
			next = at
		}
	}
	return next, true
}

// perform runs a task if it is due, and returns when it is due next.
func (w *worker) perform(ctx context.Context, r *repo.Repository, t task) time.Time {
	last := w.lastRun(ctx, r, t)
	key := r.ID() + " " + t.Name
	at := t.schedule.after(last, key)
	now := w.o.Now()
	if at.After(now) || ctx.Err() != nil {
		return at
	}
	err := t.Run(ctx, w.name, r)
	if err != nil && ctx.Err() != nil {
		return at // it runs again after the restart
	}
	w.o.Ended(w.name, t.Name, err)
	if err != nil {
		w.o.Logger.Error("maintenance task failed; it runs again at its next scheduled time", "task", t.Name, "repository", w.name, "error", err)
	} else {
		w.o.Logger.Debug("maintenance task done", "task", t.Name, "repository", w.name)
	}
	w.remember(ctx, r, t, now)
	return t.schedule.after(now, key)
}

func metaName(t task) string { return "maintenance." + t.Name }

// lastRun returns when the task last ran; for a new repository it is now, so that the first run is at the next time of the schedule.
func (w *worker) lastRun(ctx context.Context, r *repo.Repository, t task) time.Time {
	key := r.ID() + " " + t.Name
	// A clock that was once set wrong must not put maintenance off for ever. What is compared are the times that clocks showed:
	// schedules go by those.
	now := w.o.Now().Round(0)
	if last, ok := w.last[key]; ok && !last.After(now) {
		return last
	}
	value, err := r.Meta(metaName(t))
	if err == nil {
		if ms, err := strconv.ParseInt(string(value), 10, 64); err == nil {
			if last := time.UnixMilli(ms); !last.After(now) {
				w.last[key] = last
				return last
			}
		}
	}
	w.remember(ctx, r, t, now)
	return now
}

// remember stores the time of a run, so that it is known after a restart.
func (w *worker) remember(ctx context.Context, r *repo.Repository, t task, at time.Time) {
	w.last[r.ID()+" "+t.Name] = at.Round(0)
	err := r.SetMeta(context.WithoutCancel(ctx), metaName(t), []byte(strconv.FormatInt(at.UnixMilli(), 10)))
	if err != nil && !errors.Is(err, repo.ErrReadOnly) && !errors.Is(err, repo.ErrBusy) && !errors.Is(err, repo.ErrLoss) {
		w.o.Logger.Warn("could not store the time of a maintenance task; it may run again after a restart", "task", t.Name, "error", err)
	}
}
