package ui

import (
	"fmt"
	"strings"
	"time"

	"packhouse/api/admin"
	"packhouse/internal/bytesize"
)

// plot is the size and the added bytes of a repository by day, as the elements of two SVG pictures that have the days in common. They are
// stretched to the width of the page; so texts are beside them. Coordinates go from 0 to plotWidth and plotHeight.
type plot struct {
	Line, Area string   // paths of the size
	Bars       []bar    // of the added bytes
	Sizes      []string // of the axis, from the top
	Most       string   // bytes that were added on a day
	Days       []string // of the axis
	Rows       []plotRow
	From, To   string
}

type bar struct {
	X, Y, Width, Height string
	Title               string
}

// plotRow is a day, for those who read the numbers.
type plotRow struct {
	Day          string
	Bytes, Added int64
}

const plotWidth, plotHeight = 1000, 100

// plotOf draws the last days; nil if fewer than two are recorded.
func plotOf(days []admin.GrowthDay, span int) *plot {
	type point struct {
		at           time.Time
		bytes, added int64
	}
	var points []point
	for _, d := range days {
		at, err := time.Parse(time.DateOnly, d.Day)
		if err != nil {
			return nil
		}
		// A day on which nothing changed has no row.
		for len(points) > 0 && points[len(points)-1].at.AddDate(0, 0, 1).Before(at) {
			last := points[len(points)-1]
			points = append(points, point{last.at.AddDate(0, 0, 1), last.bytes, 0})
		}
		points = append(points, point{at, d.Bytes, d.Added})
	}
	points = points[max(0, len(points)-span):]
	if len(points) < 2 {
		return nil
	}
	var top, most int64 = 1, 1
	for _, p := range points {
		top, most = max(top, p.bytes), max(most, p.added)
	}
	top = roundUp(top)
	step := float64(plotWidth) / float64(len(points))
	x := func(i int) float64 { return (float64(i) + 0.5) * step }
	g := &plot{Most: bytesize.Text(most), From: points[0].at.Format(time.DateOnly), To: points[len(points)-1].at.Format(time.DateOnly)}
	var line strings.Builder
	for i, p := range points {
		command := 'L'
		if i == 0 {
			command = 'M'
		}
		fmt.Fprintf(&line, "%c%.1f %.1f", command, x(i), plotHeight*(1-float64(p.bytes)/float64(top)))
		height := plotHeight * float64(p.added) / float64(most)
		if p.added > 0 {
			height = max(height, 1)
		}
		g.Bars = append(g.Bars, bar{
			X: coordinate(x(i) - step*0.4), Width: coordinate(step * 0.8), Y: coordinate(plotHeight - height), Height: coordinate(height),
			Title: fmt.Sprintf("%s: %s, %s added", p.at.Format(time.DateOnly), bytesize.Text(p.bytes), bytesize.Text(p.added)),
		})
		g.Rows = append(g.Rows, plotRow{p.at.Format(time.DateOnly), p.bytes, p.added})
	}
	g.Line = line.String()
	g.Area = fmt.Sprintf("%sL%.1f %dL%.1f %dZ", g.Line, x(len(points)-1), plotHeight, x(0), plotHeight)
	g.Sizes = []string{bytesize.Text(top), bytesize.Text(top / 2), "0"}
	labels := min(len(points), 5)
	for i := range labels {
		g.Days = append(g.Days, points[i*(len(points)-1)/(labels-1)].at.Format("2 Jan"))
	}
	return g
}

func coordinate(f float64) string { return fmt.Sprintf("%.1f", f) }

// roundUp is a size at or above n that reads well on an axis: one, two or five times a power of ten, of a unit.
func roundUp(n int64) int64 {
	unit := int64(1)
	for n/unit >= 1024 && unit < 1<<60 {
		unit <<= 10
	}
	for scale := unit; ; {
		for _, factor := range []int64{1, 2, 5} {
			if scale*factor >= n || scale > 1<<58 {
				return max(n, scale*factor)
			}
		}
		scale *= 10
	}
}
