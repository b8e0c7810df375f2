package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"packhouse/bench"
	"packhouse/internal/bytesize"
)

// Table writes a run as text: workloads as rows and servers as columns, with median, spread and ratio to the floor, followed by notes
// for reading them. An error is one of w.
func Table(w io.Writer, run *bench.Run) error {
	var b strings.Builder
	for _, line := range headLines(run) {
		b.WriteString(line + "\n")
	}
	for _, n := range runNotes(run) {
		fmt.Fprintf(&b, "%s %s\n", n.Mark, n)
	}
	headline := "\nMedian of the rounds, ± half of their spread"
	if floor := floorOf(run); floor != "" {
		headline += "; in brackets how that compares with the floor: more than 1x is better than it"
	}
	writeTable(&b, run, headline, func(w *bench.WorkloadRun) bench.Measure { return w.Measure }, true)
	for _, t := range []struct {
		measure bench.Measure
		title   string
	}{
		{bench.P50, "Half of the requests took at most, ms"},
		{bench.P99, "99 of 100 requests took at most, ms"},
		{bench.LongestStall, "Longest time without the end of a request, seconds"},
		{bench.ServerCPU, "Processor time of the server for a request, user and system, µs"},
		{bench.GeneratorCPU, "Processor time of the load generator for a request, µs"},
		{bench.PeakMemory, "Most resident memory of the server, MiB"},
	} {
		writeTable(&b, run, "\n"+t.title, func(*bench.WorkloadRun) bench.Measure { return t.measure }, false)
	}
	writeNotes(&b, run)
	_, err := io.WriteString(w, b.String())
	return err
}

// headLines say what ran where.
func headLines(run *bench.Run) []string {
	m := run.Machine
	return []string{
		fmt.Sprintf("packhouse %s, %s of %s in %s on %s", run.Program, settings(run.Settings), counted(run.Settings.Rounds, "round"), took(run.Seconds),
			run.Started.UTC().Format("2 January 2006 15:04 MST")),
		fmt.Sprintf("%s, %s, %s of memory, %s %s, %s", m.CPU, counted(m.Cores, "core"), bytesize.Text(m.Memory), m.OS, m.Kernel, m.FileSystem),
	}
}

func settings(s bench.Settings) string {
	text := s.Mode + " run"
	if len(s.Only) > 0 {
		text += " (only " + strings.Join(s.Only, ", ") + ")"
	}
	if s.Scale != 1 {
		text += fmt.Sprintf(" scaled by %v (its figures say nothing)", s.Scale)
	}
	return text
}

// writeTable writes one measure of all workloads that have it; none has it: nothing.
func writeTable(b *strings.Builder, run *bench.Run, title string, measure func(*bench.WorkloadRun) bench.Measure, headline bool) {
	tab := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	var lines []string
	for i := range run.Workloads {
		w := &run.Workloads[i]
		m := measure(w)
		line, any := w.Name+"\t"+unitOf(w, m)+"\t", headline
		for j := range w.Servers {
			text, ok := cell(run, w, &w.Servers[j], m, headline)
			line += text + "\t"
			any = any || ok
		}
		if any {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return
	}
	fmt.Fprintln(b, title)
	head := "workload\tunit\t"
	for _, s := range run.Servers {
		head += s.Name + "\t"
	}
	for _, line := range append([]string{head}, lines...) {
		fmt.Fprintln(tab, line) // a strings.Builder takes everything
	}
	_ = tab.Flush()
}

// cell is a figure with its spread and marks, and in the headline table the ratio to the floor.
func cell(run *bench.Run, w *bench.WorkloadRun, s *bench.ServerRun, m bench.Measure, headline bool) (text string, ok bool) {
	if s.Skipped != "" {
		return skippedMark, false
	}
	x, ok := s.Summary(m)
	if !ok {
		if headline {
			return "failed", false
		}
		return skippedMark, false
	}
	text = value(x)
	if r, ok := toFloor(run)(w, s); ok && headline {
		text += " (" + times(r) + ")"
	}
	return text + marks(w, s), true
}

// mostDoubts are the lines about figures in doubt that a table has: of a run on a busy machine, all are.
const mostDoubts = 20

// writeNotes says whether the servers sync before they answer, the state of the page cache, what was left out, failed and is in doubt.
func writeNotes(b *strings.Builder, run *bench.Run) {
	b.WriteString("\nServers\n")
	for _, s := range run.Servers {
		fmt.Fprintf(b, "  %s: %s", strings.TrimSpace(s.Name+" "+s.Version), durability(s))
		if s.Notes != "" {
			b.WriteString("; " + s.Notes)
		}
		if s.Command != "" {
			b.WriteString("\n    " + s.Command)
		}
		b.WriteByte('\n')
	}
	writeShared(b, "Page cache", run, func(w *bench.WorkloadRun) string { return w.Cache })
	writeShared(b, "Floor", run, func(w *bench.WorkloadRun) string { return w.Floor })
	for _, list := range []struct{ mark, title string }{
		{failedMark, "Failures, marked " + failedMark + "; they are in no figure"},
		{doubtMark, "In doubt, marked " + doubtMark},
		{skippedMark, "Not measured, shown as " + skippedMark},
	} {
		var all []note
		for i := range run.Workloads {
			for _, n := range notesOf(&run.Workloads[i]) {
				if n.Mark == list.mark {
					all = append(all, n)
				}
			}
		}
		if len(all) > 0 {
			fmt.Fprintf(b, "\n%s\n", list.title)
		}
		lines := joined(all)
		most := len(lines)
		if list.mark == doubtMark {
			most = min(most, mostDoubts)
		}
		for _, line := range lines[:most] {
			b.WriteString("  " + line + "\n")
		}
		if more := len(lines) - most; more > 0 {
			fmt.Fprintf(b, "  and %s more; the page and the JSON have them all\n", grouped(int64(more)))
		}
	}
}

// joined are notes as lines; those that say the same of several workloads of a server are one.
func joined(notes []note) []string {
	type what struct{ server, text string }
	var order []what
	of := make(map[what][]string)
	for _, n := range notes {
		k := what{n.Server, n.Text}
		if _, ok := of[k]; !ok {
			order = append(order, k)
		}
		of[k] = append(of[k], n.Workload)
	}
	var lines []string
	for _, k := range order {
		names := strings.Join(of[k], ", ")
		if k.server != "" {
			names = k.server + " in " + names
		}
		lines = append(lines, names+": "+k.text)
	}
	return lines
}

// writeShared says something that several workloads have in common.
func writeShared(b *strings.Builder, title string, run *bench.Run, of func(*bench.WorkloadRun) string) {
	var order []string
	names := make(map[string][]string)
	for i := range run.Workloads {
		w := &run.Workloads[i]
		text := of(w)
		if text == "" {
			continue
		}
		if _, ok := names[text]; !ok {
			order = append(order, text)
		}
		names[text] = append(names[text], w.Name)
	}
	if len(order) > 0 {
		fmt.Fprintf(b, "\n%s\n", title)
	}
	slices.SortStableFunc(order, func(x, y string) int { return cmp.Compare(len(names[x]), len(names[y])) })
	for i, text := range order {
		of := strings.Join(names[text], ", ")
		if i == len(order)-1 && len(names[text]) > 3 { // the most of them
			of = "all others"
		}
		if len(order) == 1 {
			of = "all workloads"
		}
		fmt.Fprintf(b, "  %s: %s\n", of, text)
	}
}
