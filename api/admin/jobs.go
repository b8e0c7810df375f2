package admin

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"packhouse/api"
	"packhouse/compact"
	"packhouse/repo"
)

// submitPlan queues a compaction, or tells what it would do.
func (q *request) submitPlan(string) error {
	options, err := q.query("when", "delete", "dry_run")
	if err != nil {
		return err
	}
	deletes, err := flag("delete", options["delete"], true)
	if err != nil {
		return err
	}
	dry, err := flag("dry_run", options["dry_run"], false)
	if err != nil {
		return err
	}
	q.log.Reads = dry
	when := options["when"]
	if when == "" {
		when = compact.WhenNow
	}
	if err := compact.CheckWhen(when); err != nil {
		return err
	}
	plan := q.h.o.Engine.NewPlan(q.h.o.Limits)
	defer plan.Close()
	if err := readPlan(q.Body, plan, deletes); err != nil {
		return err
	}
	if dry {
		estimate, err := q.h.o.Engine.Estimate(q.Context(), q.access, plan)
		if err != nil {
			return err
		}
		return q.reply(http.StatusOK, estimate)
	}
	job, err := q.h.o.Engine.Submit(q.Context(), q.access, plan, when, api.IsTrusted(q.Context()))
	if err != nil {
		return err
	}
	return q.accepted(job, "compactions")
}

func (q *request) accepted(job compact.Job, collection string) error {
	q.log.Key = job.ID
	q.w.Header().Set("Location", api.AdminPath(q.name, collection+"/"+job.ID))
	return q.reply(http.StatusAccepted, job)
}

// submitScrub queues a scrub.
func (q *request) submitScrub(string) error {
	options, err := q.query("when", "share")
	if err != nil {
		return err
	}
	when, share := options["when"], 1.0
	if when == "" {
		when = compact.WhenNow
	}
	if text := options["share"]; text != "" {
		if share, err = strconv.ParseFloat(text, 64); err != nil || !(share > 0 && share <= 1) {
			return invalid("share is a number above 0, at most 1, not %q", text)
		}
	}
	job, err := q.h.o.Engine.SubmitScrub(q.Context(), q.repo, q.principal.Name, share, when)
	if err != nil {
		return err
	}
	return q.accepted(job, "jobs")
}

// mine tells whether the principal may see a job: its own, or any for who may list the repository.
func (q *request) mine(job compact.Job) bool {
	return job.Principal == q.principal.Name || q.access.May("", "l") == nil
}

func (q *request) listJobs(string) error { return q.list(nil) }
func (q *request) listCompactions(string) error {
	return q.list(func(k compact.Kind) bool { return k == compact.Compaction })
}

// list streams {"jobs": […]}: there may be one for every pack that a client has rewritten within a week.
func (q *request) list(want func(compact.Kind) bool) error {
	values, err := q.query("limit", "skip")
	if err != nil {
		return err
	}
	if _, ok := values["limit"]; ok {
		return q.pageOfJobs(values, want)
	}
	if len(values) > 0 {
		return invalid("skip is for a page, and needs limit")
	}
	if err := q.h.o.Engine.Resume(q.Context(), q.repo); err != nil {
		return err
	}
	api.Finish(q.w, q.Request)
	q.w.Header().Set("Content-Type", "application/json")
	q.w.WriteHeader(http.StatusOK)
	if q.Method == http.MethodHead {
		return nil
	}
	out := bufio.NewWriterSize(q.w, 32<<10)
	out.WriteString(`{"jobs":[`) // an error sticks, and is seen below
	separator := ""
	err = q.h.o.Engine.EachJob(q.Context(), q.repo, func(job compact.Job) error {
		if !q.mine(job) || want != nil && !want(job.Kind) {
			return nil
		}
		text, err := json.Marshal(job)
		if err != nil {
			return err
		}
		out.WriteString(separator)
		separator = ","
		_, err = out.Write(text)
		return err
	})
	out.WriteString("]}\n")
	if err = cmp.Or(err, out.Flush()); err != nil {
		api.Cut(q.Request, err) // so that the client does not take it for whole
	}
	return nil
}

// job finds a job that the principal may see.
func (q *request) job(id string) (compact.Job, error) {
	if err := q.h.o.Engine.Resume(q.Context(), q.repo); err != nil {
		return compact.Job{}, err
	}
	job, err := q.h.o.Engine.Job(q.repo, id)
	if err == nil && (!q.mine(job) || strings.Contains(q.URL.Path, "/compactions/") && job.Kind != compact.Compaction) {
		err = repo.ErrNotFound
	}
	if err != nil {
		return compact.Job{}, fmt.Errorf("job %s: %w", id, err)
	}
	return job, nil
}

