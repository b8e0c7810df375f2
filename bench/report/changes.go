package report

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"
)

// Write writes the comparison as text: first how the conditions of the runs differ, then what became significantly worse and better,
// then the main figures whose change is not significant. An error is one of w.
func (c *Comparison) Write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "old: %s\nnew: %s\n", strings.Join(headLines(c.Old), "; "), strings.Join(headLines(c.New), "; "))
	list(&b, "\nThe runs are not alike, so that a change need not come from the program:", c.Differences)
	list(&b, "\nFailures:", c.Failed)
	list(&b, "\nFigures that only the old run has:", c.Lost)
	if len(c.Gained) > 0 {
		b.WriteString("\nFigures that only the new run has:\n" + wrapped(strings.Join(c.Gained, "; "), 110) + "\n")
	}
	worse, better, same := c.sorted()
	writeChanges(&b, fmt.Sprintf("\nWorse beyond the noise (%d)", len(worse)), worse)
	writeChanges(&b, fmt.Sprintf("\nBetter beyond the noise (%d)", len(better)), better)
	writeChanges(&b, fmt.Sprintf("\nLook changed, but are within the noise (of %d figures that are)", len(same)), apparent(same))
	for _, text := range c.explanation() {
		b.WriteString("\n" + wrapped(text, 110) + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// sorted are the changes by what is to be said of them.
func (c *Comparison) sorted() (worse, better, same []Change) {
	for _, x := range c.Changes {
		switch {
		case x.Verdict == Noise:
			same = append(same, x)
		case x.Better():
			better = append(better, x)
		default:
			worse = append(worse, x)
		}
	}
	// What the floor did too says least.
	own := func(x Change) bool { return x.Floor == 0 && x.Server != floorOf(c.New) }
	return firstThose(own, worse), firstThose(own, better), same
}

// firstThose puts the changes that are of a kind before the others.
func firstThose(of func(Change) bool, all []Change) []Change {
	var first, others []Change
	for _, x := range all {
		if of(x) {
			first = append(first, x)
		} else {
			others = append(others, x)
		}
	}
	return append(first, others...)
}

// apparent are the headline figures that changed by 3 % or more.
func apparent(all []Change) []Change {
	return slices.DeleteFunc(headlines(all), func(x Change) bool { return math.Abs(x.Percent()) < 3 })
}

// headlines are the changes of the measures that workloads have as their own.
func headlines(all []Change) []Change {
	var own []Change
	for _, x := range all {
		if x.Measure == x.Workload.Measure {
			own = append(own, x)
		}
	}
	return own
}

func list(b *strings.Builder, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	b.WriteString(title + "\n")
	for _, line := range lines {
		b.WriteString("  " + line + "\n")
	}
}

func writeChanges(b *strings.Builder, title string, changes []Change) {
	if len(changes) == 0 {
		return
	}
	b.WriteString(title + "\n")
	var text strings.Builder
	tab := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "  workload\tserver\tmeasure\told\tnew\tchange\t")
	for _, x := range changes {
		fmt.Fprintf(tab, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\n", x.Workload.Name, x.Server, strings.TrimSpace(measureName(x.Measure)+", "+unitOf(x.Workload, x.Measure)),
			value(x.Old), value(x.New), percent(x.Percent()), x.remarks())
	}
	_ = tab.Flush() // a strings.Builder takes everything
	for line := range strings.Lines(text.String()) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
}

func percent(v float64) string {
	if v > -0.05 && v < 0.05 {
		return "0%"
	}
	if v >= 10 || v <= -10 {
		return fmt.Sprintf("%+.0f%%", v)
	}
	return fmt.Sprintf("%+.1f%%", v)
}

// remarks are what must be known of a change, in few words.
func (c Change) remarks() string {
	var all []string
	if c.Verdict != Noise || c.P <= 0.2 {
		all = append(all, "p="+fmt.Sprintf("%.2g", c.P))
	}
	if c.Verdict == Apart {
		all = append(all, "apart")
	}
	if c.Floor != 0 {
		all = append(all, fmt.Sprintf("floor %s", times(c.Floor)))
	}
	if c.Doubt {
		all = append(all, "in doubt")
	}
	return strings.Join(all, ", ")
}

// explanation says what the remarks and verdicts mean.
func (c *Comparison) explanation() []string {
	floored, doubtful, few, beyond := false, false, false, 0
	for _, x := range c.Changes {
		floored = floored || x.Floor != 0
		doubtful = doubtful || x.Doubt
		few = few || x.Few
		if x.Verdict != Noise {
			beyond++
		}
	}
	lines := []string{fmt.Sprintf("%s of %s changed beyond the noise; by chance alone up to %d would seem to. "+
		"p is that of the Mann-Whitney test on the rounds of both runs.", grouped(int64(beyond)), counted(len(c.Changes), "figure"), int(alpha*float64(len(c.Changes))+0.5)),
		"The rounds of a run know nothing of what differs between runs, such as a virtual disk that is slower today: repeat both before you believe it."}
	if few {
		lines = append(lines, "With so few rounds the test cannot be sure of anything. \"Apart\" are figures whose rounds do not overlap, with more than half of "+
			"the wider spread between them. With 4 rounds or more in both runs (--rounds) the test decides.")
	}
	if floored {
		lines = append(lines, "\"Floor\": the floor changed by that factor too (more than 1x is better), so that the machine is the likely reason.")
	}
	if doubtful {
		lines = append(lines, "\"In doubt\": one of the figures was disturbed.")
	}
	return lines
}

// wrapped breaks text into lines of at most width characters.
func wrapped(text string, width int) string {
	var b strings.Builder
	column := 0
	for i, word := range strings.Fields(text) {
		switch n := utf8.RuneCountInString(word); {
		case i == 0:
			column = n
		case column+1+n > width:
			b.WriteByte('\n')
			column = n
		default:
			b.WriteByte(' ')
			column += 1 + n
		}
		b.WriteString(word)
	}
	return b.String()
}
