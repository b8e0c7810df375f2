package report

import (
	"fmt"
	"slices"
	"strings"

	"packhouse/bench"
)

// hue is a server's colour and the shape of its points: all of them differ for eyes that do not see every colour, on
// white and on black (a test holds that), and no plot depends on the colour alone.
type hue struct {
	light, dark string
	shape       shape
}

var hues = []hue{
	{"#0a2f7a", "#5b78ff", circle},
	{"#2f7fe0", "#a9cdf9", square},
	{"#66666c", "#8d878c", upright},
	{"#8a4800", "#f7a94f", diamond},
	{"#00a56c", "#20e8b0", upturned},
	{"#e2559f", "#b34fb8", cross},
	{"#5c0012", "#c5503c", diamond},
	{"#ad8f00", "#f4ee50", square},
}

// known are the servers that have the same hue in every report; others take what is left in their order.
var known = []string{"packhouse", "packhouse-vger", "floor", "borgstore", "rest-server", "vykar", "packhouse-restic"}

// palette is the number of the hue of each server.
type palette map[string]int

func newPalette(servers []bench.ServerInfo) palette {
	p := make(palette)
	free := len(known)
	for _, s := range servers {
		i := slices.Index(known, s.Name)
		if i < 0 {
			i = free % len(hues) // more servers than hues share them, and are told apart by their labels
			free++
		}
		p[s.Name] = i
	}
	return p
}

// class is the class of a server's shapes.
func (p palette) class(server string) string { return fmt.Sprintf("s%d", p[server]) }

func (p palette) shape(server string) shape { return hues[p[server]].shape }

// paletteStyle declares the colours of the hues.
func paletteStyle(dark bool) string {
	var b strings.Builder
	for i, h := range hues {
		colour := h.light
		if dark {
			colour = h.dark
		}
		fmt.Fprintf(&b, "--s%d:%s;", i, colour)
	}
	return b.String()
}

// paletteRules give the classes of servers their colours.
func paletteRules() string {
	var b strings.Builder
	for i := range hues {
		fmt.Fprintf(&b, ".s%d{--c:var(--s%d)}", i, i)
	}
	return b.String()
}

// shape is the form of a point.
type shape int

const (
	circle shape = iota
	square
	upright
	diamond
	upturned
	cross
)

// outline is the shape around a place; size is half of its width, in units.
func (s shape) outline(at point, size int) []point {
	corners := func(xy ...int) (all []point) {
		for i := 0; i < len(xy); i += 2 {
			all = append(all, point{at.x + xy[i]*size/10, at.y + xy[i+1]*size/10})
		}
		return all
	}
	switch s {
	case square:
		return corners(-9, -9, 9, -9, 9, 9, -9, 9)
	case upright:
		return corners(0, -11, 11, 8, -11, 8)
	case upturned:
		return corners(0, 11, 11, -8, -11, -8)
	case diamond:
		return corners(0, -13, 11, 0, 0, 13, -11, 0)
	case cross:
		return corners(-10, -4, -4, -4, -4, -10, 4, -10, 4, -4, 10, -4, 10, 4, 4, 4, 4, 10, -4, 10, -4, 4, -10, 4)
	default:
		return corners(4, -10, 10, -4, 10, 4, 4, 10, -4, 10, -10, 4, -10, -4, -4, -10)
	}
}
