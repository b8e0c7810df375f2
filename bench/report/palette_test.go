package report_test

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"packhouse/bench"
)

// deficiencies are matrices over linear red, green and blue that show what eyes see that lack a kind of cones.
// Source: Machado, Oliveira, Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency", 2009,
// severity 1.0.
var deficiencies = map[string][3][3]float64{
	"all cones":    {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}},
	"protanopia":   {{0.152286, 1.052583, -0.204868}, {0.114503, 0.786281, 0.099216}, {-0.003882, -0.048116, 1.051998}},
	"deuteranopia": {{0.367322, 0.860646, -0.227968}, {0.280085, 0.672501, 0.047413}, {-0.011820, 0.042940, 0.968881}},
	"tritanopia":   {{1.255528, -0.076749, -0.178779}, {-0.078411, 0.930809, 0.147602}, {0.004733, 0.691367, 0.303900}},
}

// linear is a colour such as #0a2f7a as linear red, green and blue.
func linear(t *testing.T, colour string) (rgb [3]float64) {
	t.Helper()
	n, err := strconv.ParseUint(strings.TrimPrefix(colour, "#"), 16, 24)
	if err != nil || len(colour) != 7 {
		t.Fatalf("%q is no colour", colour)
	}
	for i := range rgb {
		c := float64(n>>(16-8*i)&0xff) / 255
		if rgb[i] = c / 12.92; c > 0.04045 {
			rgb[i] = math.Pow((c+0.055)/1.055, 2.4)
		}
	}
	return rgb
}

func luminance(rgb [3]float64) float64 { return 0.2126*rgb[0] + 0.7152*rgb[1] + 0.0722*rgb[2] }

// lab is a colour in CIELAB, in which a distance of 2 is just seen.
func lab(rgb [3]float64) [3]float64 {
	f := func(v float64) float64 {
		if v > 0.008856 {
			return math.Cbrt(v)
		}
		return 7.787*v + 16.0/116
	}
	r, g, b := min(max(rgb[0], 0), 1), min(max(rgb[1], 0), 1), min(max(rgb[2], 0), 1)
	x, y, z := f((0.4124*r+0.3576*g+0.1805*b)/0.95047), f(0.2126*r+0.7152*g+0.0722*b), f((0.0193*r+0.1192*g+0.9505*b)/1.08883)
	return [3]float64{116*y - 16, 500 * (x - y), 200 * (y - z)}
}

func seen(rgb [3]float64, m [3][3]float64) [3]float64 {
	var out [3]float64
	for i := range out {
		out[i] = m[i][0]*rgb[0] + m[i][1]*rgb[1] + m[i][2]*rgb[2]
	}
	return lab(out)
}

// The colours of servers can be told apart without some cones, on the background of light and of dark, and stand out
// from it (WCAG 2.1, 1.4.11: at least 3 to 1).
func TestColoursCanBeToldApart(t *testing.T) {
	themes := regexp.MustCompile(`--card:(#[0-9a-f]{6});.*?((?:--s\d:#[0-9a-f]{6};)+)`).FindAllStringSubmatch(page(t, stored(t), nil), -1)
	if len(themes) != 2 {
		t.Fatalf("the page has %d themes, want light and dark", len(themes))
	}
	for _, theme := range themes {
		background := luminance(linear(t, theme[1]))
		colours := regexp.MustCompile(`#[0-9a-f]{6}`).FindAllString(theme[2], -1)
		if len(colours) < 8 {
			t.Fatalf("only %d colours", len(colours))
		}
		for i, a := range colours {
			l := luminance(linear(t, a))
			if contrast := (max(l, background) + 0.05) / (min(l, background) + 0.05); contrast < 3 {
				t.Errorf("%s on %s: contrast %.1f", a, theme[1], contrast)
			}
			for _, b := range colours[:i] {
				for name, m := range deficiencies {
					x, y := seen(linear(t, a), m), seen(linear(t, b), m)
					if d := math.Hypot(math.Hypot(x[0]-y[0], x[1]-y[1]), x[2]-y[2]); d < 15 {
						t.Errorf("%s and %s are alike with %s: distance %.0f", a, b, name, d)
					}
				}
			}
		}
	}
}

// A server has one colour, whoever else is in the run.
func TestServerKeepsItsColour(t *testing.T) {
	class := regexp.MustCompile(`class="bar (s\d)"`)
	of := func(run *bench.Run, server string) string {
		c := card(t, parse(t, page(t, run, nil)), "put8k@1")
		var names, bars []string
		for _, n := range c.all("text") {
			if n.attrs["class"] == "name" {
				names = append(names, strings.TrimSpace(n.text))
			}
		}
		for _, n := range c.all("path") {
			if m := class.FindStringSubmatch(`class="` + n.attrs["class"] + `"`); m != nil {
				bars = append(bars, m[1])
			}
		}
		for i := range bars { // names of the bars come first
			if names[i] == server {
				return bars[i]
			}
		}
		t.Fatalf("no bar of %s", server)
		return ""
	}
	run := stored(t)
	all := of(run, "rest-server")
	run.Servers = run.Servers[4:]
	for i := range run.Workloads {
		run.Workloads[i].Servers = run.Workloads[i].Servers[4:]
	}
	if alone := of(run, "rest-server"); alone != all {
		t.Errorf("rest-server is %s beside others and %s without", all, alone)
	}
	run.Servers[0].Name, run.Workloads[0].Servers[0].Server = "another", "another"
	if other := of(run, "another"); other == all {
		t.Errorf("an unknown server has the colour of rest-server")
	}
}
