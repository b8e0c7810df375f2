package report

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"

	"packhouse/bench"
)

const (
	dotRow  = 28 // pixels
	fewRows = 3  // a kind with less shares its plot with others
)

// dots is a picture of rows with a point for each server, over a logarithmic axis that is the same for several pictures.
type dots struct {
	title   string
	caption string
	rows    []dotsRow
	x       axis
	base    float64 // a value with a line of its own; 0: none
	unit    func(float64) string
}

type dotsRow struct {
	label string
	dots  []dot
}

// dot is a value above 0, with the range that its rounds allow where that is known.
type dot struct {
	server    string
	value     float64
	low, high float64
	uncertain bool // drawn hollow
}

// reach is the range of all values of several pictures.
func reach(all []dots) (low, high float64) {
	low, high = math.Inf(1), 0
	for _, d := range all {
		for _, r := range d.rows {
			for _, x := range r.dots {
				low, high = min(low, x.value), max(high, x.value)
			}
		}
	}
	return low, high
}

func (d dots) draw(colours palette) (template.HTML, error) {
	var said []string
	for _, r := range d.rows {
		text := r.label + ":"
		for _, x := range r.dots {
			text += fmt.Sprintf(" %s %s", x.server, d.unit(x.value))
		}
		said = append(said, text)
	}
	p := plot{
		title: d.title, text: strings.Join(said, "; "), height: len(d.rows)*dotRow + 28,
		left: nameWidth + 10, right: 14, top: 4, bottom: 4, x: d.x, y: axis{max: float64(len(d.rows))},
	}
	p.layers = []layer{grid(d.x, axis{}), func(p pane) {
		if d.base > 0 {
			a := p.at(math.Log10(d.base), 0)
			p.line("base", a, point{a.x, p.box.Top})
		}
		for i, r := range d.rows {
			y := float64(len(d.rows)-i) - 0.5
			a := p.at(d.x.min, y)
			p.label("name", point{(nameWidth + 4) * unit, a.y + 4*unit}, short(r.label, 17))
			p.line("lane", a, point{p.box.Right, a.y})
			for j, level := range slices.Backward(levels(p, r.dots)) { // the first on top
				r.dots[j].draw(p, y, level*5*unit, colours)
			}
		}
	}}
	return p.draw()
}

// levels are how many steps up (negative) or down from the middle of the row points move so as not to hide each other.
func levels(p pane, all []dot) []int {
	var taken []point // x and level
	found := make([]int, len(all))
	for i, d := range all {
		x := p.at(math.Log10(d.value), 0).x
		for _, level := range []int{0, -1, 1, -2, 2} {
			free := !slices.ContainsFunc(taken, func(t point) bool { return t.y == level && max(t.x-x, x-t.x) < 9*unit })
			if free {
				found[i] = level
				break
			}
		}
		taken = append(taken, point{x, found[i]})
	}
	return found
}

// draw draws the point, down from the row's middle at y by units.
func (x dot) draw(p pane, y float64, down int, colours palette) {
	if x.low > 0 {
		a, b := p.at(math.Log10(x.low), y), p.at(math.Log10(x.high), y)
		a.x, b.x = max(a.x, p.box.Left), min(b.x, p.box.Right)
		p.line("range "+colours.class(x.server), a, b)
	}
	class := "dot "
	if x.uncertain {
		class = "dot hollow "
	}
	at := p.at(math.Log10(x.value), y)
	at.y += down
	at.x = min(max(at.x, p.box.Left), p.box.Right)
	p.area(class+colours.class(x.server), colours.shape(x.server).outline(at, 4*unit)...)
}

// kinds are the workloads of a run by kind, in the order of the run.
func kinds(run *bench.Run) [][]*bench.WorkloadRun {
	var all [][]*bench.WorkloadRun
	at := make(map[string]int)
	for i := range run.Workloads {
		w := &run.Workloads[i]
		if _, ok := at[w.Kind]; !ok {
			at[w.Kind] = len(all)
			all = append(all, nil)
		}
		all[at[w.Kind]] = append(all[at[w.Kind]], w)
	}
	return all
}

// overview is a picture for each kind of workload. of says the value of a server in a workload, false where it has none.
func overview(run *bench.Run, title string, of func(*bench.WorkloadRun, *bench.ServerRun) (float64, bool)) []dots {
	var all []dots
	others := dots{title: title + ": other workloads", caption: "other workloads"}
	for _, workloads := range kinds(run) {
		d := dots{title: title + ": " + kindName(workloads[0].Kind), caption: kindName(workloads[0].Kind)}
		for _, w := range workloads {
			r := dotsRow{label: w.Name}
			for _, s := range rows(w) {
				if v, ok := of(w, s); ok && v > 0 {
					r.dots = append(r.dots, dot{server: s.Server, value: v})
				}
			}
			if len(r.dots) > 0 {
				d.rows = append(d.rows, r)
			}
		}
		if len(d.rows) >= fewRows {
			all = append(all, d)
		} else {
			others.rows = append(others.rows, d.rows...)
		}
	}
	if len(others.rows) > 0 {
		all = append(all, others)
	}
	return all
}

// toFloor is the ratio of a server's headline figure to that of the floor; the floor itself has none.
func toFloor(run *bench.Run) func(*bench.WorkloadRun, *bench.ServerRun) (float64, bool) {
	floor := floorOf(run)
	return func(w *bench.WorkloadRun, s *bench.ServerRun) (float64, bool) {
		base, ok := w.Server(floor)
		if !ok || s.Server == floor {
			return 0, false
		}
		a, okA := s.Summary(w.Measure)
		b, okB := base.Summary(w.Measure)
		if !okA || !okB {
			return 0, false
		}
		return ratio(w.Measure, a.Median, b.Median)
	}
}

// floorOf is the name of the floor, empty where the run has none.
func floorOf(run *bench.Run) string {
	for _, s := range run.Servers {
		if s.Floor {
			return s.Name
		}
	}
	return ""
}

// kindName is a kind of workload in words.
func kindName(kind string) string {
	switch kind {
	case "put":
		return "durable puts"
	case "get":
		return "gets"
	case "range":
		return "gets by range"
	case "list":
		return "listings"
	case "delete":
		return "deletes"
	case "batchdelete":
		return "deletes in batches"
	case "compact":
		return "compaction"
	case "mixed":
		return "mixed load"
	case "open":
		return "opening"
	default:
		return kind
	}
}
