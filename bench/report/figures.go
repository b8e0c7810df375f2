package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"packhouse/bench"
)

// figure has three significant digits, or all before the point.
func figure(v float64) string {
	switch abs := math.Abs(v); {
	case v == 0:
		return "0"
	case abs >= 99.95:
		return grouped(int64(math.Round(v)))
	case abs >= 9.995:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case abs >= 0.9995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case abs >= 0.001:
		return strconv.FormatFloat(v, 'f', 2-int(math.Floor(math.Log10(abs))), 64)
	default:
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
}

// grouped has a comma before each group of three digits.
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return sign + b.String()
}

// spread is half of the distance of the extremes, as a part of the median; empty where it would say 0 %.
func spread(s bench.Summary) string {
	if half := 50 * s.Spread(); half >= 0.5 {
		return fmt.Sprintf("±%.0f%%", half)
	}
	return ""
}

// tick is a number at an axis.
func tick(v float64) string {
	switch abs := math.Abs(v); {
	case abs >= 1e6:
		return strconv.FormatFloat(v/1e6, 'g', 3, 64) + "M"
	case abs >= 1e4:
		return strconv.FormatFloat(v/1e3, 'g', 3, 64) + "k"
	case abs >= 1000:
		return grouped(int64(math.Round(v)))
	default:
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
}

// milliseconds is a time at an axis.
func milliseconds(v float64) string {
	switch {
	case v >= 999:
		return strconv.FormatFloat(v/1000, 'g', 3, 64) + " s"
	case v >= 0.999:
		return strconv.FormatFloat(v, 'g', 3, 64) + " ms"
	default:
		return strconv.FormatFloat(v*1000, 'g', 3, 64) + " µs"
	}
}

// times is a ratio.
func times(v float64) string {
	switch {
	case v >= 9.95:
		return strconv.FormatFloat(v, 'f', 0, 64) + "x"
	case v >= 0.995:
		return strconv.FormatFloat(v, 'f', 1, 64) + "x"
	default:
		return strconv.FormatFloat(v, 'f', 2, 64) + "x"
	}
}

// ratioTick is a ratio at an axis.
func ratioTick(v float64) string { return strconv.FormatFloat(v, 'g', 3, 64) + "x" }

// took is a time in words.
func took(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d < time.Minute {
		return figure(seconds) + " s"
	}
	return strings.TrimSuffix(d.Round(time.Second).String(), "0s")
}

// unitOf is how the figures of a measure are labelled in a workload.
func unitOf(w *bench.WorkloadRun, m bench.Measure) string {
	if m == bench.Rate && (w.Kind == "batchdelete" || w.Kind == "list") {
		return "items/s"
	}
	return m.Unit()
}

// unitInWords is the same for people.
func unitInWords(w *bench.WorkloadRun, m bench.Measure) string {
	switch unitOf(w, m) {
	case "/s":
		return "requests a second"
	case "items/s":
		return "items a second"
	case "MiB/s":
		return "MiB a second"
	case "s":
		return "seconds: less is better"
	default:
		return unitOf(w, m)
	}
}

// measureName is a measure in words.
func measureName(m bench.Measure) string {
	switch m {
	case bench.Rate:
		return "rate"
	case bench.Throughput:
		return "throughput"
	case bench.Seconds:
		return "time"
	case bench.P50:
		return "latency, median"
	case bench.P99:
		return "latency, 99 of 100"
	case bench.Slowest:
		return "latency, slowest"
	case bench.LongestStall:
		return "longest stall"
	case bench.ServerCPU:
		return "CPU of the server"
	case bench.ServerUser:
		return "CPU of the server, user"
	case bench.ServerSystem:
		return "CPU of the server, system"
	case bench.GeneratorCPU:
		return "CPU of the load generator"
	case bench.PeakMemory:
		return "most memory of the server"
	case bench.Failures:
		return "failed requests"
	default:
		return string(m)
	}
}

// ratio is how a figure compares with a base: more than 1 is better than the base.
func ratio(m bench.Measure, value, base float64) (float64, bool) {
	if value <= 0 || base <= 0 {
		return 0, false
	}
	if m.MoreIsBetter() {
		return value / base, true
	}
	return base / value, true
}
