package report_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"packhouse/bench"
	"packhouse/bench/report"
)

// older is a run before the stored one, on another kernel: puts took Packhouse 1.7 times as long, and one workload ran
// on a quicker machine.
func older(t testing.TB) *bench.Run {
	t.Helper()
	run := stored(t)
	run.Program, run.Machine.Kernel = "v1.1.0", "6.12.1"
	for i := range run.Workloads {
		w := &run.Workloads[i]
		for j := range w.Servers {
			s := &w.Servers[j]
			factor := 1.0
			switch {
			case w.Name == "get8k@1":
				factor = 0.8
			case w.Kind == "put" && s.Server == "packhouse":
				factor = 1.7
			}
			for k := range s.Samples {
				s.Samples[k].Seconds *= factor
				s.Samples[k].Server.User *= factor
				s.Samples[k].Server.System *= factor
			}
			s.Summarize()
		}
	}
	return run
}

func compared(t *testing.T, old, new *bench.Run) string {
	t.Helper()
	var b strings.Builder
	if err := report.Compare(old, new).Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestCompare(t *testing.T) { golden(t, "compare.txt", compared(t, older(t), stored(t))) }

// A run that is compared with itself has not changed.
func TestCompareWithItself(t *testing.T) {
	c := report.Compare(stored(t), stored(t))
	if len(c.Differences)+len(c.Lost)+len(c.Gained)+len(c.Failed) != 0 {
		t.Errorf("differences %v, lost %v, gained %v, failed %v", c.Differences, c.Lost, c.Gained, c.Failed)
	}
	if len(c.Changes) < 100 {
		t.Errorf("only %d figures were compared", len(c.Changes))
	}
	for _, x := range c.Changes {
		if x.Verdict != report.Noise || x.Ratio != 1 {
			t.Errorf("%s, %s, %s: verdict %v, ratio %v", x.Workload.Name, x.Server, x.Measure, x.Verdict, x.Ratio)
		}
	}
}

// one is a run of one workload, which took each round as long as said.
func one(m bench.Measure, seconds ...float64) *bench.Run {
	s := bench.ServerRun{Server: "packhouse"}
	for i, v := range seconds {
		s.Samples = append(s.Samples, bench.Sample{Round: i + 1, Seconds: v, Operations: []bench.Operation{{Name: "put", Requests: 100, Items: 100, Bytes: 1e9}}})
	}
	s.Summarize()
	return &bench.Run{Version: bench.RunVersion, Settings: bench.Settings{Mode: "default", Rounds: len(seconds), Scale: 1},
		Servers:   []bench.ServerInfo{{Name: "packhouse"}},
		Workloads: []bench.WorkloadRun{{Name: "put", Kind: "put", Measure: m, Servers: []bench.ServerRun{s}}}}
}

func TestVerdicts(t *testing.T) {
	tests := []struct {
		name     string
		measure  bench.Measure
		old, new []float64 // seconds
		verdict  report.Verdict
		better   bool
	}{
		{"the same", bench.Rate, []float64{1, 2, 3}, []float64{1, 2, 3}, report.Noise, false},
		{"overlapping", bench.Seconds, []float64{1, 2, 3}, []float64{2.9, 4, 5}, report.Noise, false},
		// Without overlap, but near: three rounds do that by chance in one of ten figures.
		{"beside each other", bench.Seconds, []float64{1, 2, 3}, []float64{3.5, 4, 5}, report.Noise, false},
		{"apart", bench.Seconds, []float64{1, 1.1, 1.2}, []float64{2, 2.1, 2.2}, report.Apart, false},
		{"apart and quicker", bench.Seconds, []float64{2, 2.1, 2.2}, []float64{1, 1.1, 1.2}, report.Apart, true},
		// More a second is better, and less time is more a second.
		{"more a second", bench.Rate, []float64{2, 2.1, 2.2}, []float64{1, 1.1, 1.2}, report.Apart, true},
		{"less throughput", bench.Throughput, []float64{1, 1.1, 1.2}, []float64{2, 2.1, 2.2}, report.Apart, false},
		{"many rounds", bench.Seconds, []float64{1, 1.1, 1.2, 1.3, 1.4}, []float64{1.5, 1.6, 1.7, 1.8, 1.9}, report.Beyond, false},
		{"many rounds that overlap", bench.Seconds, []float64{1, 1.1, 1.2, 1.3, 1.4}, []float64{1.05, 1.15, 1.25, 1.35, 1.45}, report.Noise, false},
		{"one round", bench.Seconds, []float64{1}, []float64{9}, report.Noise, false},
		{"two rounds", bench.Seconds, []float64{1, 1}, []float64{9, 9}, report.Noise, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := report.Compare(one(tt.measure, tt.old...), one(tt.measure, tt.new...))
			i := slices.IndexFunc(c.Changes, func(x report.Change) bool { return x.Measure == tt.measure })
			if i < 0 {
				t.Fatalf("the figure is not among %+v", c.Changes)
			}
			if x := c.Changes[i]; x.Verdict != tt.verdict || x.Verdict != report.Noise && x.Better() != tt.better {
				t.Errorf("got verdict %v, better %v (p=%v), want %v, %v", x.Verdict, x.Better(), x.P, tt.verdict, tt.better)
			}
		})
	}
}

