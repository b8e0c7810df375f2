package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"packhouse/bench"
	"packhouse/internal/bytesize"
)

// FairnessTable writes a fairness run as text: for each kind of trouble and each request of honest clients p50 and p99 without it and
// beside it, and how many times as long that is. An error is one of w.
func FairnessTable(w io.Writer, run *bench.FairnessRun) error {
	var b strings.Builder
	s, m := run.Settings, run.Machine
	fmt.Fprintf(&b, "packhouse %s, fairness, %s in %s on %s\n", run.Program, counted(s.Rounds, "round"), took(run.Seconds), run.Started.UTC().Format("2 January 2006 15:04 MST"))
	fmt.Fprintf(&b, "%s, %s, %s of memory, %s %s, %s\n", m.CPU, counted(m.Cores, "core"), bytesize.Text(m.Memory), m.OS, m.Kernel, m.FileSystem)
	fmt.Fprintf(&b, "%s of honest clients send %s together; each phase takes %s\n", counted(s.Connections, "connection"), counted(s.Rate, "request")+" a second", took(s.Seconds))
	for i := range run.Troubles {
		writeFairnessPart(&b, run, &run.Troubles[i])
	}
	if run.Incomplete != "" {
		fmt.Fprintf(&b, "\nThe run is incomplete: %s\n", run.Incomplete)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeFairnessPart(b *strings.Builder, run *bench.FairnessRun, p *bench.FairnessPart) {
	if len(p.Beside) == 0 {
		return
	}
	fmt.Fprintf(b, "\nBeside %s, ms\n", p.Title)
	tab := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tab, "request\tp50 alone\tbeside\tratio\tp99 alone\tbeside\tratio\tslowest\tfailed\t") // a strings.Builder takes everything
	for _, name := range run.OperationNames() {
		alone, beside := bench.Merged(p.Alone, name), bench.Merged(p.Beside, name)
		if alone.Requests+beside.Requests+beside.Failures == 0 {
			continue
		}
		fmt.Fprintf(tab, "%s\t", name)
		for _, q := range []float64{0.50, 0.99} {
			without, with := alone.Latency.Quantile(q), beside.Latency.Quantile(q)
			ratio := skippedMark
			if without > 0 && with > 0 {
				ratio = times(with / without)
			}
			fmt.Fprintf(tab, "%s\t%s\t%s\t", figure(without), figure(with), ratio)
		}
		fmt.Fprintf(tab, "%s\t%s\t\n", figure(beside.Latency.Quantile(1)), grouped(beside.Failures))
	}
	_ = tab.Flush()
	for _, line := range fairnessNotes(p) {
		b.WriteString("  " + line + "\n")
	}
}

// fairnessNotes say what the trouble was, what the processors did, and what failed.
func fairnessNotes(p *bench.FairnessPart) []string {
	var report bench.TroubleReport
	var server, aside, honest, trouble, others float64
	for i, s := range p.Beside {
		if s.Report != nil {
			report.Connected += s.Report.Connected
			report.Closed += s.Report.Closed
			report.Tries += s.Report.Tries
			report.Refused += s.Report.Refused
			report.Read += s.Report.Read
		}
		server += s.Server.Total()
		honest += s.Generator.Total()
		trouble += s.Trouble.Total()
		others = max(others, s.OtherLoad)
		aside += p.Alone[i].Server.Total()
	}
	got := fmt.Sprintf("the trouble made %s, of which the server ended %s", counted(int(report.Connected), "connection"), grouped(report.Closed))
	if report.Tries > 0 {
		got += fmt.Sprintf("; %s wrong passwords, %s of them refused without a look", grouped(report.Tries), grouped(report.Refused))
	}
	if report.Read > 0 {
		got += "; read " + bytesize.Text(report.Read)
	}
	notes := []string{got, fmt.Sprintf("processor time: server %s (alone %s), honest clients %s, trouble %s", took(server), took(aside), took(honest), took(trouble))}
	if others >= 0.2 {
		notes = append(notes, fmt.Sprintf("in doubt: other processes used %.1f cores", others))
	}
	for _, samples := range [][]bench.FairnessSample{p.Alone, p.Beside} {
		for _, s := range samples {
			for _, o := range s.Operations {
				if o.Failures > 0 {
					notes = append(notes, fmt.Sprintf("%s failed: %s", o.Name, strings.Join(o.Errors, "; ")))
				}
			}
		}
	}
	return notes
}
