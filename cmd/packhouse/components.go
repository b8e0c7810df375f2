package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"packhouse/api"
	"packhouse/api/admin"
	"packhouse/api/alert"
	"packhouse/api/borgstore"
	"packhouse/api/holder"
	"packhouse/api/local"
	"packhouse/api/restic"
	"packhouse/api/vger"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/compact"
	"packhouse/compact/maintenance"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/layout"
	"packhouse/repo/policy"
)

// components are the repositories of a directory and the protocols they are reached by.
type components struct {
	set       *datadir.Set
	engine    *compact.Engine
	dialects  []api.Dialect
	admin     http.Handler
	scheduler *maintenance.Scheduler // nil: this process does no maintenance
	alerts    *alert.Monitor         // nil: this process sends none
}

// openComponents puts together what a server is made of. Repositories are opened when first asked for. busy
// tells how many requests are being answered, activity what was seen of a client; nil: nothing is known.
func openComponents(o serverOptions, busy func() int, activity func(repository, principal, address string) api.Activity) (components, error) {
	tasks, window, err := maintenanceConfig(o.Maintenance)
	if err != nil {
		return components{}, err
	}
	next := window.Next
	if !o.Maintain {
		// The window is the server's, which knows when it is; a process that comes and goes does not.
		next = func(now time.Time) time.Time { return now.AddDate(1, 0, 0) }
	}
	// Not the system's directory for such files: that is memory on many machines, and these can be large.
	temporary := layout.ServerDir(o.Claim.Dir)
	if o.Claim.ReadOnly {
		temporary = ""
	}
	var r components
	authorize := func(repository *repo.Repository, name string, p repo.Principal, trusted bool) repo.Principal {
		if trusted {
			return p
		}
		dialect := ""
		if repository != nil {
			dialect = repository.Dialect()
		}
		return o.narrow(name, dialect, p, false)
	}
	if o.Alerts != nil {
		r.alerts = alert.New(*o.Alerts)
	}
	r.engine = compact.New(compact.Options{
		Workers: int(o.Maintenance.Workers), Rate: o.Maintenance.Rate, Keep: o.Maintenance.KeepResults,
		Window: next, Busy: busy, TempDir: temporary, Logger: o.Log, Ended: r.jobEnded(),
		Authorize: func(repository *repo.Repository, p repo.Principal, trusted bool) repo.Principal {
			name, err := r.set.NameOf(repository)
			if err != nil {
				p.Permissions = policy.Nothing() // it was taken away this moment
				return p
			}
			return authorize(repository, name, p, trusted)
		},
	})
	o.restic = restic.New(restic.Options{Metrics: o.ResticMetrics, Object: o.Limits.ItemBytes})
	r.set = datadir.Open(o.setOptions(r.engine))
	r.dialects = o.dialects(r.engine, temporary)
	r.admin = admin.New(admin.Options{
		Set: r.set, Removals: r.set, Check: local.CheckFromAfar, Dialects: dialectNames(nil), Engine: r.engine, Locks: inspectLocks, Break: endLock, Activity: activity, Tokens: o.Tokens, UserName: o.UserName, Alerts: r.alerts,
		Limits: o.planLimits(), Authorize: authorize,
	})
	if o.Maintain {
		r.scheduler, err = maintenance.Start(maintenance.Options{
			Set: r.set, Engine: r.engine, Config: tasks, Logger: o.Log, Tasks: o.Tasks, Ended: r.taskEnded(),
		})
	}
	if err != nil {
		return components{}, errors.Join(err, r.close())
	}
	if r.alerts != nil {
		r.alerts.Start(r.set)
	}
	return r, nil
}

// collectors have the metrics of what the server is made of.
func (r *components) collectors() []prometheus.Collector {
	all := []prometheus.Collector{r.engine.Collector()}
	if r.alerts != nil {
		all = append(all, r.alerts)
	}
	return all
}

// planLimits are those of our own API.
func (o *serverOptions) planLimits() compact.Limits {
	return compact.Limits{
		Operations: int(o.Maintenance.PlanOperations), Ranges: int(o.Maintenance.PlanRanges),
		Output: o.Maintenance.PlanOutput, PlanBytes: o.Maintenance.PlanBytes,
	}
}

// jobEnded has jobs that have failed told.
func (r *components) jobEnded() func(*repo.Repository, compact.Job) {
	if r.alerts == nil {
		return nil
	}
	alerts, set := r.alerts, &r.set
	return func(repository *repo.Repository, job compact.Job) {
		name, err := (*set).NameOf(repository)
		if err != nil {
			return // it was taken away this moment
		}
		text := ""
		switch {
		case job.State == compact.Done:
		case job.Fault != nil:
			text = fmt.Sprintf("the last %s has failed: %s; packhouse job list shows it", job.Kind, job.Fault.Message)
		default:
			text = fmt.Sprintf("the last %s is %s: packhouse job list shows it", job.Kind, job.State)
		}
		alerts.JobEnded(name, string(job.Kind), text)
	}
}

