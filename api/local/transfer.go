package local

import (
	"context"
	"encoding/json"
	"net/http"

	"packhouse/api"
	"packhouse/repo"
	"packhouse/repo/backup"
	"packhouse/repo/export"
	"packhouse/repo/transfer"
)

// TransferEvent is one line of the answer of what reads a whole repository: progress, an item with a problem, or the end, with a report of the kind R.
type TransferEvent[R any] struct {
	Progress *transfer.Progress `json:"progress,omitempty"`
	Problem  *transfer.Problem  `json:"problem,omitempty"`
	Broken   string             `json:"broken,omitempty"` // why it was given up; it is the last
	Done     *R                 `json:"done,omitempty"`   // it is the last
}

// The events of an export and of a backup.
type (
	ExportEvent = TransferEvent[export.Report]
	BackupEvent = TransferEvent[backup.Report]
)

// export carries out an export, or tells what it would do.
func (h *handler) export(w http.ResponseWriter, r *http.Request) {
	stream(h, w, r, PathExport, func(t transferring, q Request) (export.Report, error) {
		run := export.Run
		if q.Dry {
			run = export.Look
		}
		return run(r.Context(), export.Options{
			Repository: t.repository, Layout: q.Layout, Dir: q.Dir, Copy: q.Copy, Verify: q.Verify, Pace: t.pace,
			Progress: t.progress, Problem: t.problem,
		})
	})
}

// backup makes a backup, or tells what would be transferred.
func (h *handler) backup(w http.ResponseWriter, r *http.Request) {
	stream(h, w, r, PathBackup, func(t transferring, q Request) (backup.Report, error) {
		run := backup.Run
		if q.Dry {
			run = backup.Look
		}
		return run(r.Context(), backup.Options{
			Repository: t.repository, Dir: q.Dir, Copy: q.Copy, Verify: q.Verify, TakeOver: q.TakeOver, Pace: t.pace,
			Progress: t.progress, Problem: t.problem,
		})
	})
}

// transferring is what a transfer works on, and whom it tells of that.
type transferring struct {
	repository *repo.Repository
	progress   func(transfer.Progress)
	problem    func(transfer.Problem)
	pace       func(ctx context.Context, n int64) error
}

// stream answers a request with what run says until it ends, line by line. It ends with the request. Before the first line a refusal has its own status.
func stream[R any](h *handler, w http.ResponseWriter, r *http.Request, path string, run func(t transferring, q Request) (R, error)) {
	q, err := decode(r)
	t := transferring{}
	if err == nil {
		t.repository, err = h.set.Get(r.Context(), q.Name)
	}
	if err != nil {
		record(r, path, q, err)
		api.WriteText(w, r, http.StatusConflict, err.Error())
		return
	}
	out, begun := json.NewEncoder(w), false
	say := func(event TransferEvent[R]) {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "application/x-ndjson")
		}
		if out.Encode(event) == nil { // who does not listen any more ends the request
			_ = http.NewResponseController(w).Flush()
		}
	}
	t.progress = func(p transfer.Progress) { say(TransferEvent[R]{Progress: &p}) }
	t.problem = func(p transfer.Problem) { say(TransferEvent[R]{Problem: &p}) }
	var end func()
	t.pace, end = h.background()
	defer end()
	report, err := run(t, q)
	record(r, path, q, err)
	switch {
	case err == nil:
		say(TransferEvent[R]{Done: &report})
	case !begun:
		api.WriteText(w, r, http.StatusConflict, err.Error())
	default:
		say(TransferEvent[R]{Broken: err.Error()})
		panic(http.ErrAbortHandler) // cut short, so that the command does not take it for the whole
	}
}
