package bench_test

import (
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"packhouse/bench"
)

func TestDisturbedRunSaysSo(t *testing.T) {
	sample := func(round int, seconds, other float64) bench.Sample {
		return bench.Sample{Round: round, Seconds: seconds, OtherLoad: other, Operations: []bench.Operation{{Name: "put", Requests: 100, Items: 100}}}
	}
	tests := []struct {
		name             string
		samples          []bench.Sample
		run, load, wide  string // parts of what is said
		nothing, skipped bool
	}{
		{name: "quiet", samples: []bench.Sample{sample(1, 1, 0.05), sample(2, 1.1, 0), sample(3, 1.2, 0.1)}, nothing: true},
		{name: "load", samples: []bench.Sample{sample(1, 1, 0.05), sample(2, 1, 0.5), sample(3, 1, 0.1)},
			run: "in 1 of 3 samples", load: "others used 0.5 cores in round 2 of a"},
		{name: "spread", samples: []bench.Sample{sample(1, 1, 0), sample(2, 1, 0), sample(3, 2, 0)},
			run: "1 figures have a spread above a third", wide: "differ by 50 %"},
		{name: "no sample", skipped: true, nothing: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &bench.Run{Machine: bench.Machine{Cores: 2}, Settings: bench.Settings{Rounds: 3}, Workloads: []bench.WorkloadRun{
				{Name: "put", Measure: bench.Rate, Servers: []bench.ServerRun{{Server: "a", Samples: tt.samples}}},
			}}
			bench.JudgeRun(r)
			w := r.Workloads[0]
			for what, said := range map[string][2]string{
				"run": {strings.Join(r.Disturbed, "; "), tt.run}, "workload": {strings.Join(w.Disturbed, "; "), tt.load},
				"server": {strings.Join(w.Servers[0].Disturbed, "; "), tt.wide},
			} {
				if !strings.Contains(said[0], said[1]) || said[1] == "" && said[0] != "" {
					t.Errorf("%s: got %q, want %q", what, said[0], said[1])
				}
			}
			if (len(r.Disturbed) == 0) != tt.nothing || (w.Servers[0].Skipped != "") != tt.skipped {
				t.Errorf("disturbed: %v, skipped: %q", r.Disturbed, w.Servers[0].Skipped)
			}
		})
	}
}

func TestMemoryIsNoDisk(t *testing.T) {
	r := &bench.Run{Machine: bench.Machine{FileSystem: "tmpfs (rw)"}}
	bench.JudgeRun(r)
	if len(r.Disturbed) != 1 || !strings.Contains(r.Disturbed[0], "memory") {
		t.Errorf("got %v", r.Disturbed)
	}
}

// Other processes' load is seen, and the server's own processor time.
func TestUsage(t *testing.T) {
	store, err := bench.StartStore(t.Context(), t.TempDir(), ownServers(t)[2], 0)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Remove()
	before, err := store.CPU()
	if err != nil {
		t.Fatal(err)
	}
	others, err := store.OthersSince()
	if err != nil {
		t.Fatal(err)
	}
	other := exec.Command("sh", "-c", "while :; do :; done")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer other.Wait()
	defer other.Process.Kill()
	d, free := store.Connect(1)
	defer free()
	for deadline := time.Now().Add(time.Minute); ; {
		if _, err := d.List(t.Context()); err != nil {
			t.Fatal(err)
		}
		after, err := store.CPU()
		if err != nil {
			t.Fatal(err)
		}
		load, err := others()
		if err != nil {
			t.Fatal(err)
		}
		if used := after.Total() - before.Total(); used > 0.02 && load > 0.2 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server used %v s, others %v cores", after.Total()-before.Total(), load)
		}
	}
}

func TestTimeline(t *testing.T) {
	now := time.Unix(1000, 0)
	r := bench.NewRecorder(time.Second, func() time.Time { return now })
	for _, wait := range []time.Duration{10, 20, 30, 250, 1, 1000, 50} { // milliseconds until the next request ends
		now = now.Add(wait * time.Millisecond)
		r.Tick()
	}
	now = now.Add(2 * time.Second) // nothing more ends
	got := r.Timeline()
	want := &bench.Timeline{StepSeconds: 1, StallSeconds: 0.1, Requests: []int64{5, 2}, LongestStall: 2,
		Stalls: []bench.Span{{At: 0.06, Seconds: 0.25}, {At: 0.311, Seconds: 1}, {At: 1.361, Seconds: 2}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
