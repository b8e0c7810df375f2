package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"packhouse/bench"
)

// writeRunTable prints a run for people: one table for each kind of figure, then what must be known to read them.
func writeRunTable(w io.Writer, run *bench.Run) error {
	t := &runTable{run: run}
	m := run.Machine
	t.line("packhouse %s, %s, %d rounds; %s, %d cores, %.0f GiB, %s %s, %s", run.Program, run.Settings.Mode, run.Settings.Rounds,
		m.CPU, m.Cores, float64(m.Memory)/(1<<30), m.OS, m.Kernel, m.FileSystem)
	t.line("")
	t.table("figures: requests or items a second, MB/s of large items, or seconds; median of the rounds ± half of their spread",
		func(w bench.WorkloadRun) bench.Measure { return w.Measure })
	of := func(m bench.Measure) func(bench.WorkloadRun) bench.Measure {
		return func(bench.WorkloadRun) bench.Measure { return m }
	}
	t.table("processor time of the server a request, user and system, µs", of(bench.ServerCPU))
	t.table("processor time of the load generator a request, µs", of(bench.GeneratorCPU))
	t.table("99 of 100 requests took at most, ms", of(bench.P99))
	t.table("longest time without the end of a request, seconds", of(bench.LongestStall))
	t.table("most resident memory of the server, MiB", of(bench.PeakMemory))
	t.notes()
	_, err := io.WriteString(w, t.b.String())
	return err
}

type runTable struct {
	run *bench.Run
	b   strings.Builder
}

func (t *runTable) line(format string, args ...any) { fmt.Fprintf(&t.b, format+"\n", args...) }

// table prints one measure of all workloads that have it.
func (t *runTable) table(title string, measure func(bench.WorkloadRun) bench.Measure) {
	tab := tabwriter.NewWriter(&t.b, 0, 0, 2, ' ', tabwriter.AlignRight)
	var rows []string
	for _, w := range t.run.Workloads {
		row, any := "", false
		for _, s := range w.Servers {
			x, ok := s.Summary(measure(w))
			any = any || ok
			row += cell(x, ok, s) + "\t"
		}
		if any {
			rows = append(rows, w.Name+" "+unit(w, measure(w))+"\t"+row)
		}
	}
	if len(rows) == 0 {
		return
	}
	t.line("%s", title)
	head := "\t"
	for _, s := range t.run.Servers {
		head += s.Name + "\t"
	}
	fmt.Fprintln(tab, head) // a strings.Builder takes everything
	for _, row := range rows {
		fmt.Fprintln(tab, row)
	}
	_ = tab.Flush()
	t.line("")
}

// unit is how a row is labelled.
func unit(w bench.WorkloadRun, m bench.Measure) string {
	if m == bench.Rate && w.Kind == "batchdelete" {
		return "items/s"
	}
	return m.Unit()
}

// cell is a figure with its spread; "!" marks one that is in doubt, "f" one with failed requests.
func cell(x bench.Summary, ok bool, s bench.ServerRun) string {
	if !ok {
		return "-"
	}
	text := figure(x.Median)
	if spread := x.Spread(); spread >= 0.005 {
		text += fmt.Sprintf(" ±%.0f%%", 50*spread)
	}
	if len(s.Disturbed) > 0 {
		text += "!"
	}
	if failures(s) > 0 {
		text += "f"
	}
	return text
}

func failures(s bench.ServerRun) (n int64) {
	for _, x := range s.Samples {
		n += x.Total().Failures
	}
	return n
}

// figure has three significant digits, or all before the point.
func figure(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.3f", v)
	}
}

// notes says what the servers promise, what was left out, what failed, and what was disturbed.
func (t *runTable) notes() {
	for _, s := range t.run.Servers {
		durable := "writes are durable when acknowledged"
		if !s.Durable {
			durable = "writes are NOT durable when acknowledged"
		}
		t.line("%s %s: %s; %s", s.Name, s.Version, durable, s.Notes)
	}
	caches := map[string][]string{}
	var order []string
	for _, w := range t.run.Workloads {
		if caches[w.Cache] == nil {
			order = append(order, w.Cache)
		}
		caches[w.Cache] = append(caches[w.Cache], w.Name)
	}
	for _, cache := range order {
		t.line("page cache %s (%s)", cache, strings.Join(caches[cache], ", "))
	}
	for _, w := range t.run.Workloads {
		for _, s := range w.Servers {
			switch {
			case s.Skipped != "":
				t.line("- %s, %s: %s", w.Name, s.Server, s.Skipped)
			case failures(s) > 0:
				t.line("f %s, %s: %d requests failed, such as %s", w.Name, s.Server, failures(s), firstError(s))
			}
			for _, text := range s.Disturbed {
				t.line("! %s, %s: %s", w.Name, s.Server, text)
			}
		}
		for _, text := range w.Disturbed {
			t.line("! %s: %s", w.Name, text)
		}
	}
	for _, text := range t.run.Disturbed {
		t.line("DISTURBED: %s", text)
	}
	if t.run.Incomplete != "" {
		t.line("INCOMPLETE: %s", t.run.Incomplete)
	}
}

func firstError(s bench.ServerRun) string {
	for _, x := range s.Samples {
		if errors := x.Total().Errors; len(errors) > 0 {
			return errors[0]
		}
	}
	return "unknown"
}
