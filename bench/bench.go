package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"packhouse/internal/bytesize"
)

// Bench is the configuration of a run: which servers are measured with which workloads.
type Bench struct {
	Dir       string // a directory on the disk that matters; a scratch directory is made in it and removed
	Servers   []Server
	Workloads []Workload
	Settings  Settings // Rounds must be at least 1; the rest is only told in the Run
	Program   string   // release of the packhouse that is measured
	// Profiles is a directory for profiles of the servers that make some, one directory for each server, workload and round;
	// "": none. It must be empty.
	Profiles string
	// Progress is told before each step of the run; nil: nobody wants to know.
	Progress func(Progress)
}

// Progress is the progress of a run.
type Progress struct {
	Done, Total int // steps
	Step        string
}

// takesPart tells whether a server is measured with a workload, and else why not.
func (b *Bench) takesPart(s *Server, a About) (why string, ok bool) {
	if s.Peer && a.OwnOnly {
		return "measured on peers in a long run only", false
	}
	if slices.Contains(s.Slow, a.Kind) && b.Settings.Mode != Long {
		return "takes it so long that it is measured in a long run only", false
	}
	if a.TLS && !s.TLS {
		return "does not speak TLS", false
	}
	return "", true
}

// groups are the workloads that share a store, in order.
func (b *Bench) groups() [][]Workload {
	var groups [][]Workload
	for i, w := range b.Workloads {
		if i == 0 || w.About().Store != b.Workloads[i-1].About().Store {
			groups = append(groups, nil)
		}
		last := &groups[len(groups)-1]
		*last = append(*last, w)
	}
	return groups
}

// steps is how many steps a run has: a preparation for each store, and the samples.
func (b *Bench) steps() int {
	n := 0
	for _, w := range b.Workloads {
		for i := range b.Servers {
			if _, ok := b.takesPart(&b.Servers[i], w.About()); ok {
				n += b.Settings.Rounds
			}
		}
	}
	return n + len(b.groups())*len(b.Servers)
}

// perItem is what an item without bytes costs: its entry in a directory and in an index.
const perItem = 512

// Need returns how many bytes and files the run uses on the disk at most at a time. The estimate is on the high side.
func (b *Bench) Need() (bytes, files int64) {
	for _, group := range b.groups() {
		var filled, stay, once, items int64
		for _, w := range group {
			a := w.About()
			filled, items = max(filled, a.Disk), max(items, int64(a.Items))
			if a.Stays {
				stay += int64(b.Settings.Rounds) * a.DiskRound
			} else {
				once = max(once, a.DiskRound)
			}
		}
		n := int64(len(b.Servers))
		// What is removed after its sample may still be there when the next one runs, as servers remove files later.
		bytes = max(bytes, n*(filled+stay+items*perItem)+2*once)
		files = max(files, (n*(filled+stay)+2*once)/perFile)
	}
	return bytes + 64<<20, files + 10_000 // servers' own files
}

// checkSpace refuses a run that the disk has no space for.
func (b *Bench) checkSpace() error {
	bytes, files := b.Need()
	freeBytes, freeFiles, err := freeSpace(b.Dir)
	switch {
	case err != nil:
		return err
	case freeBytes < bytes:
		return fmt.Errorf("%s has %s free, the run may need %s; --only takes less", b.Dir, bytesize.Text(freeBytes), bytesize.Text(bytes))
	case freeFiles >= 0 && freeFiles < files:
		return fmt.Errorf("%s has space for %d files, the run may need %d; --only takes less", b.Dir, freeFiles, files)
	}
	return nil
}