// taskEnded does the same with tasks of maintenance.
func (r *components) taskEnded() func(repository, task string, err error) {
	if r.alerts == nil {
		return nil
	}
	return func(repository, task string, err error) {
		text := ""
		if err != nil {
			text = fmt.Sprintf("the last run of the maintenance task %s has failed: the server's log says why", task)
		}
		r.alerts.JobEnded(repository, "task "+task, text)
	}
}

// setOptions are those of the repositories, whose jobs are the engine's.
func (o *serverOptions) setOptions(engine *compact.Engine) datadir.Options {
	options := datadir.Options{
		Dir: o.Claim.Dir, Single: o.Single, Settings: o.settings, Environment: repo.Environment{FS: o.FS, Logger: o.Log, Small: smallItems, Unchecked: o.Unchecked},
		Identity: o.Identity, InPlace: o.Claim.Attached, Detached: o.detached, Reattach: o.reattach,
		Destroyed: func(repository *repo.Repository) {
			engine.Abandon(repository)
			if o.Destroyed != nil {
				o.Destroyed()
			}
		},
		GaveUp: func(repository *repo.Repository) {
			engine.Abandon(repository)
			if o.GaveUp != nil {
				o.GaveUp()
			}
		},
	}
	if !o.Alone { // a command looks when it is asked to
		options.Environment.Sweep = sweepInterval
	}
	if !o.Single { // the holder of a single one would ask itself
		options.TakeOver = func(ctx context.Context, dir string) error { return holder.TakeOver(ctx, dir, takeOverPatience) }
	}
	return options
}

// dialects are the protocols by which clients reach the repositories. temporary is a directory for what does not fit into memory.
func (o *serverOptions) dialects(engine *compact.Engine, temporary string) []api.Dialect {
	if o.ResticOnly {
		return []api.Dialect{o.restic}
	}
	all := []api.Dialect{borgstore.New(borgstore.Options{Engine: engine, TempDir: temporary})}
	if o.Single { // other clients come over the network only
		return all
	}
	return append(all, o.restic, vger.New(vger.Options{
		Engine: engine, LockTTL: func(name string) time.Duration { return o.Policy(name).LockTTL },
		Limits: vger.Limits{
			Pack: o.Limits.ItemBytes, Object: o.Limits.ItemBytes,
			AdminBody: o.Maintenance.PlanBytes, Operations: int(o.Maintenance.PlanOperations),
			KeepBlobs: int(o.Maintenance.PlanRanges), Output: o.Maintenance.PlanOutput,
		},
	}))
}

// maintenanceConfig is the configuration of maintenance as its package wants it.
func maintenanceConfig(m config.Maintenance) (maintenance.Config, maintenance.Window, error) {
	zone := time.Local
	if m.TimeZone != "" {
		var err error
		if zone, err = time.LoadLocation(m.TimeZone); err != nil {
			return maintenance.Config{}, maintenance.Window{}, fmt.Errorf("time zone %q: %w", m.TimeZone, err)
		}
	}
	window, err := maintenance.ParseWindow(m.Window, zone)
	return maintenance.Config{
		Window: window, Zone: zone, Jitter: m.Jitter, Scrub: m.Scrub, ScrubShare: m.ScrubShare,
		Snapshots: m.Snapshots, Keep: int(m.SnapshotsKept), Vacuum: m.Vacuum,
	}, window, err
}

// smallItems is the size up to which an item is stored in the log, with one write and one sync: above it the bytes cost more than a file does,
// and would be written once more by a vacuum.
const smallItems = 128 << 10

// sweepInterval is how often the names of the files of each repository are compared with its index.
const sweepInterval = time.Hour

// takeOverPatience is below what clients wait for an answer.
const takeOverPatience = 20 * time.Second

// jobsPatience is how long the end waits for jobs that wait for a disk. Others end at once.
const jobsPatience = 10 * time.Second

// close ends maintenance and plans under way, then closes the repositories. A disk that does not answer holds it up for a limited time: what
// was acknowledged is durable, and a job that has not ended has changed nothing that the next start does not find.
func (r components) close() error {
	if r.alerts != nil {
		r.alerts.Close()
	}
	ended := make(chan error, 1)
	go func() {
		var err error
		if r.scheduler != nil {
			err = r.scheduler.Close()
		}
		ended <- errors.Join(err, r.engine.Close())
	}()
	var err error
	select {
	case err = <-ended:
	case <-time.After(jobsPatience):
		err = errors.New("maintenance or a job has not ended, as a disk does not answer")
	}
	return errors.Join(err, r.set.Close())
}

// inspectLocks shows what clients hold in a repository, by the rules of its dialect.
func inspectLocks(ctx context.Context, a *repo.Access, w *api.LockWindow) ([]api.LockInfo, error) {
	switch a.Repository().Dialect() {
	case vger.Name:
		return vger.InspectLocks(ctx, a, w)
	case restic.Name:
		return restic.InspectLocks(ctx, a, w)
	}
	return borgstore.InspectLocks(ctx, a, w)
}

// endLock breaks one of them.
func endLock(ctx context.Context, a *repo.Access, l api.LockInfo) error {
	if a.Repository().Dialect() == vger.Name {
		return vger.BreakLock(ctx, a, l)
	}
	return borgstore.BreakLock(ctx, a, l)
}
