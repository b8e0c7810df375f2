package report_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"packhouse/bench"
	"packhouse/bench/report"
)

// anyRun draws a run with whatever a broken or strange measurement may leave: no samples, no successful requests, figures
// of 0 and very large ones, timelines without steps.
func anyRun(t *rapid.T, of string) *bench.Run {
	value := rapid.OneOf(rapid.Just(0.0), rapid.Float64Range(1e-9, 1e-3), rapid.Float64Range(0.1, 1000), rapid.Float64Range(1e6, 1e12))
	count := rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(1, 30), rapid.Int64Range(1e6, 1e9))
	run := &bench.Run{Version: bench.RunVersion, Settings: bench.Settings{Mode: "quick", Rounds: 3, Scale: 1}}
	names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"packhouse", "floor", "rest-server", "other <&> server", "a", "b", "c", "a name that is much too long"}), 0, 5, rapid.ID).Draw(t, of+" servers")
	for _, name := range names {
		run.Servers = append(run.Servers, bench.ServerInfo{Name: name, Floor: name == "floor", Notes: "<b>"})
	}
	sample := func(round int) bench.Sample {
		s := bench.Sample{Round: round, Seconds: value.Draw(t, "seconds"), PeakRSS: count.Draw(t, "memory"), OtherLoad: -1}
		for range rapid.IntRange(0, 2).Draw(t, "operations") {
			o := bench.Operation{Name: rapid.SampledFrom([]string{"put", "get"}).Draw(t, "operation"), Requests: count.Draw(t, "requests"),
				Items: count.Draw(t, "items"), Bytes: count.Draw(t, "bytes"), Failures: count.Draw(t, "failures")}
			for range rapid.IntRange(0, 40).Draw(t, "times") {
				o.Latency.Add(time.Duration(value.Draw(t, "latency") * 1000))
			}
			s.Operations = append(s.Operations, o)
		}
		if rapid.Bool().Draw(t, "timeline") {
			s.Timeline = &bench.Timeline{StepSeconds: value.Draw(t, "step"), Requests: rapid.SliceOfN(count, 0, 600).Draw(t, "rates"),
				Stalls: []bench.Span{{At: value.Draw(t, "at"), Seconds: value.Draw(t, "long")}},
				Beside: []bench.Span{{Name: "scrub", At: value.Draw(t, "beside"), Seconds: 1, Error: rapid.SampledFrom([]string{"", "broken"}).Draw(t, "error")}}}
		}
		return s
	}
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"put8k@1", "growth@1", "growth@2", "mixed", "x]]>"}), 0, 4, rapid.ID).Draw(t, of+" workloads") {
		w := bench.WorkloadRun{Name: name, Kind: rapid.SampledFrom([]string{"put", "mixed", "new kind"}).Draw(t, "kind"), Title: "title", Items: count.Draw(t, "there"),
			Measure: rapid.SampledFrom(bench.Measures).Draw(t, "measure"), Curve: strings.Split(name, "@")[0]}
		for _, server := range names {
			s := bench.ServerRun{Server: server, Skipped: rapid.SampledFrom([]string{"", "", "", "why"}).Draw(t, "skipped")}
			for round := range rapid.IntRange(0, 3).Draw(t, "rounds") {
				s.Samples = append(s.Samples, sample(round+1))
			}
			s.Summarize()
			w.Servers = append(w.Servers, s)
		}
		run.Workloads = append(run.Workloads, w)
	}
	return run
}

// Whatever a run holds, there is a page, a table and a comparison of it, without figures that are no numbers.
func TestAnyRun(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		run, old := anyRun(rt, "new"), anyRun(rt, "old")
		var text strings.Builder
		if err := report.HTML(&text, run, old); err != nil {
			rt.Fatal(err)
		}
		parse(t, text.String())
		if err := report.Table(&text, run); err != nil {
			rt.Fatal(err)
		}
		if err := report.Compare(old, run).Write(&text); err != nil {
			rt.Fatal(err)
		}
		for _, bad := range []string{"NaN", "Inf", "-92233720368547758", "%!"} {
			if strings.Contains(text.String(), bad) {
				rt.Errorf("the report contains %q", bad)
			}
		}
	})
}
