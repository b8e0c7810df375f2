package ui_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestPlot: each day has its place in the picture and its row in the table, also a day on which nothing changed; nothing is drawn outside.
func TestPlot(t *testing.T) {
	growth := []object{{"day": "2026-01-01", "bytes": 1000}, {"day": "2026-01-04", "bytes": 6 << 20, "added": 7 << 20}, {"day": "2026-01-05", "bytes": 0, "added": 1}}
	p := stub(t, func(path string) any {
		if strings.HasSuffix(path, "/growth") {
			return object{"days": growth}
		}
		return hostileAPI(path)
	})
	text := p.wants([]string{"2026-01-02 1000 B 0 B", "2026-01-03 1000 B 0 B", "2026-01-04 6 MiB 7 MiB", "2026-01-05 0 B 1 B", "10 MiB 5 MiB 0", "1 Jan", "5 Jan"}, "repository", "name", "r")
	if n := strings.Count(text, "<rect "); n != 5 {
		t.Errorf("got %d bars, want 5", n)
	}
	numbers := regexp.MustCompile(`(?:[MLHZ ]|")(-?\d+\.\d)`)
	seen := 0
	for _, svg := range regexp.MustCompile(`(?s)<svg viewBox.*?</svg>`).FindAllString(text, -1) {
		for _, m := range numbers.FindAllStringSubmatch(svg, -1) {
			seen++
			if n, err := strconv.ParseFloat(m[1], 64); err != nil || n < 0 || n > 1000 {
				t.Errorf("%q is drawn outside", m[0])
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d coordinates were looked at", seen)
	}
	p.wants([]string{"2026-01-04", "2026-01-05"}, "repository", "name", "r", "days", "2")
	if text := p.wants(nil, "repository", "name", "r", "days", "2"); strings.Contains(readable(text), "2026-01-03") {
		t.Error("two days are three")
	}
	growth = growth[2:]
	p.wants([]string{"there is something to see from the second day on"}, "repository", "name", "r")
}
