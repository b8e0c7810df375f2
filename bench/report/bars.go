package report

import (
	"fmt"
	"html/template"
	"strings"

	"packhouse/bench"
)

const (
	rowHeight  = 24 // pixels
	nameWidth  = 102
	valueWidth = 118
)

// rows are the servers of a workload that were tried, in their order.
func rows(w *bench.WorkloadRun) []*bench.ServerRun {
	var tried []*bench.ServerRun
	for i := range w.Servers {
		if s := &w.Servers[i]; s.Skipped == "" {
			tried = append(tried, s)
		}
	}
	return tried
}

// bars shows the headline figure of each server as a bar from zero to the median, a line from the least to the most,
// and a mark for each round. A server without a figure has words instead. No server has a figure: no picture.
func bars(w *bench.WorkloadRun, colours palette) (template.HTML, error) {
	servers := rows(w)
	top := 0.0
	var said []string
	for _, s := range servers {
		x, ok := s.Summary(w.Measure)
		if ok {
			top = max(top, x.Max)
		}
		said = append(said, s.Server+": "+inWords(w, s, x, ok))
	}
	if top == 0 {
		return "", nil
	}
	p := plot{
		title: fmt.Sprintf("%s of %s by server", measureName(w.Measure), w.Name), text: strings.Join(said, "; "),
		height: len(servers)*rowHeight + 4, left: nameWidth, right: valueWidth, top: 2, bottom: 2,
		x: axis{max: top}, y: axis{max: float64(len(servers))},
	}
	p.layers = append(p.layers, func(p pane) {
		for i, s := range servers {
			bar(p, w, s, colours, float64(len(servers)-i)-0.5)
		}
		p.line("base", p.at(0, 0), p.at(0, float64(len(servers))))
	})
	return p.draw()
}

// bar draws a server's row, whose middle is at y.
func bar(p pane, w *bench.WorkloadRun, s *bench.ServerRun, colours palette, y float64) {
	const half = 7 * unit
	colour := colours.class(s.Server)
	zero := p.at(0, y)
	p.name(zero.y+4*unit, short(s.Server, 16))
	x, ok := s.Summary(w.Measure)
	if !ok {
		p.label("failed", point{zero.x + 6*unit, zero.y + 4*unit}, "no request succeeded")
		return
	}
	low, middle, high := p.at(x.Min, y), p.at(x.Median, y), p.at(x.Max, y)
	p.rect("bar "+colour, point{zero.x, zero.y - half}, point{middle.x, zero.y + half})
	p.line("halo", low, high) // the line must be seen on the bar
	p.line("spread", low, high)
	for i := range s.Samples {
		if v, ok := s.Samples[i].Value(w.Measure); ok {
			a := p.at(v, y)
			p.line("round", point{a.x, a.y - 4*unit}, point{a.x, a.y + 4*unit})
		}
	}
	p.label("value", point{high.x + 6*unit, zero.y + 4*unit}, value(x)+marks(w, s))
}

// name labels a row at its left: at the same place in all plots, wherever labels of ticks move the axes to.
func (p pane) name(y int, text string) { p.label("name", point{(nameWidth - 6) * unit, y}, text) }

// value is a figure with its spread.
func value(x bench.Summary) string {
	text := figure(x.Median)
	if s := spread(x); s != "" {
		text += " " + s
	}
	return text
}

// inWords is what a row says, for those who do not see it.
func inWords(w *bench.WorkloadRun, s *bench.ServerRun, x bench.Summary, ok bool) string {
	if !ok {
		return "no request succeeded"
	}
	text := fmt.Sprintf("%s %s (%s to %s)", figure(x.Median), unitOf(w, w.Measure), figure(x.Min), figure(x.Max))
	if n := failures(s); n > 0 {
		text += fmt.Sprintf(", %s requests failed", grouped(n))
	}
	if disturbed(w, s) {
		text += ", in doubt"
	}
	return text
}

// short cuts a long name.
func short(name string, most int) string {
	if r := []rune(name); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return name
}