// Run carries out the run. When ctx ends, or the scratch directory fails, it returns the results that are complete, and the
// error. If a single server cannot do something, that is no error but is noted in the Run. No files and no processes remain.
func (b *Bench) Run(ctx context.Context) (run *Run, err error) {
	if err := b.checkSpace(); err != nil {
		return nil, err
	}
	run = &Run{Version: RunVersion, Program: b.Program, Started: time.Now().UTC().Truncate(time.Second), Settings: b.Settings}
	if run.Machine, err = ThisMachine(b.Dir); err != nil {
		return nil, err
	}
	for _, s := range b.Servers {
		run.Servers = append(run.Servers, s.Info)
	}
	scratch, err := os.MkdirTemp(b.Dir, "packhouse-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	spread(scratch)
	identity, err := newIdentity(scratch)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	r := &runner{Bench: b, scratch: scratch, identity: identity, total: b.steps()}
	for _, group := range b.groups() {
		var measured []WorkloadRun
		if measured, err = r.group(ctx, group); err != nil {
			run.Incomplete = err.Error()
			break
		}
		run.Workloads = append(run.Workloads, measured...)
	}
	run.Seconds = time.Since(start).Seconds()
	run.judge()
	return run, err
}

// runner is a run under way.
type runner struct {
	*Bench
	scratch  string
	identity *identity
	names    nameCache
	done     int // steps
	total    int
}

func (r *runner) step(format string, args ...any) {
	r.tell(fmt.Sprintf(format, args...))
	r.done++
}

func (r *runner) tell(what string) {
	if r.Progress != nil {
		r.Progress(Progress{r.done, r.total, what})
	}
}

// contender is a server in a group: its store, or why it has none.
type contender struct {
	server *Server
	store  *Store
	fault  error
}

// group measures the workloads of one store on all servers.
func (r *runner) group(ctx context.Context, group []Workload) (measured []WorkloadRun, err error) {
	r.names = nameCache{}
	measured = make([]WorkloadRun, len(group))
	for i, w := range group {
		measured[i] = w.About().run()
		measured[i].Servers = make([]ServerRun, len(r.Servers))
	}
	contenders := make([]contender, len(r.Servers))
	defer func() {
		r.tell("remove the stores")
		for _, c := range contenders {
			if c.store != nil {
				err = errors.Join(err, c.store.remove())
			}
		}
	}()
	for i := range contenders {
		c := &contenders[i]
		c.server = &r.Servers[i]
		r.prepare(ctx, c, group, func(w int) *ServerRun { return &measured[w].Servers[i] })
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	for round := 1; round <= r.Settings.Rounds; round++ {
		for w := range group {
			for position := range contenders {
				i := (position + round - 1) % len(contenders)
				if err := r.sample(ctx, &contenders[i], group[w], &measured[w].Servers[i], round, position+1); err != nil {
					return nil, err
				}
			}
		}
	}
	for i := range measured {
		measured[i].judge(r.Settings.Rounds)
	}
	return measured, nil
}

// prepare makes and fills the store of a contender. What fails is why it is skipped.
func (r *runner) prepare(ctx context.Context, c *contender, group []Workload, into func(w int) *ServerRun) {
	r.step("%s: prepare %s", c.server.Info.Name, group[0].About().Store)
	any := false
	for i, w := range group {
		s := into(i)
		s.Server = c.server.Info.Name
		why, ok := r.takesPart(c.server, w.About())
		s.Skipped = why
		any = any || ok
	}
	if !any {
		return
	}
	c.store, c.fault = newStore(ctx, r.scratch, *c.server, &r.names, r.identity, group[0].About().Items)
	if c.fault == nil {
		c.fault = c.store.start(ctx, startOptions{})
	}
	for i, w := range group {
		s := into(i)
		if s.Skipped != "" {
			continue
		}
		err := c.fault
		if err == nil {
			err = w.Prepare(ctx, c.store)
		}
		if err != nil {
			s.Skipped = err.Error()
		}
	}
	if c.store != nil {
		c.fault = errors.Join(c.fault, c.store.stop())
	}
}

// sample measures once. A fault of the server is noted; only the end of ctx is an error.
func (r *runner) sample(ctx context.Context, c *contender, w Workload, into *ServerRun, round, position int) error {
	a := w.About()
	if _, ok := r.takesPart(c.server, a); ok {
		r.step("%s: %s, round %d of %d", c.server.Info.Name, a.Name, round, r.Settings.Rounds)
	}
	if into.Skipped != "" {
		return ctx.Err()
	}
	x, err := r.once(ctx, c.store, w, round)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		into.Disturbed = append(into.Disturbed, fmt.Sprintf("round %d: %v", round, err))
	}
	if len(x.Operations) > 0 {
		x.Round, x.Position = round, position
		into.Samples = append(into.Samples, x)
	}
	return nil
}

// once starts the server, takes a sample, and stops the server.
func (r *runner) once(ctx context.Context, s *Store, w Workload, round int) (x Sample, err error) {
	runtime.GC() // what was made for the last sample is not to be swept in this one
	a := w.About()
	if a.Cold {
		x, err = w.Sample(ctx, s, round)
		return x, errors.Join(err, s.stop())
	}
	o := startOptions{tls: a.TLS, snapshotEvery: a.SnapshotEvery}
	if r.Profiles != "" {
		o.profile = filepath.Join(r.Profiles, fmt.Sprintf("%s-%s-%d", a.Name, s.Server.Info.Name, round))
	}
	if err := s.start(ctx, o); err != nil {
		return x, err
	}
	if a.Items > 0 {
		err = s.settle(ctx)
	}
	if err == nil {
		x, err = w.Sample(ctx, s, round)
	}
	if !s.process.alive() {
		err = errors.Join(err, fmt.Errorf("%s ended: %w\n%s", s.Server.Info.Name, s.process.err, s.process.lastWords()))
	}
	return x, errors.Join(err, s.stop())
}

// run is the beginning of a WorkloadRun.
func (a About) run() WorkloadRun {
	return WorkloadRun{Name: a.Name, Kind: a.Kind, Title: a.Title, Size: a.Size, Connections: a.Connections, Items: int64(a.Items),
		TLS: a.TLS, Measure: a.Measure, Curve: a.Curve, Cache: a.Cache, Floor: a.Floor}
}