// Of runs that differ by chance alone, less than one figure in twenty is called changed, whatever the number of rounds.
func TestChanceIsNoChange(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, rounds := range [][2]int{{3, 3}, {3, 4}, {3, 5}, {4, 4}, {5, 5}} {
		t.Run(fmt.Sprint(rounds), func(t *testing.T) {
			draw := func(n int) (all []float64) {
				for range n {
					all = append(all, 10+random.NormFloat64())
				}
				return all
			}
			changed, found := 0, 0
			const trials = 3000
			for range trials {
				old := draw(rounds[0])
				if report.Compare(one(bench.Seconds, old...), one(bench.Seconds, draw(rounds[1])...)).Changes[0].Verdict != report.Noise {
					changed++
				}
				slower := draw(rounds[1])
				for i := range slower {
					slower[i] += 10
				}
				if report.Compare(one(bench.Seconds, old...), one(bench.Seconds, slower...)).Changes[0].Verdict != report.Noise {
					found++
				}
			}
			if part := float64(changed) / trials; part > 0.06 { // 0.05, and what chance does to 3000 trials
				t.Errorf("%.3f of what did not change is called changed", part)
			}
			if part := float64(found) / trials; part < 0.95 {
				t.Errorf("of what takes twice as long, ten times its noise, only %.3f is called changed", part)
			}
		})
	}
}

// Where the floor changed too, the machine is blamed.
func TestFloorIsBlamed(t *testing.T) {
	c := report.Compare(older(t), stored(t))
	blamed, own := 0, 0
	for _, x := range c.Changes {
		switch {
		case x.Verdict == report.Noise || x.Server == "floor":
			if x.Floor != 0 {
				t.Errorf("%s, %s: blames the floor", x.Workload.Name, x.Server)
			}
		case x.Workload.Name == "get8k@1":
			blamed++
			if x.Floor >= 1 || x.Floor == 0 {
				t.Errorf("%s, %s, %s: floor %v, want below 1", x.Workload.Name, x.Server, x.Measure, x.Floor)
			}
		default:
			own++
			if x.Server != "packhouse" || x.Floor != 0 || !x.Better() {
				t.Errorf("%s, %s, %s: better %v, floor %v", x.Workload.Name, x.Server, x.Measure, x.Better(), x.Floor)
			}
		}
	}
	if blamed < 5 || own < 5 {
		t.Errorf("%d changes are blamed on the floor, %d are not", blamed, own)
	}
}

// What differs between the runs is said before any figure.
func TestRunsThatAreNotAlike(t *testing.T) {
	old, run := stored(t), stored(t)
	old.Machine.CPU, old.Machine.Cores, old.Machine.FileSystem = "another", 64, "xfs"
	old.Settings.Mode = "quick"
	old.Servers[4].Durable = false
	old.Servers[5].Version = "0.1"
	old.Servers = append(old.Servers, bench.ServerInfo{Name: "gone"})
	w, _ := old.Workload("put8k@8")
	w.Size = 200
	s, _ := old.Workload("put8k@64")
	s.Servers[0].Samples[0].Operations[0].Failures = 7
	run.Workloads = slices.DeleteFunc(run.Workloads, func(w bench.WorkloadRun) bool { return w.Name == "compact" })
	old.Workloads = slices.DeleteFunc(old.Workloads, func(w bench.WorkloadRun) bool { return w.Name == "get8k@64" })
	c := report.Compare(old, run)
	for _, x := range c.Changes {
		if x.Workload.Name == "put8k@8" {
			t.Errorf("figures of different workloads are compared: %+v", x)
		}
	}
	for name, text := range map[string]string{"text": compared(t, old, run), "page": page(t, run, old)} {
		text = strings.ReplaceAll(text, "&#43;", "+")
		first := strings.Index(text, "measure")
		for _, words := range []string{"processor: another before, AMD EPYC now", "cores: 64 before, 2 now", "file system: xfs before", "mode: quick before, default now",
			"rest-server: answers before it syncs before, syncs before it answers now", "version of vykar: 0.1 before", "gone: not in the new run",
			"put8k@8 is not the same workload in both runs", "put8k@64, packhouse: 7 requests failed before, 0 now", "compact: not in the new run", "get8k@64"} {
			if at := strings.Index(text, words); at < 0 || first > 0 && at > first && words != "get8k@64" {
				t.Errorf("%s: %q is at %d, the first table at %d", name, words, at, first)
			}
		}
	}
}

// A server that had a figure and has none now is not passed over.
func TestLostFigures(t *testing.T) {
	run := stored(t)
	w, _ := run.Workload("put8k@8")
	s, _ := w.Server("packhouse")
	s.Samples, s.Summaries, s.Skipped = nil, nil, "it did not start"
	if c := report.Compare(stored(t), run); !slices.Contains(c.Lost, "put8k@8, packhouse: it did not start") {
		t.Errorf("lost are %q", c.Lost)
	}
	if c := report.Compare(run, stored(t)); !slices.Contains(c.Gained, "put8k@8, packhouse") {
		t.Errorf("gained are %q", c.Gained)
	}
}
