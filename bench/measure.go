package bench

import (
	"encoding/json"
	"slices"
)

// Measure is a kind of figure of a sample.
type Measure string

// The measures. A workload has those for which its samples have a value.
const (
	Rate         Measure = "rate"          // items a second; of single requests that is requests a second
	Throughput   Measure = "throughput"    // MiB of items a second
	Seconds      Measure = "seconds"       // of the whole workload, such as one listing
	P50          Measure = "p50"           // milliseconds
	P99          Measure = "p99"           // milliseconds
	Slowest      Measure = "slowest"       // milliseconds
	LongestStall Measure = "longest_stall" // seconds without the end of any request
	ServerCPU    Measure = "server_cpu"    // microseconds a request, user and system
	ServerUser   Measure = "server_user"   // microseconds a request
	ServerSystem Measure = "server_system" // microseconds a request
	GeneratorCPU Measure = "generator_cpu" // microseconds a request, user and system
	PeakMemory   Measure = "peak_memory"   // MiB resident
	Failures     Measure = "failures"      // requests
)

// Measures are all measures, in the order of a table.
var Measures = []Measure{Rate, Throughput, Seconds, P50, P99, Slowest, LongestStall, ServerCPU, ServerUser, ServerSystem,
	GeneratorCPU, PeakMemory, Failures}

// Unit is the label of the measure's figures.
func (m Measure) Unit() string {
	switch m {
	case Rate:
		return "/s"
	case Throughput:
		return "MiB/s"
	case Seconds, LongestStall:
		return "s"
	case P50, P99, Slowest:
		return "ms"
	case ServerCPU, ServerUser, ServerSystem, GeneratorCPU:
		return "µs/request"
	case PeakMemory:
		return "MiB"
	default:
		return ""
	}
}

// MoreIsBetter reports whether a higher figure is better.
func (m Measure) MoreIsBetter() bool { return m == Rate || m == Throughput }

// Value returns the sample's figure, false if it has none. A sample without a successful request only has figures for failures and
// memory.
func (s *Sample) Value(m Measure) (float64, bool) {
	all := s.Total()
	switch m {
	case Failures:
		return float64(all.Failures), true
	case PeakMemory:
		return float64(s.PeakRSS) / (1 << 20), s.PeakRSS > 0
	case LongestStall:
		if s.Timeline == nil {
			return 0, false
		}
		return s.Timeline.LongestStall, true
	}
	if all.Requests == 0 || s.Seconds <= 0 {
		return 0, false
	}
	each := func(seconds float64) (float64, bool) {
		return seconds * 1e6 / float64(all.Requests+all.Failures), true
	}
	switch m {
	case Rate:
		return float64(all.Items) / s.Seconds, all.Items > 0
	case Throughput:
		return float64(all.Bytes) / (1 << 20) / s.Seconds, all.Bytes > 0
	case Seconds:
		return s.Seconds, true
	case P50:
		return all.Latency.Quantile(0.50), true
	case P99:
		return all.Latency.Quantile(0.99), true
	case Slowest:
		return all.Latency.Quantile(1), true
	case ServerCPU:
		return each(s.Server.Total())
	case ServerUser:
		return each(s.Server.User)
	case ServerSystem:
		return each(s.Server.System)
	case GeneratorCPU:
		return each(s.Generator.Total())
	}
	return 0, false
}

// Total returns the sum of the sample's operations.
func (s *Sample) Total() Operation { return merge("all", s.Operations) }

// Summary summarizes one measure over several rounds. Its figures have the measure's unit; in JSON they are in seconds and bytes.
type Summary struct {
	Measure Measure `json:"measure"`
	Median  float64 `json:"median"`
	Min     float64 `json:"min"`
	Max     float64 `json:"max"`
}

// MarshalJSON implements json.Marshaler.
func (s Summary) MarshalJSON() ([]byte, error) {
	type plain Summary
	unit := s.Measure.base()
	return json.Marshal(plain{s.Measure, s.Median * unit, s.Min * unit, s.Max * unit})
}

// base is one of the measure's unit in seconds or bytes.
func (m Measure) base() float64 {
	switch m {
	case Throughput, PeakMemory:
		return 1 << 20
	case P50, P99, Slowest:
		return 1e-3
	case ServerCPU, ServerUser, ServerSystem, GeneratorCPU:
		return 1e-6
	default:
		return 1
	}
}

// Spread returns the distance between the extremes relative to the median, 0 if the median is 0.
func (s Summary) Spread() float64 {
	if s.Median == 0 {
		return 0
	}
	return (s.Max - s.Min) / s.Median
}

// Summarize computes the summaries from the samples.
func (s *ServerRun) Summarize() {
	s.Summaries = nil
	for _, m := range Measures {
		var values []float64
		for i := range s.Samples {
			if v, ok := s.Samples[i].Value(m); ok {
				values = append(values, v)
			}
		}
		if len(values) == 0 {
			continue
		}
		slices.Sort(values)
		n := len(values)
		s.Summaries = append(s.Summaries, Summary{m, (values[(n-1)/2] + values[n/2]) / 2, values[0], values[n-1]})
	}
}

// Summary returns the summary of a measure.
func (s *ServerRun) Summary(m Measure) (Summary, bool) {
	i := slices.IndexFunc(s.Summaries, func(x Summary) bool { return x.Measure == m })
	if i < 0 {
		return Summary{}, false
	}
	return s.Summaries[i], true
}

// Latency returns the latencies of all rounds together, of the operations with that name; "" means all.
func (s *ServerRun) Latency(operation string) Histogram {
	var h Histogram
	for _, sample := range s.Samples {
		for _, o := range sample.Operations {
			if operation == "" || o.Name == operation {
				h.Merge(o.Latency)
			}
		}
	}
	return h
}
