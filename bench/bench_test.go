package bench_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"packhouse/bench"
)

// run makes a run of these workloads, in which nothing may go wrong.
func run(t *testing.T, b bench.Bench) *bench.Run {
	t.Helper()
	b.Dir = t.TempDir()
	run, err := b.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(b.Dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("the run leaves %v behind (%v)", entries, err)
	}
	return run
}

// TestWorkloads runs every workload of the longest suite, very small, on each server of ours: each has its figures, and
// no request fails.
func TestWorkloads(t *testing.T) {
	r := run(t, bench.Bench{Servers: ownServers(t), Workloads: bench.Suite(bench.Long, 0.0005), Settings: bench.Settings{Mode: bench.Long, Rounds: 1}})
	seen := map[string]bool{}
	for _, w := range r.Workloads {
		seen[w.Kind] = true
		for _, s := range w.Servers {
			checkServerRun(t, r, w, s)
		}
	}
	want := []string{"batchdelete", "compact", "delete", "get", "list", "mixed", "open", "put", "range"}
	if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, want) {
		t.Errorf("kinds of workloads: got %v, want %v", got, want)
	}
	for _, w := range append(bench.Suite(bench.Quick, 1), bench.Suite(bench.Default, 1)...) {
		if a := w.About(); !seen[a.Kind] || a.Floor == "" || a.Title == "" || a.Cache == "" {
			t.Errorf("%s: %+v", a.Name, a)
		}
	}
}

func checkServerRun(t *testing.T, r *bench.Run, w bench.WorkloadRun, s bench.ServerRun) {
	t.Helper()
	if s.Skipped != "" {
		if w.Kind != "batchdelete" || s.Server == "packhouse-vger" || s.Server == "floor" { // only V'Ger's protocol has it, and the floor
			t.Errorf("%s, %s: skipped: %s", w.Name, s.Server, s.Skipped)
		}
		return
	}
	if len(s.Samples) != r.Settings.Rounds {
		t.Errorf("%s, %s: %d samples, want %d: %v", w.Name, s.Server, len(s.Samples), r.Settings.Rounds, s.Disturbed)
		return
	}
	x := s.Samples[0]
	if all := x.Total(); all.Failures > 0 || all.Requests < 1 {
		t.Errorf("%s, %s: %d requests, %d failures: %v", w.Name, s.Server, all.Requests, all.Failures, all.Errors)
	}
	for _, m := range []bench.Measure{w.Measure, bench.P99, bench.PeakMemory, bench.GeneratorCPU} {
		if got, ok := s.Summary(m); !ok || got.Median <= 0 {
			t.Errorf("%s, %s: %s is %v", w.Name, s.Server, m, got)
		}
	}
	if w.Kind == "list" && x.Total().Items < w.Items {
		t.Errorf("%s, %s: %d items listed, want %d", w.Name, s.Server, x.Total().Items, w.Items)
	}
	if w.Kind == "mixed" {
		checkTimeline(t, s.Server, x)
	}
}

func checkTimeline(t *testing.T, server string, x bench.Sample) {
	t.Helper()
	if x.Timeline == nil {
		t.Fatalf("mixed, %s: no timeline", server)
	}
	total := int64(0)
	for _, n := range x.Timeline.Requests {
		total += n
	}
	if all := x.Total(); total != all.Requests {
		t.Errorf("mixed, %s: the timeline has %d requests, the sample %d", server, total, all.Requests)
	}
	beside := map[string]bool{}
	for _, s := range x.Timeline.Beside {
		beside[s.Name] = true
		if s.Error != "" {
			t.Errorf("mixed, %s: %s beside the load: %s", server, s.Name, s.Error)
		}
	}
	if !beside["delete large items"] || strings.HasPrefix(server, "packhouse") && !beside["scrub"] {
		t.Errorf("mixed, %s: beside the load ran only %v", server, x.Timeline.Beside)
	}
}

