package compaction_test

import (
	"errors"
	"strings"
	"testing"

	"packhouse/bench/compaction"
)

// TestCompare: there is a line for every way, beside the floor's; and what one ends with ends the comparison.
func TestCompare(t *testing.T) {
	c := compaction.Default(t.TempDir(), 1<<30)
	var out strings.Builder
	err := c.Compare(&out, func(way string) (compaction.Figures, error) {
		seconds := 4.0
		if way == "floor" {
			seconds = 1
		}
		return compaction.Figures{Way: way, In: 8e6, Out: 8e6, Seconds: seconds}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")[3:]
	if len(lines) != len(compaction.Ways) {
		t.Fatalf("got\n%s", &out)
	}
	for i, way := range compaction.Ways {
		share := " 0.25 "
		if way == "floor" {
			share = " 1.00 "
		}
		if !strings.HasPrefix(lines[i], way+" ") || !strings.Contains(lines[i], share) || !strings.HasSuffix(lines[i], compaction.Describe(way)) {
			t.Errorf("%s: got %q", way, lines[i])
		}
	}
	broken := errors.New("broken")
	err = c.Compare(&out, func(string) (compaction.Figures, error) { return compaction.Figures{}, broken })
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}
