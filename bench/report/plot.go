package report

import (
	"bytes"
	"errors"
	"fmt"
	"html"
	"html/template"
	"math"
	"slices"
	"strings"

	"github.com/go-analyze/charts/chartdraw"
	"github.com/go-analyze/charts/chartdraw/drawing"
)

// Plots are drawn for the width of a phone and scaled by the browser. The library has whole numbers as coordinates, so
// that a pixel of the page is several units of a plot.
const (
	plotWidth = 360 // pixels
	unit      = 4   // of a plot, in a pixel
	tickFont  = 11  // pixels
)

// plot is one picture. All lengths are pixels.
type plot struct {
	title, text              string // for those who do not see it; text says all its figures
	height                   int
	left, right, top, bottom int // outside of what the axes span, for labels
	x, y                     axis
	layers                   []layer
}

// axis spans the values of a direction. Without ticks it is not drawn.
type axis struct {
	min, max float64
	ticks    []chartdraw.Tick
}

// layer draws something in the coordinates of a plot. It is a series of the library.
type layer func(p pane)

var _ chartdraw.Series = layer(nil)

func (layer) GetName() string               { return "" }
func (layer) GetYAxis() chartdraw.YAxisType { return chartdraw.YAxisSecondary } // the one at the left
func (layer) GetStyle() chartdraw.Style     { return chartdraw.Style{} }

func (l layer) Validate() error {
	if l == nil {
		return errors.New("a layer draws nothing")
	}
	return nil
}

// Render implements chartdraw.Series.
func (l layer) Render(r chartdraw.Renderer, box chartdraw.Box, x, y chartdraw.Range, _ chartdraw.Style) {
	l(pane{r, box, x, y})
}

// fixed is a range that ends where we say; the library would let it end at the outer ticks.
type fixed struct{ chartdraw.ContinuousRange }

func (*fixed) SetMin(float64) {}
func (*fixed) SetMax(float64) {}

// draw makes the picture: an svg element whose shapes have classes and no colours, which the style sheet of the page
// gives them.
func (p plot) draw() (template.HTML, error) {
	hidden := chartdraw.Hidden()
	axisStyle := func(a axis, class string) chartdraw.Style {
		if len(a.ticks) == 0 {
			return hidden
		}
		return chartdraw.Style{ClassName: class, StrokeColor: drawing.ColorBlack, FontStyle: chartdraw.FontStyle{FontSize: tickFont * unit}}
	}
	spans := func(a axis) chartdraw.Range {
		return &fixed{chartdraw.ContinuousRange{Min: a.min, Max: max(a.max, math.Nextafter(a.min, math.Inf(1)))}}
	}
	left := slices.Clone(p.y.ticks)
	for i := range left {
		left[i].Label += "  " // which is measured and not seen: a distance from the axis
	}
	series := make([]chartdraw.Series, len(p.layers))
	for i, l := range p.layers {
		series[i] = l
	}
	chart := chartdraw.Chart{
		Width: plotWidth * unit, Height: p.height * unit, DPI: 72, // of which a point is a unit
		Background: chartdraw.Style{ClassName: "back", Padding: chartdraw.Box{Left: p.left * unit, Right: p.right * unit,
			Top: p.top * unit, Bottom: p.bottom * unit, IsSet: true}},
		Canvas: chartdraw.Style{ClassName: "back"},
		XAxis:  chartdraw.XAxis{Style: axisStyle(p.x, "axis"), Range: spans(p.x), Ticks: p.x.ticks, GridMajorStyle: hidden, GridMinorStyle: hidden},
		// The first axis is at the right and unused, but must have a range.
		YAxis: chartdraw.YAxis{Style: hidden, Range: &fixed{chartdraw.ContinuousRange{Max: 1}}},
		YAxisSecondary: chartdraw.YAxis{Style: axisStyle(p.y, "axis left"), Range: spans(p.y), Ticks: left, GridMajorStyle: hidden, GridMinorStyle: hidden,
			Zero: chartdraw.GridLine{Style: hidden}},
		Series: series,
	}
	var b bytes.Buffer
	if err := chart.Render(chartdraw.SVG, &b); err != nil {
		return "", fmt.Errorf("draw %q: %w", p.title, err)
	}
	return p.named(b.String()), nil
}

// named gives the picture a name and a description.
func (p plot) named(svg string) template.HTML {
	head, rest, _ := strings.Cut(svg, ">")
	head = strings.Replace(head, ` xmlns:xlink="http://www.w3.org/1999/xlink"`, "", 1)
	return template.HTML(head + ` role="img"><title>` + html.EscapeString(p.title) + `</title><desc>` + html.EscapeString(p.text) + `</desc>` +
		strings.ReplaceAll(rest, "\n", ""))
}

// pane is where a layer draws: the area that the axes span, in units.
type pane struct {
	r      chartdraw.Renderer
	box    chartdraw.Box
	xr, yr chartdraw.Range
}

type point struct{ x, y int } // units

// at is the place of two values.
func (p pane) at(x, y float64) point {
	return point{p.box.Left + p.xr.Translate(x), p.box.Bottom - p.yr.Translate(y)}
}

// path draws the points with a class: lines, or an area when closed.
func (p pane) path(class string, closed bool, points ...point) {
	p.r.ResetStyle()
	p.r.SetClassName(class)
	for i, a := range points {
		if i == 0 {
			p.r.MoveTo(a.x, a.y)
		} else {
			p.r.LineTo(a.x, a.y)
		}
	}
	if closed {
		p.r.Close()
	}
	p.r.FillStroke()
}

func (p pane) line(class string, points ...point) { p.path(class, false, points...) }
func (p pane) area(class string, points ...point) { p.path(class, true, points...) }

func (p pane) rect(class string, a, b point) {
	p.area(class, a, point{b.x, a.y}, b, point{a.x, b.y})
}

// label writes text; where a lies in it, the class says.
func (p pane) label(class string, a point, text string) {
	p.r.ResetStyle()
	p.r.SetClassName(class)
	p.r.Text(text, a.x, a.y)
}

// grid draws a line at each tick of the axes.
func grid(x, y axis) layer {
	return func(p pane) {
		for _, t := range x.ticks {
			a := p.at(t.Value, y.min)
			p.line("grid", a, point{a.x, p.box.Top})
		}
		for _, t := range y.ticks {
			a := p.at(x.min, t.Value)
			p.line("grid", a, point{p.box.Right, a.y})
		}
	}
}
