package report

import (
	"fmt"

	"packhouse/bench"
)

// mixedView is one mixed load.
type mixedView struct {
	Name, Title string
	Latencies   []picture
	Servers     []mixedServer
}

type mixedServer struct {
	Server, Class string
	Rounds        []picture
}

// mixed shows workloads that have timelines.
func (p *page) mixed(colours palette) error {
	for i := range p.Run.Workloads {
		w := &p.Run.Workloads[i]
		m := mixedView{Name: w.Name, Title: w.Title}
		for _, s := range rows(w) {
			view := mixedServer{Server: s.Server, Class: colours.class(s.Server)}
			top := topRate(s)
			for j := range s.Samples {
				x := &s.Samples[j]
				if x.Timeline == nil || len(x.Timeline.Requests) == 0 || x.Timeline.StepSeconds <= 0 {
					continue
				}
				svg, err := timeline(w, s.Server, x, top, colours)
				if err != nil {
					return err
				}
				view.Rounds = append(view.Rounds, picture{svg, fmt.Sprintf("round %d: longest stall %s s, %s of %s s or more", x.Round,
					figure(x.Timeline.LongestStall), counted(len(x.Timeline.Stalls), "stall"), figure(x.Timeline.StallSeconds))})
			}
			if len(view.Rounds) > 0 {
				m.Servers = append(m.Servers, view)
			}
		}
		if len(m.Servers) == 0 {
			continue
		}
		for _, name := range operations(w) {
			svg, err := latency(w, name, colours)
			if err != nil {
				return err
			}
			if svg != "" {
				m.Latencies = append(m.Latencies, picture{svg, name + ": latency; median · 99 of 100 at most, in ms"})
			}
		}
		p.Mixed = append(p.Mixed, m)
	}
	return nil
}

// operations are the names of what requests of a workload did, if there are several.
func operations(w *bench.WorkloadRun) []string {
	var names []string
	for _, s := range rows(w) {
		for _, x := range s.Samples {
			for _, o := range x.Operations {
				names = appendNew(names, o.Name)
			}
		}
	}
	if len(names) < 2 {
		return nil
	}
	return names
}
