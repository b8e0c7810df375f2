package report

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"golang.org/x/perf/benchmath"

	"packhouse/bench"
	"packhouse/internal/bytesize"
)

// Comparison is the difference between two runs.
type Comparison struct {
	Old, New *bench.Run
	// Differences are those of machine, options and servers: with any of them a change need not come from the program.
	Differences []string
	Changes     []Change // of all figures that both runs have, in the order of New
	Lost        []string // figures that only Old has, and why New has none
	Gained      []string // figures that only New has
	Failed      []string // where the number of failed requests changed
}

// Change is one figure in both runs.
type Change struct {
	Workload *bench.WorkloadRun // of New
	Server   string
	Measure  bench.Measure
	Old, New bench.Summary
	Few      bool    // too few rounds for the test
	Ratio    float64 // more than 1: better than in Old
	P        float64 // of the Mann-Whitney test: how often chance alone would put the rounds that far apart
	Verdict  Verdict
	Doubt    bool    // one of the figures was disturbed
	Floor    float64 // how much of Ratio the floor also changed by, beyond its noise, in the same direction; 0: it did not
}

// Verdict says how certain a change is, judged by the rounds of two runs.
type Verdict int

// The verdicts. Each run has noise of its own: a second pair of runs may differ from the first by more than the rounds of
// one run do, and no verdict knows that.
const (
	// Noise: the rounds overlap, or chance explains the change.
	Noise Verdict = iota
	// Apart: too few rounds for the test, but they do not overlap, and the gap between them is more than half of the wider spread. By
	// chance this happens to about one in forty figures of two times three rounds. Two rounds are never enough.
	Apart
	// Beyond: by the test, chance alone causes this in less than one in twenty cases.
	Beyond
)

// alpha is the part of unchanged figures that may be called changed.
const alpha = 0.05

// compared are the measures that are compared, beside the headline one of each workload.
var compared = []bench.Measure{bench.P99, bench.LongestStall, bench.ServerCPU, bench.PeakMemory}

// Compare finds what changed from old to new. Workloads are identified by their names, and compared only if they have the same
// parameters.
func Compare(old, new *bench.Run) *Comparison {
	c := &Comparison{Old: old, New: new, Differences: differences(old, new)}
	for i := range new.Workloads {
		w := &new.Workloads[i]
		before, ok := old.Workload(w.Name)
		if !ok {
			c.Gained = append(c.Gained, w.Name)
			continue
		}
		if text := changedWorkload(before, w); text != "" {
			c.Differences = append(c.Differences, text)
			continue
		}
		c.workload(before, w)
	}
	for i := range old.Workloads {
		if w := &old.Workloads[i]; !has(new, w.Name) {
			c.Lost = append(c.Lost, w.Name+": not in the new run")
		}
	}
	c.blameFloor()
	return c
}

func has(run *bench.Run, workload string) bool {
	_, ok := run.Workload(workload)
	return ok
}

// workload compares what each server did.
func (c *Comparison) workload(old, new *bench.WorkloadRun) {
	for i := range new.Servers {
		s := &new.Servers[i]
		before, ok := old.Server(s.Server)
		if !ok {
			continue // the servers differ, which Differences say
		}
		of := new.Name + ", " + s.Server
		_, had := before.Summary(old.Measure)
		_, have := s.Summary(new.Measure)
		switch {
		case had && !have:
			why := s.Skipped
			if why == "" {
				why = "no request succeeded"
			}
			c.Lost = append(c.Lost, of+": "+why)
		case have && !had:
			c.Gained = append(c.Gained, of)
		}
		if a, b := failures(before), failures(s); a != b {
			c.Failed = append(c.Failed, fmt.Sprintf("%s: %s failed before, %s now", of, counted(int(a), "request"), grouped(b)))
		}
		for _, m := range append([]bench.Measure{new.Measure}, compared...) {
			if change, ok := compareFigure(before, s, m); ok {
				change.Workload, change.Doubt = new, disturbed(old, before) || disturbed(new, s)
				c.Changes = append(c.Changes, change)
			}
		}
	}
}

// compareFigure compares one figure of a server, false where one of the runs has none above 0.
func compareFigure(old, new *bench.ServerRun, m bench.Measure) (Change, bool) {
	a, okA := old.Summary(m)
	b, okB := new.Summary(m)
	if !okA || !okB {
		return Change{}, false
	}
	r, ok := ratio(m, b.Median, a.Median)
	if !ok {
		return Change{}, false
	}
	c := Change{Server: new.Server, Measure: m, Old: a, New: b, Ratio: r}
	rounds := [2][]float64{values(old, m), values(new, m)}
	c.P, c.Verdict = judge(rounds[0], rounds[1])
	c.Few = leastP(len(rounds[0]), len(rounds[1])) > alpha
	return c, true
}

func values(s *bench.ServerRun, m bench.Measure) []float64 {
	var all []float64
	for i := range s.Samples {
		if v, ok := s.Samples[i].Value(m); ok {
			all = append(all, v)
		}
	}
	return all
}

