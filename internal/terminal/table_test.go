package terminal

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"text/tabwriter"
)

// TestLongTable: also a table with aligned columns is printed as it comes, in blocks.
func TestLongTable(t *testing.T) {
	var b strings.Builder
	table := &Table{w: &b, align: tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)}
	for n := range 2*blockRows + 1 {
		table.Row(strings.Repeat("x", n%7), fmt.Sprint(n))
		if held := n + 1 - strings.Count(b.String(), "\n"); held >= blockRows {
			t.Fatalf("%d rows are held back", held)
		}
	}
	if err := table.End(); err != nil || !regexp.MustCompile(fmt.Sprintf(`(?m)^x* +%d$`, 2*blockRows)).MatchString(b.String()) {
		t.Errorf("got %v, %q", err, b.String()[b.Len()-20:])
	}
}
