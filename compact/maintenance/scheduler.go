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

// Config is what an administrator decides. The zero value works. Schedules are cron expressions of five
// fields, descriptors such as @daily or "@every 6h", or "off".
type Config struct {
	Window     Window
	Zone       *time.Location // nil means the machine's
	Jitter     time.Duration  // runs begin up to this much later; 0 means 10 minutes, negative none
	Scrub      string         // "" means daily at the window's beginning, or at 03:00
	ScrubShare float64        // part of a repository's bytes that one scrub reads; 0 means 1/30
	Snapshots  string         // of indexes; "" means daily, as Scrub
	Keep       int            // snapshots kept for each repository; 0 means 3
	Expiry     string         // of locks and of old jobs; "" means every hour
}

// Task is housekeeping of a repository with a schedule of its own.
type Task struct {
	Name     string // one word; the last run is remembered under it
	Schedule string
	Run      func(ctx context.Context, name string, r *repo.Repository) error
}

// Options of Start. Set and Engine are required.
type Options struct {
	Set    *repo.Set
	Engine *compact.Engine
	Config Config
	Tasks  []Task           // besides our own
	Now    func() time.Time // nil means time.Now
	Logger *slog.Logger     // nil means silence
}

// lookInterval is how often the scheduler looks for repositories that are new, at least.
const lookInterval = time.Minute

// Scheduler is at work between Start and Close.
type Scheduler struct {
	o     Options
	tasks []task
	stop  context.CancelFunc
	done  sync.WaitGroup

	// last is when a task last ran in a repository, by repository ID and task; trouble is what was last said of
	// a repository that cannot be used, by name. Of the goroutine alone.
	last    map[string]time.Time
	trouble map[string]string
}

type task struct {
	Task
	schedule *schedule
}

// Start begins. It reports every fault of the configuration.
func Start(o Options) (*Scheduler, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Scheduler{o: o, last: make(map[string]time.Time), trouble: make(map[string]string)}
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

// Close stops and waits for what is under way. Jobs go on: they are the engine's.
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

// ownTasks are those that every server has.
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
			return errors.Join(r.ExpireLocks(ctx), s.o.Engine.Prune(ctx, r))
		}},
		{"snapshot", or(c.Snapshots, daily), func(ctx context.Context, _ string, r *repo.Repository) error {
			_, err := r.Snapshot(ctx, keep)
			return err
		}},
		{"scrub", or(c.Scrub, daily), func(ctx context.Context, _ string, r *repo.Repository) error {
			_, err := s.o.Engine.SubmitScrub(ctx, r, "maintenance", share, compact.WhenWindow)
			return err
		}},
	}, nil
}

// run looks at all repositories whenever something may be due.
func (s *Scheduler) run(ctx context.Context) {
	for {
		next := s.round(ctx)
		timer := time.NewTimer(max(min(next.Sub(s.o.Now()), lookInterval), 0))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// round does what is due, and returns when something is due next.
func (s *Scheduler) round(ctx context.Context) time.Time {
	next := s.o.Now().Add(lookInterval)
	names, err := s.o.Set.Names()
	if err != nil {
		s.o.Logger.Error("maintenance: repositories cannot be listed", "error", err)
		return next
	}
	for _, name := range names {
		if ctx.Err() != nil {
			return next
		}
		r, err := s.o.Set.Get(ctx, name)
		if err == nil {
			err = s.o.Engine.Resume(ctx, r)
		}
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, repo.ErrNoRepository) && s.trouble[name] != err.Error() {
				s.trouble[name] = err.Error() // once, not with every look
				s.o.Logger.Warn("maintenance: repository cannot be used", "repository", name, "error", err)
			}
			continue
		}
		delete(s.trouble, name)
		for _, t := range s.tasks {
			if at := s.perform(ctx, name, r, t); at.Before(next) {
				next = at
			}
		}
	}
	return next
}

// perform runs a task if it is due, and returns when it is due next.
func (s *Scheduler) perform(ctx context.Context, name string, r *repo.Repository, t task) time.Time {
	last := s.lastRun(ctx, r, t)
	key := r.ID() + " " + t.Name
	at := t.schedule.after(last, key)
	now := s.o.Now()
	if at.After(now) || ctx.Err() != nil {
		return at
	}
	if err := t.Run(ctx, name, r); err != nil {
		if ctx.Err() != nil {
			return at // it runs again after the restart
		}
		s.o.Logger.Error("maintenance failed; next try at its next time", "task", t.Name, "repository", name, "error", err)
	} else {
		s.o.Logger.Debug("maintenance done", "task", t.Name, "repository", name)
	}
	s.remember(ctx, r, t, now)
	return t.schedule.after(now, key)
}

func metaName(t task) string { return "maintenance." + t.Name }

// lastRun is when the task last ran; for a repository that is new to us, now: its first
// run is at the first time of the schedule.
func (s *Scheduler) lastRun(ctx context.Context, r *repo.Repository, t task) time.Time {
	key := r.ID() + " " + t.Name
	if last, ok := s.last[key]; ok {
		return last
	}
	now := s.o.Now()
	value, err := r.Index().Meta(metaName(t))
	if err == nil {
		if ms, err := strconv.ParseInt(string(value), 10, 64); err == nil {
			// A clock that was once set wrong must not put maintenance off for ever.
			if last := time.UnixMilli(ms); !last.After(now) {
				s.last[key] = last
				return last
			}
		}
	}
	s.remember(ctx, r, t, now)
	return now
}

// remember keeps the time of a run, also over a restart.
func (s *Scheduler) remember(ctx context.Context, r *repo.Repository, t task, at time.Time) {
	s.last[r.ID()+" "+t.Name] = at
	err := r.SetMeta(context.WithoutCancel(ctx), metaName(t), []byte(strconv.FormatInt(at.UnixMilli(), 10)))
	if err != nil && !errors.Is(err, repo.ErrReadOnly) && !errors.Is(err, repo.ErrBusy) {
		s.o.Logger.Warn("time of maintenance cannot be stored", "task", t.Name, "error", err)
	}
}
