package report

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"

	"packhouse/bench"
)

// fewTimes is the number of requests below which a distribution is not drawn.
const fewTimes = 20

// latency shows how the latencies of the requests with that name ("" means all) spread, a row for each server: over a
// logarithmic axis of time the part of the requests that took that long, all rounds together, each row scaled to its
// own peak, with lines at the median and at what 99 of 100 did not exceed. Too few requests: no picture.
func latency(w *bench.WorkloadRun, operation string, colours palette) (template.HTML, error) {
	type row struct {
		server   string
		times    bench.Histogram
		p50, p99 float64
	}
	var all []row
	var said []string
	low, high := math.Inf(1), 0.0
	for _, s := range rows(w) {
		h := s.Latency(operation)
		if h.Total() < fewTimes {
			continue
		}
		r := row{s.Server, h, h.Quantile(0.50), h.Quantile(0.99)}
		if operation == "" { // say what the table says: the median of the rounds, not of all requests
			a, _ := s.Summary(bench.P50)
			b, _ := s.Summary(bench.P99)
			r.p50, r.p99 = cmp.Or(a.Median, r.p50), cmp.Or(b.Median, r.p99)
		}
		all = append(all, r)
		said = append(said, fmt.Sprintf("%s: median %s ms, 99 of 100 at most %s ms", r.server, figure(r.p50), figure(r.p99)))
		low = min(low, bench.BucketStart(h.First))
		high = max(high, bench.BucketStart(endOf(h)))
	}
	if len(all) == 0 {
		return "", nil
	}
	of := w.Name
	if operation != "" {
		of = operation + " in " + w.Name
	}
	x := logarithmic(low, high, 4, 3, milliseconds)
	y := axis{max: float64(len(all))}
	p := plot{
		title: "latency of " + of + " by server", text: strings.Join(said, "; "),
		height: len(all)*rowHeight + 28, left: nameWidth, right: valueWidth, top: 2, bottom: 4, x: x, y: y,
	}
	p.layers = []layer{grid(x, y), func(p pane) {
		for i, r := range all {
			base := float64(len(all) - 1 - i)
			a := p.at(x.min, base)
			p.name(a.y-5*unit, short(r.server, 16))
			ridge(p, r.times, base, colours.class(r.server))
			for _, v := range []float64{r.p50, r.p99} {
				b := p.at(math.Log10(v), base)
				p.line("halo", b, point{b.x, b.y - 9*unit}) // the stroke must be seen on the hill
				p.line("quantile", b, point{b.x, b.y - 9*unit})
			}
			p.label("value", point{(plotWidth - valueWidth + 8) * unit, a.y - 5*unit}, figure(r.p50)+" · "+figure(r.p99))
		}
	}}
	return p.draw()
}

// bucketsOf are the buckets that are drawn as one: of few requests, a bucket of its own for each time would be a comb.
func bucketsOf(total int64) int {
	switch {
	case total < 200:
		return 5
	case total < 1000:
		return 2
	default:
		return 1
	}
}

// endOf is the first bucket behind those that are drawn.
func endOf(h bench.Histogram) int {
	width := bucketsOf(h.Total())
	return h.First + (len(h.Counts)+width-1)/width*width
}

// ridge draws a distribution that stands on base.
func ridge(p pane, h bench.Histogram, base float64, colour string) {
	width := bucketsOf(h.Total())
	var counts []float64
	for group := range slices.Chunk(h.Counts, width) {
		sum := int64(0)
		for _, n := range group {
			sum += n
		}
		counts = append(counts, float64(sum)) // the last group may lack buckets, which are empty
	}
	peak := slices.Max(counts)
	outline := []point{p.at(math.Log10(bench.BucketStart(h.First)), base)}
	for i, n := range counts {
		height := base + 0.88*n/peak
		first := h.First + i*width
		outline = append(outline, p.at(math.Log10(bench.BucketStart(first)), height), p.at(math.Log10(bench.BucketStart(first+width)), height))
	}
	outline = append(outline, p.at(math.Log10(bench.BucketStart(endOf(h))), base))
	p.area("ridge "+colour, outline...)
}
