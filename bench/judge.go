package bench

import (
	"fmt"
	"strings"
)

// otherLoad is the part of the machine's cores that other processes may use without disturbing a sample.
const otherLoad = 0.1

// largeSpread is the spread from which on a figure says little.
const largeSpread = 1.0 / 3

// judge fills in summaries, and what is to be said of the samples.
func (w *WorkloadRun) judge(rounds int) {
	for i := range w.Servers {
		s := &w.Servers[i]
		s.Summarize()
		if s.Skipped == "" && len(s.Samples) == 0 {
			s.Skipped = "no round gave a figure"
			if len(s.Disturbed) > 0 {
				s.Skipped, s.Disturbed = s.Disturbed[0], nil
			}
			continue
		}
		if x, ok := s.Summary(w.Measure); ok && x.Spread() > largeSpread {
			s.Disturbed = append(s.Disturbed, fmt.Sprintf("its rounds differ by %.0f %% of their median", 100*x.Spread()))
		}
		if _, ok := s.Summary(w.Measure); !ok && s.Skipped == "" {
			s.Disturbed = append(s.Disturbed, "no request succeeded")
		}
	}
}

// judge says what other load there was in the samples, and what follows for the run.
func (r *Run) judge() {
	limit := otherLoad * float64(max(1, r.Machine.Cores))
	samples, loaded, wide := 0, 0, 0
	for i := range r.Workloads {
		w := &r.Workloads[i]
		for _, s := range w.Servers {
			worst := Sample{}
			for _, x := range s.Samples {
				samples++
				if x.OtherLoad > limit {
					loaded++
				}
				if x.OtherLoad > worst.OtherLoad {
					worst = x
				}
			}
			if worst.OtherLoad > limit {
				w.Disturbed = append(w.Disturbed, fmt.Sprintf("others used %.1f cores in round %d of %s", worst.OtherLoad, worst.Round, s.Server))
			}
			if x, ok := s.Summary(w.Measure); ok && x.Spread() > largeSpread {
				wide++
			}
		}
	}
	if strings.HasPrefix(r.Machine.FileSystem, "tmpfs") {
		r.Disturbed = append(r.Disturbed, "the directory lies in memory, where syncs cost nothing: figures of puts are not those of a disk")
	}
	if loaded > 0 {
		r.Disturbed = append(r.Disturbed, fmt.Sprintf("in %d of %d samples other processes used more than %.1f cores", loaded, samples, limit))
	}
	if wide > 0 {
		r.Disturbed = append(r.Disturbed, fmt.Sprintf("%d figures have a spread above a third", wide))
	}
}