// A snapshot is made beside a load that lasts long enough for one.
func TestMixedLoadWithSnapshot(t *testing.T) {
	w := bench.Mixed{Size: 8 << 10, Items: 20, Large: 1, LargeSize: 1 << 20, Connections: 4, Time: 4 * time.Second}
	r := run(t, bench.Bench{Servers: ownServers(t)[:1], Workloads: []bench.Workload{w}, Settings: bench.Settings{Rounds: 1}})
	x := r.Workloads[0].Servers[0].Samples[0]
	checkTimeline(t, "packhouse", x)
	if !slices.ContainsFunc(x.Timeline.Beside, func(s bench.Span) bool { return s.Name == "snapshot" }) {
		t.Errorf("no snapshot beside the load: %v", x.Timeline.Beside)
	}
	for _, name := range []string{"get", "put", "delete", "list"} {
		if !slices.ContainsFunc(x.Operations, func(o bench.Operation) bool { return o.Name == name && o.Requests > 0 }) {
			t.Errorf("the load has no %s", name)
		}
	}
}

// Peers that are installed run what a default run has for them.
func TestPeers(t *testing.T) {
	peers := installedPeers(t)
	if len(peers) == 0 {
		if os.Getenv("PACKHOUSE_STRICT") != "" { // CI installs borgstore
			t.Fatal("no peer is installed")
		}
		t.Skip("no peer is installed: make clients installs borgstore, make peers rest-server")
	}
	small := []bench.Workload{
		bench.Puts{Size: 200, Connections: 8, Time: time.Millisecond}, bench.Gets{Size: 200, N: 5, Part: 50, Connections: 1, Time: time.Millisecond},
		bench.Deletes{Size: 200, N: 10, Connections: 1}, bench.Compactions{Bytes: 1 << 20, PackBytes: 1 << 20}, bench.Lists{Items: 300},
		bench.Opens{Items: 300, N: 5, Kill: true},
	}
	r := run(t, bench.Bench{Servers: peers, Workloads: small, Settings: bench.Settings{Rounds: 1}})
	for _, w := range r.Workloads {
		for _, s := range w.Servers {
			if slow := w.Kind == "list" && s.Server == "borgstore"; slow && s.Skipped != "" {
				continue
			}
			if len(s.Samples) != 1 || s.Samples[0].Total().Requests == 0 {
				t.Errorf("%s, %s: %+v", w.Name, s.Server, s)
			}
		}
	}
}

// faulty fails every third deletion.
type faulty struct {
	bench.Driver
	n chan int
}

var errFaulty = errors.New("this one fails")

func (d faulty) Delete(ctx context.Context, name string) error {
	n := <-d.n
	d.n <- n + 1
	if n%3 == 2 {
		return errFaulty
	}
	return d.Driver.Delete(ctx, name)
}

// Requests that fail are counted, and are in no other figure; servers take turns, and each is first once.
func TestRounds(t *testing.T) {
	good := ownServers(t)[2]
	bad, none := good, good
	bad.Info.Name, none.Info.Name = "bad", "none"
	n := make(chan int, 1)
	n <- 0
	bad.Driver = func(c *bench.Client) bench.Driver { return faulty{good.Driver(c), n} }
	none.Command = func(bench.Start) (bench.Command, error) { return bench.Command{Args: []string{"false"}}, nil }
	var steps []bench.Progress
	r := run(t, bench.Bench{
		Servers:   []bench.Server{good, bad, none},
		Workloads: []bench.Workload{bench.Deletes{Size: 200, N: 9, Connections: 1}},
		Settings:  bench.Settings{Rounds: 3}, Progress: func(p bench.Progress) { steps = append(steps, p) },
	})
	w := r.Workloads[0]
	for i, s := range w.Servers[:2] {
		var positions []int
		for j, x := range s.Samples {
			positions = append(positions, x.Position)
			all := x.Total()
			if x.Round != j+1 || all.Failures != int64(3*i) || all.Requests != 9-all.Failures || all.Requests != all.Latency.Total() {
				t.Errorf("%s, round %d: %+v", s.Server, j+1, all)
			}
			if i == 1 && !slices.Contains(all.Errors, errFaulty.Error()) {
				t.Errorf("errors of failed requests: %v", all.Errors)
			}
		}
		if slices.Sort(positions); !slices.Equal(positions, []int{1, 2, 3}) {
			t.Errorf("%s: its positions in the rounds are %v", s.Server, positions)
		}
	}
	if s := w.Servers[2]; !strings.Contains(s.Skipped, "none ended at once") {
		t.Errorf("a server that does not start: %+v", s)
	}
	if len(steps) == 0 || steps[0].Done != 0 || steps[len(steps)-1].Done != steps[0].Total {
		t.Errorf("progress from %+v to %+v", steps[0], steps[len(steps)-1])
	}
}

