package report

import (
	"cmp"
	"fmt"
	"html/template"
	"slices"
	"strings"

	"packhouse/bench"
)

const (
	laneHeight   = 13  // pixels, of what ran beside the load
	timelineArea = 110 // pixels
	mostSteps    = 240 // of a curve; more are averaged
)

// timeline shows one mixed load: how many requests ended a second over time, the stalls as bands, and above it what
// ran beside. top is the rate at which the axis ends, so that the rounds of a server are alike.
func timeline(w *bench.WorkloadRun, server string, s *bench.Sample, top float64, colours palette) (template.HTML, error) {
	t := s.Timeline
	lanes := lanesOf(t.Beside)
	x := linear(float64(len(t.Requests))*t.StepSeconds, func(v float64) string { return tick(v) + " s" })
	y := linear(top, tick)
	p := plot{
		title:  fmt.Sprintf("requests a second over time: %s, %s, round %d", w.Name, server, s.Round),
		text:   timelineText(t),
		height: timelineArea + len(lanes)*laneHeight + 28, left: 8, right: 12, top: 6 + len(lanes)*laneHeight, bottom: 4, x: x, y: y,
	}
	p.layers = []layer{grid(axis{}, y), func(p pane) {
		outline := []point{p.at(0, 0)}
		for _, step := range rates(s) {
			outline = append(outline, p.at(step.from, step.rate), p.at(step.to, step.rate))
		}
		last := outline[len(outline)-1]
		p.area("flow "+colours.class(server), append(outline, point{last.x, outline[0].y})...)
		for _, stall := range t.Stalls {
			a, b := p.at(stall.At, y.min), p.at(stall.At+stall.Seconds, y.max)
			b.x = max(b.x, a.x+2*unit) // a short one must be seen, too
			p.rect("stall", a, b)
		}
		drawLanes(p, lanes, t.Beside, colours.class(server))
	}}
	return p.draw()
}

// step is a part of a timeline, in seconds, and the requests a second in it.
type step struct{ from, to, rate float64 }

// rates are the steps of a sample's timeline, at most mostSteps.
func rates(s *bench.Sample) []step {
	t, seconds := s.Timeline, s.Seconds
	each := (len(t.Requests) + mostSteps - 1) / mostSteps
	var steps []step
	for i := 0; i < len(t.Requests); i += each {
		end, sum := min(i+each, len(t.Requests)), int64(0)
		for _, n := range t.Requests[i:end] {
			sum += n
		}
		from := float64(i) * t.StepSeconds
		long := float64(end-i) * t.StepSeconds
		if rest := seconds - from; end == len(t.Requests) && rest > 0 && rest < long { // the load ended within the last step
			long = max(rest, t.StepSeconds/4)
		}
		steps = append(steps, step{from, from + long, float64(sum) / long})
	}
	return steps
}

// lanesOf are the names of what ran beside, each once.
func lanesOf(beside []bench.Span) []string {
	var names []string
	for _, s := range beside {
		names = appendNew(names, s.Name)
	}
	return names
}

// drawLanes draws a line above the area for each name, with its spans.
func drawLanes(p pane, lanes []string, beside []bench.Span, colour string) {
	for i, name := range lanes {
		y := p.box.Top - (len(lanes)-i)*laneHeight*unit + 3*unit
		var taken [][2]int
		for _, s := range beside {
			if s.Name != name {
				continue
			}
			a, b := p.at(s.At, 0), p.at(s.At+s.Seconds, 0)
			class := "beside " + colour
			if s.Error != "" {
				class = "beside wrong"
			}
			b.x = max(min(b.x, p.box.Right), a.x+unit)
			p.rect(class, point{a.x, y}, point{b.x, y + 6*unit})
			taken = append(taken, [2]int{a.x, b.x})
		}
		p.label("lane", point{freePart(taken, p.box.Left, p.box.Right) + 4*unit, y + 7*unit}, name)
	}
}

// freePart is where a part between left and right begins that no span takes: the first behind a span with space for a
// name, else the widest.
func freePart(taken [][2]int, left, right int) int {
	slices.SortFunc(taken, func(a, b [2]int) int { return cmp.Compare(a[0], b[0]) })
	from, best, widest := left, left, 0
	for _, t := range append(taken, [2]int{right, right}) {
		if from > left && t[0]-from > nameWidth*unit {
			return from
		}
		if t[0]-from > widest {
			best, widest = from, t[0]-from
		}
		from = max(from, t[1])
	}
	return best
}

func timelineText(t *bench.Timeline) string {
	said := []string{fmt.Sprintf("longest time without the end of a request %s s; %s of %s s or more",
		figure(t.LongestStall), counted(len(t.Stalls), "stall"), figure(t.StallSeconds))}
	for _, s := range t.Stalls[:min(len(t.Stalls), 20)] {
		said = append(said, fmt.Sprintf("stall of %s s at %s s", figure(s.Seconds), figure(s.At)))
	}
	for _, s := range t.Beside {
		text := fmt.Sprintf("%s from %s s for %s s", s.Name, figure(s.At), figure(s.Seconds))
		if s.Error != "" {
			text += ", failed: " + s.Error
		}
		said = append(said, text)
	}
	return strings.Join(said, "; ")
}

// topRate is the highest rate of all rounds of a server.
func topRate(s *bench.ServerRun) float64 {
	top := 0.0
	for i := range s.Samples {
		if t := s.Samples[i].Timeline; t != nil && t.StepSeconds > 0 {
			for _, r := range rates(&s.Samples[i]) {
				top = max(top, r.rate)
			}
		}
	}
	return top
}
