package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Metric is one measured number of a workload.
type Metric struct {
	Value float64
	Unit  string // as Go's benchmarks write units: ns/op, MB/s, p99-ms, MiB-peak
}

// Result is one run of one workload against one server.
type Result struct {
	Workload string // such as Put/size=8KiB/connections=8
	Server   string
	N        int // operations
	Metrics  []Metric
}

// Write prints the result as a line of Go's benchmark format.
func (r Result) Write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Benchmark%s/server=%s %d", r.Workload, r.Server, r.N)
	for _, m := range r.Metrics {
		fmt.Fprintf(&b, "\t%s %s", number(m.Value), m.Unit)
	}
	b.WriteByte('\n')
	_, err := io.WriteString(w, b.String())
	return err
}

// number has four significant digits or all before the point.
func number(v float64) string {
	switch {
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.3f", v)
	}
}

// WriteRatios prints, for each workload that both servers ran, how the first compares to the second:
// more than 1 is in favour of the first.
func WriteRatios(w io.Writer, results []Result, first, second string) error {
	find := func(workload, server string) (Result, bool) {
		i := slices.IndexFunc(results, func(r Result) bool { return r.Workload == workload && r.Server == server })
		if i < 0 {
			return Result{}, false
		}
		return results[i], true
	}
	for _, r := range results {
		if r.Server != first {
			continue
		}
		peer, ok := find(r.Workload, second)
		if !ok {
			continue
		}
		for i, m := range r.Metrics {
			if i >= len(peer.Metrics) || m.Value == 0 || peer.Metrics[i].Value == 0 {
				continue
			}
			ratio := peer.Metrics[i].Value / m.Value
			if strings.HasSuffix(m.Unit, "/s") { // the more the better
				ratio = 1 / ratio
			}
			if _, err := fmt.Fprintf(w, "ratio %s %s: %s %s, %s %s: %.2fx\n",
				r.Workload, m.Unit, first, number(m.Value), second, number(peer.Metrics[i].Value), ratio); err != nil {
				return err
			}
		}
	}
	return nil
}

// latencies sums up how long each of many operations took.
func latencies(took []time.Duration, elapsed time.Duration) []Metric {
	slices.Sort(took)
	at := func(q float64) float64 {
		return float64(took[int(q*float64(len(took)-1))].Microseconds()) / 1000
	}
	return []Metric{
		{float64(len(took)) / elapsed.Seconds(), "ops/s"},
		{at(0.50), "p50-ms"}, {at(0.99), "p99-ms"},
	}
}

// memory is the peak of a server's memory: all of it, and without mapped files.
func memory(s *Server) ([]Metric, error) {
	peak, err := s.PeakMemory()
	return []Metric{{float64(peak) / (1 << 20), "MiB-peak"}, {float64(s.PeakHeap()) / (1 << 20), "MiB-heap"}}, err
}
