package bench_test

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"packhouse/bench"
)

// A stored run has no field that we do not know, is written as it was read, and its summaries follow from its samples.
func TestStoredRun(t *testing.T) {
	text, err := os.ReadFile("testdata/run.json")
	if err != nil {
		t.Fatal(err)
	}
	strict := json.NewDecoder(bytes.NewReader(text))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&bench.Run{}); err != nil {
		t.Fatal(err)
	}
	run, err := bench.ReadRun(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if err := run.Write(&again); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.Bytes(), text) {
		t.Errorf("written again, the run differs from testdata/run.json:\n%s", again.String())
	}
	for _, w := range run.Workloads {
		if len(w.Servers) != len(run.Servers) {
			t.Errorf("%s: %d servers, want all %d", w.Name, len(w.Servers), len(run.Servers))
		}
		for _, s := range w.Servers {
			if _, ok := s.Summary(w.Measure); ok != (s.Skipped == "") {
				t.Errorf("%s, %s: a figure of its measure %s: %v, skipped: %q", w.Name, s.Server, w.Measure, ok, s.Skipped)
			}
		}
	}
}

// What version 1 called otherwise, and had in other units, is read from its samples.
func TestReadOldRun(t *testing.T) {
	var runs []*bench.Run
	for _, name := range []string{"testdata/run-1.json", "testdata/run.json"} {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		run, err := bench.ReadRun(f)
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, run)
	}
	if !reflect.DeepEqual(runs[0], runs[1]) {
		t.Error("the run of version 1 differs from the same one of this version")
	}
}

// Figures of the JSON form are in seconds and bytes, whatever is printed.
func TestSummariesInJSON(t *testing.T) {
	s := bench.ServerRun{Samples: []bench.Sample{{Seconds: 2, Server: bench.CPU{User: 3}, PeakRSS: 5 << 20, Operations: []bench.Operation{{Requests: 3000, Bytes: 1 << 30}}}}}
	s.Samples[0].Operations[0].Latency.Add(time.Second)
	s.Summarize()
	text, err := json.Marshal(s.Summaries)
	if err != nil {
		t.Fatal(err)
	}
	var got []struct {
		Measure bench.Measure
		Median  float64
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	for m, want := range map[bench.Measure]float64{bench.Throughput: 512 << 20, bench.Seconds: 2, bench.P50: 1, bench.ServerCPU: 1e-3, bench.PeakMemory: 5 << 20} {
		found := false
		for _, s := range got {
			found = found || s.Measure == m && math.Abs(s.Median/want-1) < 0.05
		}
		if !found {
			t.Errorf("%s is not %v: %s", m, want, text)
		}
	}
}

func TestReadRunRefusesOtherVersions(t *testing.T) {
	for _, text := range []string{`{"version": 3}`, `{"version": -1}`, `{}`, `[]`, ``} {
		if run, err := bench.ReadRun(strings.NewReader(text)); err == nil {
			t.Errorf("%q: got %+v, want an error", text, run)
		}
	}
}

func TestSummary(t *testing.T) {
	sample := func(seconds float64) bench.Sample {
		return bench.Sample{Seconds: seconds, Server: bench.CPU{User: 0.003, System: 0.001}, Operations: []bench.Operation{
			{Name: "put", Requests: 30, Items: 30, Bytes: 30 << 20, Failures: 10},
		}}
	}
	tests := []struct {
		name    string
		samples []bench.Sample
		measure bench.Measure
		want    bench.Summary
		spread  float64
	}{
		{"odd", []bench.Sample{sample(3), sample(1), sample(2)}, bench.Rate, bench.Summary{Measure: bench.Rate, Median: 15, Min: 10, Max: 30}, 4.0 / 3},
		{"even", []bench.Sample{sample(1), sample(2)}, bench.Throughput, bench.Summary{Measure: bench.Throughput, Median: 22.5, Min: 15, Max: 30}, 15 / 22.5},
		// A request that failed costs time of the processor, too.
		{"cpu", []bench.Sample{sample(1)}, bench.ServerCPU, bench.Summary{Measure: bench.ServerCPU, Median: 100, Min: 100, Max: 100}, 0},
		{"failures", []bench.Sample{sample(1)}, bench.Failures, bench.Summary{Measure: bench.Failures, Median: 10, Min: 10, Max: 10}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := bench.ServerRun{Samples: tt.samples}
			s.Summarize()
			got, ok := s.Summary(tt.measure)
			if !ok || got != tt.want || math.Abs(got.Spread()-tt.spread) > 1e-9 {
				t.Errorf("got %+v (%v), spread %v, want %+v, spread %v", got, ok, got.Spread(), tt.want, tt.spread)
			}
		})
	}
	s := bench.ServerRun{Samples: []bench.Sample{{Seconds: 1, Operations: []bench.Operation{{Name: "put", Failures: 3}}}}}
	s.Summarize()
	if _, ok := s.Summary(bench.Rate); ok {
		t.Error("a sample without a successful request has a rate")
	}
}

func TestHistogram(t *testing.T) {
	var h bench.Histogram
	if got := h.Quantile(0.5); got != 0 {
		t.Errorf("empty: got %v, want 0", got)
	}
	var other bench.Histogram
	for i := 1; i <= 1000; i++ {
		into := &h
		if i%3 == 0 {
			into = &other
		}
		into.Add(time.Duration(i) * time.Millisecond)
	}
	h.Merge(other)
	if got := h.Total(); got != 1000 {
		t.Errorf("total: got %d, want 1000", got)
	}
	for q, want := range map[float64]float64{0: 1, 0.5: 500, 0.99: 990, 1: 1000} {
		if got := h.Quantile(q); math.Abs(got-want)/want > 0.05 {
			t.Errorf("quantile %v: got %v ms, want %v within 5 %%", q, got, want)
		}
	}
	var extremes bench.Histogram
	extremes.Add(100 * time.Hour)
	extremes.Add(0)
	if low, high := extremes.Quantile(0), extremes.Quantile(1); extremes.Total() != 2 || low > 0.01 || high < 9*3600e3 {
		t.Errorf("extremes: got %v and %v ms of %d", low, high, extremes.Total())
	}
}