// judge says whether the rounds differ by more than chance.
func judge(old, new []float64) (p float64, verdict Verdict) {
	if len(old) == 0 || len(new) == 0 {
		return 1, Noise
	}
	thresholds := benchmath.Thresholds{CompareAlpha: alpha}
	p = benchmath.AssumeNothing.Compare(benchmath.NewSample(slices.Clone(old), &thresholds), benchmath.NewSample(slices.Clone(new), &thresholds)).P
	switch {
	case p <= alpha:
		return p, Beyond
	case leastP(len(old), len(new)) > alpha && len(old) > 2 && len(new) > 2 && farApart(old, new):
		return p, Apart
	default:
		return p, Noise
	}
}

// leastP is the least that the test says of that many rounds: that of rounds which do not overlap.
func leastP(n, m int) float64 {
	orders := 1.0 // in which the rounds of both can stand
	for i := 1; i <= n; i++ {
		orders = orders * float64(m+i) / float64(i)
	}
	return 2 / orders
}

// farApart says whether more than half of the wider spread lies between the rounds.
func farApart(old, new []float64) bool {
	gap := max(slices.Min(new)-slices.Max(old), slices.Min(old)-slices.Max(new))
	wider := max(slices.Max(new)-slices.Min(new), slices.Max(old)-slices.Min(old))
	return gap > wider/2
}

// blameFloor notes where the floor changed too. It does the same in both runs unless it was changed itself, so that the
// machine is then the likely reason.
func (c *Comparison) blameFloor() {
	floor := floorOf(c.New)
	type figure struct {
		workload string
		measure  bench.Measure
	}
	moved := make(map[figure]float64)
	for _, x := range c.Changes {
		if x.Server == floor && x.Verdict != Noise {
			moved[figure{x.Workload.Name, x.Measure}] = x.Ratio
		}
	}
	for i := range c.Changes {
		x := &c.Changes[i]
		if r, ok := moved[figure{x.Workload.Name, x.Measure}]; ok && x.Server != floor && x.Verdict != Noise && (r > 1) == (x.Ratio > 1) {
			x.Floor = r
		}
	}
}

// Percent returns how much the figure changed, in percent of the old one.
func (c Change) Percent() float64 { return 100 * (c.New.Median/c.Old.Median - 1) }

// Better reports whether the change is an improvement.
func (c Change) Better() bool { return c.Ratio > 1 }

// Bounds returns the lowest and the highest value that Ratio could have with other rounds of both runs.
func (c Change) Bounds() (low, high float64) {
	a, okA := ratio(c.Measure, c.New.Min, c.Old.Max)
	b, okB := ratio(c.Measure, c.New.Max, c.Old.Min)
	if !okA || !okB {
		return c.Ratio, c.Ratio
	}
	return math.Min(a, b), math.Max(a, b)
}

// differences between the runs that can explain a change.
func differences(old, new *bench.Run) []string {
	var all []string
	differ := func(what string, a, b any) {
		if x, y := fmt.Sprint(a), fmt.Sprint(b); x != y {
			all = append(all, fmt.Sprintf("%s: %s before, %s now", what, x, y))
		}
	}
	a, b := old.Machine, new.Machine
	differ("system", a.OS+" "+a.Arch, b.OS+" "+b.Arch)
	differ("kernel", a.Kernel, b.Kernel)
	differ("processor", a.CPU, b.CPU)
	differ("cores", a.Cores, b.Cores)
	differ("memory", bytesize.Text(a.Memory), bytesize.Text(b.Memory))
	differ("file system", a.FileSystem, b.FileSystem)
	differ("Go", a.GoVersion, b.GoVersion)
	differ("mode", old.Settings.Mode, new.Settings.Mode)
	differ("rounds", old.Settings.Rounds, new.Settings.Rounds)
	differ("scale", old.Settings.Scale, new.Settings.Scale)
	for _, s := range new.Servers {
		before, ok := serverOf(old, s.Name)
		if !ok {
			all = append(all, s.Name+": not in the old run")
			continue
		}
		if !strings.HasPrefix(s.Name, "packhouse") { // that is what is compared
			differ("version of "+s.Name, before.Version, s.Version)
		}
		differ(s.Name, durability(before), durability(s))
	}
	for _, s := range old.Servers {
		if _, ok := serverOf(new, s.Name); !ok {
			all = append(all, s.Name+": not in the new run")
		}
	}
	return all
}

func serverOf(run *bench.Run, name string) (bench.ServerInfo, bool) {
	i := slices.IndexFunc(run.Servers, func(s bench.ServerInfo) bool { return s.Name == name })
	if i < 0 {
		return bench.ServerInfo{}, false
	}
	return run.Servers[i], true
}

// changedWorkload says how a workload of one name differs in two runs, empty if it does not.
func changedWorkload(a, b *bench.WorkloadRun) string {
	var all []string
	differ := func(what string, x, y any) {
		if x != y {
			all = append(all, fmt.Sprintf("%s %v before, %v now", what, x, y))
		}
	}
	differ("kind", a.Kind, b.Kind)
	differ("size", a.Size, b.Size)
	differ("connections", a.Connections, b.Connections)
	differ("items", a.Items, b.Items)
	differ("TLS", a.TLS, b.TLS)
	differ("figure", a.Measure, b.Measure)
	if len(all) == 0 {
		return ""
	}
	return fmt.Sprintf("%s is not the same workload in both runs (%s) and is not compared", b.Name, strings.Join(all, ", "))
}
