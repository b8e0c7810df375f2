package report

import (
	"fmt"
	"strings"

	"packhouse/bench"
)

type tableView struct {
	Head []string
	Rows []tableRow
}

type tableRow struct {
	Cells []string
	Floor []string // ratios to the floor, of the cells
}

// headlineTable is the table of Table.
func headlineTable(run *bench.Run) tableView {
	t := tableView{Head: []string{"workload", "unit"}}
	for _, s := range run.Servers {
		t.Head = append(t.Head, s.Name)
	}
	for i := range run.Workloads {
		w := &run.Workloads[i]
		r := tableRow{Cells: []string{w.Name, unitOf(w, w.Measure)}, Floor: []string{"", ""}}
		for j := range w.Servers {
			text, _ := cell(run, w, &w.Servers[j], w.Measure, true)
			text, floor, _ := strings.Cut(text, " (")
			floor, rest, _ := strings.Cut(floor, ")")
			r.Cells, r.Floor = append(r.Cells, text+rest), append(r.Floor, floor)
		}
		t.Rows = append(t.Rows, r)
	}
	return t
}

// measureTable is every figure of a workload.
func measureTable(run *bench.Run, w *bench.WorkloadRun) tableView {
	t := tableView{Head: []string{"", "unit"}}
	servers := rows(w)
	for _, s := range servers {
		t.Head = append(t.Head, s.Server)
	}
	for _, m := range bench.Measures {
		r := tableRow{Cells: []string{measureName(m), unitOf(w, m)}}
		any := false
		for _, s := range servers {
			x, ok := s.Summary(m)
			any = any || ok
			text := ""
			switch {
			case ok && x.Min == x.Max:
				text = figure(x.Median)
			case ok:
				text = fmt.Sprintf("%s (%s to %s)", figure(x.Median), figure(x.Min), figure(x.Max))
			}
			r.Cells = append(r.Cells, text)
		}
		if any {
			t.Rows = append(t.Rows, r)
		}
	}
	count := tableRow{Cells: []string{"requests that succeeded", ""}}
	load := tableRow{Cells: []string{"most other load, cores", ""}}
	for _, s := range servers {
		count.Cells = append(count.Cells, grouped(requests(s)))
		most := -1.0
		for _, x := range s.Samples {
			most = max(most, x.OtherLoad)
		}
		text := "unknown"
		if most >= 0 {
			text = fmt.Sprintf("%.2f", most)
		}
		load.Cells = append(load.Cells, text)
	}
	t.Rows = append(t.Rows, count, load)
	return t
}
