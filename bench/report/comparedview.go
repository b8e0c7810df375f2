package report

import (
	"errors"
	"fmt"

	"packhouse/bench"
)

// comparedView is a comparison on the page.
type comparedView struct {
	*Comparison
	OldHead       []string
	Plots         []picture
	Worse, Better []changeView
	Explanation   []string
}

type changeView struct {
	Workload, Server, Measure, Old, New, Change, Remarks string
}

func (p *page) compare(old *bench.Run, colours palette) error {
	if old == nil {
		return nil
	}
	c := Compare(old, p.Run)
	v := &comparedView{Comparison: c, OldHead: headLines(old), Explanation: c.explanation()}
	worse, better, _ := c.sorted()
	v.Worse, v.Better = changeViews(worse), changeViews(better)
	p.Compared = v
	var all []dots
	for _, s := range p.Run.Servers {
		d := dots{title: "old and new: " + s.Name, caption: s.Name, base: 1, unit: ratioTick}
		for _, x := range headlines(c.Changes) {
			if x.Server == s.Name {
				low, high := x.Bounds()
				d.rows = append(d.rows, dotsRow{x.Workload.Name, []dot{{server: s.Name, value: x.Ratio, low: low, high: high, uncertain: x.Verdict == Noise}}})
			}
		}
		if len(d.rows) > 0 {
			all = append(all, d)
		}
	}
	low, high := reach(all)
	for _, d := range all {
		for _, r := range d.rows { // and their ranges, where they are not much wider
			low, high = min(low, max(r.dots[0].low, 0.5)), max(high, min(r.dots[0].high, 2))
		}
	}
	var faults []error
	for _, d := range all {
		d.x = logarithmic(min(low, 1)/1.1, max(high, 1)*1.1, 1.5, 5, ratioTick)
		svg, err := d.draw(colours)
		v.Plots, faults = append(v.Plots, picture{svg, d.caption}), append(faults, err)
	}
	return errors.Join(faults...)
}

func changeViews(all []Change) []changeView {
	var views []changeView
	for _, x := range all {
		views = append(views, changeView{x.Workload.Name, x.Server, fmt.Sprintf("%s, %s", measureName(x.Measure), unitOf(x.Workload, x.Measure)),
			value(x.Old), value(x.New), percent(x.Percent()), x.remarks()})
	}
	return views
}