// ending ends a run in the midst of its gets.
type ending struct {
	bench.Driver
	end func()
}

func (d ending) Get(ctx context.Context, name string, offset, length int64, w io.Writer) (int64, error) {
	n, err := d.Driver.Get(ctx, name, offset, length, w)
	d.end()
	return n, err
}

func (d ending) Fill(ctx context.Context, name string, body []byte) error {
	return d.Driver.(bench.Filler).Fill(ctx, name, body)
}

// A run that is broken off gives what was complete, and leaves nothing.
func TestRunEnds(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	servers := ownServers(t)
	s := servers[len(servers)-1] // the floor
	plain, gets := s.Driver, 0
	s.Driver = func(c *bench.Client) bench.Driver {
		return ending{plain(c), func() {
			if gets++; gets == 5 { // of one connection
				cancel()
			}
		}}
	}
	b := bench.Bench{Dir: dir, Servers: []bench.Server{s}, Settings: bench.Settings{Rounds: 1}, Workloads: []bench.Workload{
		bench.Puts{Size: 200, Connections: 1, Time: time.Millisecond}, bench.Gets{Size: 400, N: 5, Connections: 1, Time: time.Hour},
	}}
	r, err := b.Run(ctx)
	if !errors.Is(err, context.Canceled) || r == nil || len(r.Workloads) != 1 || r.Incomplete == "" {
		t.Errorf("got %+v, %v", r, err)
	}
	if entries, err := filepath.Glob(dir + "/*"); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// A run that the disk has no space for does not begin.
func TestNoSpace(t *testing.T) {
	b := bench.Bench{Dir: t.TempDir(), Servers: ownServers(t), Settings: bench.Settings{Rounds: 1},
		Workloads: []bench.Workload{bench.Lists{Items: math.MaxInt32}}}
	if r, err := b.Run(t.Context()); r != nil || err == nil || !strings.Contains(err.Error(), "iB free, the run may need ") {
		t.Errorf("got %v, %v", r, err)
	}
}

func TestSelect(t *testing.T) {
	suite := bench.Suite(bench.Default, 1)
	names := func(only ...string) string {
		t.Helper()
		chosen, err := bench.Select(suite, only)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, w := range chosen {
			names = append(names, w.About().Name)
		}
		return strings.Join(names, " ")
	}
	for only, want := range map[string]string{
		"put8k": "put8k@1 put8k@8 put8k@64", "get32m@4": "get32m@4", "list": "list10k list100k list1m", "mixed": "mixed",
		"growth-put": "growth-put@10k growth-put@1m", "open1m-killed": "open1m-killed", "put32m-tls": "put32m-tls@1",
	} {
		if got := names(only); got != want {
			t.Errorf("%s: got %s, want %s", only, got, want)
		}
	}
	if got, want := names("list100k", "delete8k@8"), "delete8k@8 list100k"; got != want {
		t.Errorf("two: got %s, want %s", got, want)
	}
	if all := strings.Fields(names()); len(all) != len(suite) || len(slices.Compact(slices.Sorted(slices.Values(all)))) != len(all) {
		t.Errorf("all: %v", all)
	}
	if _, err := bench.Select(suite, []string{"put8k", "nothing"}); err == nil || !strings.Contains(err.Error(), `"nothing"`) {
		t.Errorf("an unknown name: %v", err)
	}
}
