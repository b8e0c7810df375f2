package bench_test

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"packhouse/bench"
)

// TestSuite runs every workload, very small, against the real program.
func TestSuite(t *testing.T) {
	program := filepath.Join(t.TempDir(), "packhouse")
	if out, err := exec.Command("go", "build", "-o", program, "packhouse/cmd/packhouse").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	command := []string{program, "borgstore-server-rest"}
	var out, notes bytes.Buffer
	suite := bench.Suite{Dir: t.TempDir(), Scale: 0.002, Out: &out, Notes: &notes, Servers: []bench.Program{
		{Name: "packhouse", Command: command, Durable: true},
	}, VGer: bench.Program{Name: "packhouse", Command: []string{program, "serve"}, Durable: true, Many: true}}
	if err := bench.WriteMachine(&out, suite.Dir, "test"); err != nil {
		t.Fatal(err)
	}
	results, err := suite.Run(t.Context())
	if err != nil {
		t.Fatalf("%v\n%s", err, notes.String())
	}
	line := regexp.MustCompile(`(?m)^Benchmark\S+/server=packhouse \d+(\t[0-9.]+ \S+)+$`)
	if got, want := len(line.FindAllString(out.String(), -1)), len(results); got != want || want != 19 {
		t.Errorf("%d lines in the format of benchmarks for %d results, want 19 of each:\n%s", got, want, out.String())
	}
	for _, r := range results {
		for _, m := range r.Metrics {
			if m.Value <= 0 {
				t.Errorf("%s: %v %s, want more than nothing", r.Workload, m.Value, m.Unit)
			}
		}
	}
}

func TestRatios(t *testing.T) {
	results := []bench.Result{
		{Workload: "Put", Server: "a", Metrics: []bench.Metric{{Value: 300, Unit: "ops/s"}, {Value: 2, Unit: "p99-ms"}}},
		{Workload: "Put", Server: "b", Metrics: []bench.Metric{{Value: 100, Unit: "ops/s"}, {Value: 3, Unit: "p99-ms"}}},
		{Workload: "alone", Server: "a", Metrics: []bench.Metric{{Value: 1, Unit: "ms"}}},
	}
	var out strings.Builder
	if err := bench.WriteRatios(&out, results, "a", "b"); err != nil {
		t.Fatal(err)
	}
	const want = "ratio Put ops/s: a 300.0, b 100.0: 3.00x\nratio Put p99-ms: a 2.000, b 3.000: 1.50x\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
