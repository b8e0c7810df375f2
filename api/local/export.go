package local

import (
	"encoding/json"
	"net/http"

	"packhouse/api"
	"packhouse/repo"
	"packhouse/repo/export"
)

// ExportEvent is one line of an export's answer: progress, an item that is not exported, or the end.
type ExportEvent struct {
	Progress *export.Progress `json:"progress,omitempty"`
	Problem  *export.Problem  `json:"problem,omitempty"`
	Broken   string           `json:"broken,omitempty"` // why it was given up; it is the last
	Done     *export.Report   `json:"done,omitempty"`   // it is the last
}

// export carries out an export, or tells what it would do. It ends with the request. Before the first line a refusal has its own status.
func (h *handler) export(w http.ResponseWriter, r *http.Request) {
	q, err := decode(r)
	var repository *repo.Repository
	if err == nil {
		repository, err = h.set.Get(r.Context(), q.Name)
	}
	if err != nil {
		record(r, PathExport, q, err)
		api.WriteText(w, r, http.StatusConflict, err.Error())
		return
	}
	out, begun := json.NewEncoder(w), false
	say := func(event ExportEvent) {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "application/x-ndjson")
		}
		if out.Encode(event) == nil { // who does not listen any more ends the request
			_ = http.NewResponseController(w).Flush()
		}
	}
	pace, end := h.background()
	defer end()
	run := export.Run
	if q.Dry {
		run = export.Look
	}
	report, err := run(r.Context(), export.Options{
		Repository: repository, Layout: q.Layout, Dir: q.Dir, Copy: q.Copy, Verify: q.Verify, Pace: pace,
		Progress: func(p export.Progress) { say(ExportEvent{Progress: &p}) },
		Problem:  func(p export.Problem) { say(ExportEvent{Problem: &p}) },
	})
	record(r, PathExport, q, err)
	switch {
	case err == nil:
		say(ExportEvent{Done: &report})
	case !begun:
		api.WriteText(w, r, http.StatusConflict, err.Error())
	default:
		say(ExportEvent{Broken: err.Error()})
		panic(http.ErrAbortHandler) // cut short, so that the command does not take it for the whole
	}
}