func (q *request) showJob(id string) error {
	job, err := q.job(id)
	if err != nil {
		return err
	}
	shown, err := q.withPlan(job)
	if err != nil {
		return err
	}
	return q.reply(http.StatusOK, shown)
}

// cancelJob ends a job: one's own, or any for an administrator.
func (q *request) cancelJob(id string) error {
	job, err := q.job(id)
	if err != nil {
		return err
	}
	if job.Principal != q.principal.Name && !q.mayAll() {
		return repo.Errorf(repo.ErrDenied, "to cancel the job of somebody else needs all rights in the repository, as a token with the role admin has them")
	}
	if job.State.Ended() {
		return &statusError{http.StatusConflict, "the job has ended: " + string(job.State)}
	}
	if job, err = q.h.o.Engine.Cancel(q.Context(), q.repo, id); err != nil {
		return err
	}
	return q.reply(http.StatusOK, job)
}

// outcome is what one operation did.
type outcome struct {
	Operation int     `json:"operation"`
	Key       string  `json:"key,omitempty"`
	Size      int64   `json:"size"`
	Existed   bool    `json:"existed,omitempty"`
	Offsets   []int64 `json:"offsets,omitempty"`
	Deleted   []bool  `json:"deleted,omitempty"`
}

// listOutcomes streams what a plan did, one JSON document for each operation.
func (q *request) listOutcomes(id string) error {
	if _, err := q.job(id); err != nil {
		return err
	}
	begun := false
	begin := func() {
		if !begun {
			begun = true
			api.Finish(q.w, q.Request)
			q.w.Header().Set("Content-Type", "application/x-ndjson")
			q.w.WriteHeader(http.StatusOK)
		}
	}
	encoder := json.NewEncoder(q.w)
	err := q.h.o.Engine.Outcomes(q.repo, id, func(i int, o compact.Outcome) error {
		begin()
		if q.Method == http.MethodHead {
			return nil
		}
		return encoder.Encode(outcome{i, o.Key, o.Size, o.Existed, o.Offsets, o.Deleted})
	})
	if err == nil {
		begin()
		return nil
	}
	if begun {
		api.Cut(q.Request, err) // so that the client does not take it for whole
	}
	return err
}

// streamJob sends the job as server-sent events whenever it changes, until it has ended: "progress" while it
// runs, and one "end".
func (q *request) streamJob(id string) error {
	if _, err := q.job(id); err != nil {
		return err
	}
	if err := api.Stream(q.Context()); err != nil {
		return err
	}
	api.Finish(q.w, q.Request)
	q.w.Header().Set("Content-Type", "text/event-stream")
	q.w.Header().Set("Cache-Control", "no-store")
	q.w.WriteHeader(http.StatusOK)
	if q.Method == http.MethodHead {
		return nil
	}
	control := http.NewResponseController(q.w)
	ctx, cancel := context.WithCancel(q.Context())
	events := make(chan compact.Job)
	failed := make(chan error, 1)
	var watch sync.WaitGroup
	watch.Go(func() {
		_, err := q.h.o.Engine.Watch(ctx, q.repo, id, time.Second/2, func(job compact.Job) error {
			select {
			case events <- job:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		close(events)
		failed <- err
	})
	defer watch.Wait()
	defer cancel()
	heartbeat := time.NewTicker(q.h.o.Heartbeat)
	defer heartbeat.Stop()
	for {
		var text []byte
		select {
		case job, more := <-events:
			if !more {
				q.endOfStream(<-failed)
				return nil
			}
			text = event(job)
		case <-api.Stopping(q.Context()):
			q.endOfStream(fmt.Errorf("%w: the server is stopping", repo.ErrBusy))
			return nil
		case <-heartbeat.C:
			text = []byte(": still here\n\n")
		}
		if _, err := q.w.Write(text); err != nil {
			return nil // the client is gone
		}
		if err := control.Flush(); err != nil {
			return nil
		}
	}
}

// event is a job as one server-sent event.
func event(job compact.Job) []byte {
	name := "progress"
	if job.State.Ended() {
		name = "end"
	}
	body, err := json.Marshal(job)
	if err != nil {
		return nil // plain fields always encode
	}
	return fmt.Appendf(nil, "event: %s\ndata: %s\n\n", name, body)
}

// endOfStream says why a stream ended before its job did; the client may come again.
func (q *request) endOfStream(err error) {
	if err == nil || q.Context().Err() != nil {
		return
	}
	q.log.Reason = err.Error()
	p := describe(err)
	if body, err := json.Marshal(p); err == nil {
		fmt.Fprintf(q.w, "event: error\ndata: %s\n\n", body) // a client that is gone needs no error
	}
}
