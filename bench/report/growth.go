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

// curve is workloads that differ by the number of items alone, from few to many.
type curve struct {
	name   string
	points []*bench.WorkloadRun
}

// curvesOf finds the curves of a run: what has a name for one, and what is alike but for its items.
func curvesOf(run *bench.Run) []curve {
	var all []curve
	at := make(map[string]int)
	for i := range run.Workloads {
		w := &run.Workloads[i]
		key := w.Curve
		if key == "" {
			key = fmt.Sprint(w.Kind, w.Title, w.Size, w.Connections, w.TLS)
		}
		if _, ok := at[key]; !ok {
			at[key] = len(all)
			all = append(all, curve{name: cmp.Or(w.Curve, w.Kind)})
		}
		all[at[key]].points = append(all[at[key]].points, w)
	}
	var curves []curve
	for _, c := range all {
		slices.SortFunc(c.points, func(a, b *bench.WorkloadRun) int { return cmp.Compare(a.Items, b.Items) })
		c.points = slices.CompactFunc(c.points, func(a, b *bench.WorkloadRun) bool { return a.Items == b.Items })
		if len(c.points) > 1 && c.points[0].Items > 0 {
			curves = append(curves, c)
		}
	}
	return curves
}

// grown is what a server did in one point of a curve.
type grown struct {
	items float64
	bench.Summary
}

// of is a server's part of the curve.
func (c curve) of(server string) []grown {
	var line []grown
	for _, w := range c.points {
		if s, ok := w.Server(server); ok && s.Skipped == "" {
			if x, ok := s.Summary(w.Measure); ok && x.Min > 0 {
				line = append(line, grown{float64(w.Items), x})
			}
		}
	}
	return line
}

// draw shows the curve: the figure over the number of items, a line for each server, both axes logarithmic, so that
// equal slopes are equal factors.
func (c curve) draw(run *bench.Run, colours palette) (template.HTML, error) {
	first := c.points[0]
	low, high := math.Inf(1), 0.0
	lines := make(map[string][]grown)
	var said, names []string
	for _, s := range run.Servers {
		line := c.of(s.Name)
		if len(line) == 0 {
			continue
		}
		lines[s.Name], names = line, append(names, s.Name)
		text := s.Name + ":"
		for _, g := range line {
			low, high = min(low, g.Min), max(high, g.Max)
			text += fmt.Sprintf(" %s %s at %s items", figure(g.Median), unitOf(first, first.Measure), grouped(int64(g.items)))
		}
		said = append(said, text)
	}
	if len(names) == 0 {
		return "", nil
	}
	few, many := float64(first.Items), float64(c.points[len(c.points)-1].Items)
	x, y := logarithmic(few/1.15, many*1.15, 4, 4, tick), logarithmic(low/1.1, high*1.1, 3, 5, tick)
	p := plot{
		title: fmt.Sprintf("%s over the number of items: %s", measureName(first.Measure), c.name), text: strings.Join(said, "; "),
		height: 240, left: 8, right: nameWidth, top: 8, bottom: 4, x: x, y: y,
	}
	p.layers = []layer{grid(x, y), func(p pane) {
		var ends []point
		for _, name := range names {
			ends = append(ends, drawCurve(p, lines[name], name, colours))
		}
		for i, at := range apart(ends, 14*unit) {
			p.line("leader", ends[i], point{p.box.Right + 4*unit, at.y})
			p.label("end", point{p.box.Right + 7*unit, at.y + 4*unit}, short(names[i], 14))
		}
	}}
	return p.draw()
}

// drawCurve draws a server's line with its points and their spread, and returns where it ends.
func drawCurve(p pane, line []grown, server string, colours palette) point {
	var path []point
	for _, g := range line {
		x := math.Log10(g.items)
		a := p.at(x, math.Log10(g.Median))
		p.line("spread", p.at(x, math.Log10(g.Min)), p.at(x, math.Log10(g.Max)))
		path = append(path, a)
	}
	p.line("curve "+colours.class(server), path...)
	for _, a := range path {
		p.area("dot "+colours.class(server), colours.shape(server).outline(a, 4*unit)...)
	}
	return path[len(path)-1]
}

// apart moves places up and down until they are a distance from each other, in their order.
func apart(places []point, distance int) []point {
	order := make([]int, len(places))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(places[a].y, places[b].y) })
	moved := slices.Clone(places)
	for range places { // each pass settles one more
		for i := 1; i < len(order); i++ {
			a, b := &moved[order[i-1]], &moved[order[i]]
			if near := distance - (b.y - a.y); near > 0 {
				a.y -= near / 2
				b.y += near - near/2
			}
		}
	}
	return moved
}
