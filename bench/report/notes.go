package report

import (
	"fmt"
	"slices"
	"strings"

	"packhouse/bench"
)

// note is something a reader must know of figures: what was left out, failed or is in doubt.
type note struct {
	Mark     string // skippedMark, failedMark or doubtMark
	Workload string // empty: of the whole run
	Server   string // empty: of all servers
	Text     string
}

// The marks beside figures, explained by notes.
const (
	skippedMark = "-"
	failedMark  = "f"
	doubtMark   = "!"
)

func (n note) String() string {
	of := strings.Trim(n.Workload+", "+n.Server, ", ")
	if of == "" {
		return n.Text
	}
	return of + ": " + n.Text
}

// notesOf are all notes of a workload.
func notesOf(w *bench.WorkloadRun) []note {
	var notes []note
	for i := range w.Servers {
		s := &w.Servers[i]
		if s.Skipped != "" {
			notes = append(notes, note{skippedMark, w.Name, s.Server, s.Skipped})
			continue
		}
		_, measured := s.Summary(w.Measure)
		switch n := failures(s); {
		case n > 0:
			notes = append(notes, note{failedMark, w.Name, s.Server, fmt.Sprintf("%s of %s failed, such as %s", grouped(n), counted(int(n+requests(s)), "request"), firstError(s))})
		case !measured:
			notes = append(notes, note{failedMark, w.Name, s.Server, "no request succeeded"})
		}
		for _, text := range s.Disturbed {
			notes = append(notes, note{doubtMark, w.Name, s.Server, text})
		}
		notes = append(notes, besideFailed(w, s)...)
	}
	for _, text := range w.Disturbed {
		notes = append(notes, note{doubtMark, w.Name, "", text})
	}
	return notes
}

// shared makes one of the notes that say the same of several servers, and of those about all servers.
func shared(notes []note) []note {
	var all []note
	for _, n := range notes {
		i := slices.IndexFunc(all, func(x note) bool {
			return x.Mark == n.Mark && x.Workload == n.Workload && (x.Server == "") == (n.Server == "") && (x.Text == n.Text || n.Server == "")
		})
		switch {
		case i < 0:
			all = append(all, n)
		case n.Server == "":
			all[i].Text += "; " + n.Text
		default:
			all[i].Server += ", " + n.Server
		}
	}
	return all
}

// besideFailed tells of what ran beside a mixed load and did not succeed.
func besideFailed(w *bench.WorkloadRun, s *bench.ServerRun) []note {
	var notes []note
	for _, x := range s.Samples {
		if x.Timeline == nil {
			continue
		}
		for _, b := range x.Timeline.Beside {
			if b.Error != "" {
				notes = append(notes, note{failedMark, w.Name, s.Server, fmt.Sprintf("%s beside the load failed in round %d: %s", b.Name, x.Round, b.Error)})
			}
		}
	}
	return notes
}

// runNotes are those of the whole run.
func runNotes(run *bench.Run) []note {
	var notes []note
	if run.Incomplete != "" {
		notes = append(notes, note{doubtMark, "", "", "the run is incomplete: " + run.Incomplete})
	}
	for _, text := range run.Disturbed {
		notes = append(notes, note{doubtMark, "", "", "the run was disturbed: " + text})
	}
	return notes
}

// marks are what stands beside a server's figures in a workload.
func marks(w *bench.WorkloadRun, s *bench.ServerRun) string {
	text := ""
	if disturbed(w, s) {
		text += " " + doubtMark
	}
	if failures(s) > 0 {
		text += " " + failedMark
	}
	return text
}

func disturbed(w *bench.WorkloadRun, s *bench.ServerRun) bool {
	return len(s.Disturbed)+len(w.Disturbed) > 0
}

func failures(s *bench.ServerRun) (n int64) {
	for i := range s.Samples {
		n += s.Samples[i].Total().Failures
	}
	return n
}

func requests(s *bench.ServerRun) (n int64) {
	for i := range s.Samples {
		n += s.Samples[i].Total().Requests
	}
	return n
}

func firstError(s *bench.ServerRun) string {
	for i := range s.Samples {
		if errors := s.Samples[i].Total().Errors; len(errors) > 0 {
			return errors[0]
		}
	}
	return "an error that was not kept"
}

// counted is a number with its noun.
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return grouped(int64(n)) + " " + noun + "s"
}

// durability says what an answer to a write means.
func durability(s bench.ServerInfo) string {
	switch {
	case s.Durable:
		return "syncs before it answers"
	case s.NeverSyncs:
		return "never syncs"
	}
	return "answers before it syncs"
}
