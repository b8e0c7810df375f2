package report

import (
	"math"

	"github.com/go-analyze/charts/chartdraw"
)

// linear is an axis from zero to at least top.
func linear(top float64, label func(float64) string) axis {
	if top <= 0 {
		top = 1
	}
	step := math.Pow(10, math.Floor(math.Log10(top)))
	switch {
	case top/step < 1.5:
		step /= 2
	case top/step >= 4:
		step *= 2
	}
	a := axis{max: top}
	for i := range int(top/step) + 1 {
		v := float64(i) * step
		a.ticks = append(a.ticks, chartdraw.Tick{Value: v, Label: label(v)})
	}
	return a
}

// logarithmic is an axis of decimal logarithms that holds low and high, both above 0, and is at least a factor of
// widen long. It has space for that many labels.
func logarithmic(low, high, widen float64, space int, label func(float64) string) axis {
	if rest := widen / (high / low); rest > 1 {
		low, high = low/math.Sqrt(rest), high*math.Sqrt(rest)
	}
	a := axis{min: math.Log10(low), max: math.Log10(high)}
	steps := []float64{1}
	switch decades := a.max - a.min; {
	case decades < 0.4:
		steps = []float64{1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8}
	case decades < 0.9:
		steps = []float64{1, 2, 5}
	case decades < 1.8:
		steps = []float64{1, 3}
	}
	for decade := int(math.Floor(a.min)); decade <= int(math.Ceil(a.max)); decade++ {
		for _, s := range steps {
			if v := math.Log10(s) + float64(decade); v >= a.min && v <= a.max {
				a.ticks = append(a.ticks, chartdraw.Tick{Value: v, Label: label(s * math.Pow(10, float64(decade)))})
			}
		}
	}
	if len(steps) == 1 && len(a.ticks) > space { // decades: every second, or third
		var some []chartdraw.Tick
		for i := 0; i < len(a.ticks); i += (len(a.ticks) + space - 1) / space {
			some = append(some, a.ticks[i])
		}
		a.ticks = some
	}
	return a
}
