package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"packhouse/api"
	"packhouse/api/borgstore"
	"packhouse/api/vger"
	"packhouse/cmd/packhouse/internal/holder"
	"packhouse/index"
	"packhouse/repo"
)

// Paths that only our own commands can ask, over a holder's socket: what the API of package admin does not
// give to anyone far away. Each is a POST of a localRequest.
const (
	pathCreate  = "/-/local/create"
	pathDestroy = "/-/local/destroy"
	pathSalvage = "/-/local/salvage"     // answers with a salvageAnswer
	pathLoss    = "/-/local/accept-loss" // answers with a repo.LossReport
	pathCheck   = "/-/local/check"       // answers with checkEvents, one a line; 409: there is such a repository, but it cannot be opened
)

// localRequest is what a command asks.
type localRequest struct {
	Name    string `json:"name"` // of the repository
	Dialect string `json:"dialect,omitempty"`
	Verify  bool   `json:"verify,omitempty"`
	For     string `json:"for,omitempty"`    // a time to salvage; "0s" ends it
	Forget  bool   `json:"forget,omitempty"` // of a loss: the rows, too
	Dry     bool   `json:"dry,omitempty"`    // of a loss: say what would be
}

// salvageAnswer tells until when damaged items are served.
type salvageAnswer struct {
	Until time.Time `json:"until"` // zero: they are not
}

// checkEvent is one line of a check's answer: progress, a problem, what to do, or the end.
type checkEvent struct {
	Repository string `json:"repository,omitempty"` // for scripts; the server leaves it out
	Progress   bool   `json:"progress,omitempty"`
	Problem    string `json:"problem,omitempty"`
	Advice     string `json:"advice,omitempty"` // what mends the problems
	Broken     string `json:"broken,omitempty"` // why the check could not be finished; it is the last
	Done       bool   `json:"done,omitempty"`
	Items      int64  `json:"items,omitempty"`
	Bytes      int64  `json:"bytes,omitempty"` // read so far
	Total      int64  `json:"total,omitempty"`
	Problems   int    `json:"problems"`
}

// localOperations are the names of what they do, for the log and the metrics.
var localOperations = map[string]string{pathCreate: "create", pathDestroy: "destroy", pathCheck: "check", pathSalvage: "salvage", pathLoss: "accept-loss"}

// localHandler answers what our own commands ask on the socket of a holder.
func localHandler(set *repo.Set, yield func()) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+holder.PathYield, func(w http.ResponseWriter, r *http.Request) {
		if yield == nil {
			api.WriteText(w, r, http.StatusConflict, "it serves clients of its own; stop it first")
			return
		}
		api.WriteText(w, r, http.StatusOK, "finishing what is under way")
		yield()
	})
	note := func(r *http.Request, path string, q localRequest, err error) {
		log := api.RecordFrom(r.Context())
		log.Operation, log.Repository = localOperations[path], q.Name
		if err != nil {
			log.Reason = err.Error()
		}
	}
	handle := func(path string, do func(context.Context, localRequest) error) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			var q localRequest
			err := json.NewDecoder(io.LimitReader(r.Body, 64<<10)).Decode(&q)
			if err == nil {
				err = do(r.Context(), q)
			}
			note(r, path, q, err)
			if err != nil {
				api.WriteText(w, r, http.StatusConflict, err.Error())
				return
			}
			api.WriteText(w, r, http.StatusOK, "")
		})
	}
	handle(pathCreate, func(ctx context.Context, q localRequest) error {
		_, err := set.Create(ctx, q.Name, q.Dialect)
		return err
	})
	handle(pathDestroy, func(ctx context.Context, q localRequest) error { return set.Destroy(ctx, q.Name) })
	answer := func(path string, do func(context.Context, *repo.Repository, localRequest) (any, error)) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			var q localRequest
			var result any
			err := json.NewDecoder(io.LimitReader(r.Body, 64<<10)).Decode(&q)
			if err == nil {
				var repository *repo.Repository
				if repository, err = set.Get(r.Context(), q.Name); err == nil {
					result, err = do(r.Context(), repository, q)
				}
			}
			note(r, path, q, err)
			if err != nil {
				api.WriteText(w, r, http.StatusConflict, err.Error())
				return
			}
			text, err := json.Marshal(result)
			if err != nil {
				api.WriteText(w, r, http.StatusInternalServerError, api.InternalError)
				return
			}
			api.WriteBytes(w, r, http.StatusOK, "application/json", text)
		})
	}
	answer(pathSalvage, func(ctx context.Context, r *repo.Repository, q localRequest) (any, error) {
		d, err := time.ParseDuration(q.For)
		if err != nil {
			return nil, err
		}
		until, err := r.Salvage(ctx, d)
		return salvageAnswer{until}, err
	})
	answer(pathLoss, func(ctx context.Context, r *repo.Repository, q localRequest) (any, error) {
		return r.AcceptLoss(ctx, q.Forget, q.Dry)
	})
	mux.HandleFunc("POST "+pathCheck, func(w http.ResponseWriter, r *http.Request) {
		var q localRequest
		err := json.NewDecoder(io.LimitReader(r.Body, 64<<10)).Decode(&q)
		var repository *repo.Repository
		if err == nil {
			repository, err = set.Get(r.Context(), q.Name)
		}
		note(r, pathCheck, q, err)
		if err != nil {
			status := http.StatusConflict
			switch {
			case errors.Is(err, repo.ErrNoRepository):
				status = http.StatusNotFound
			case errors.Is(err, repo.ErrInvalid):
				status = http.StatusBadRequest
			case errors.Is(err, repo.ErrBusy), r.Context().Err() != nil, set.Attached() != nil:
				status = http.StatusServiceUnavailable // and nothing wrong with it, as far as we know
			}
			text := err.Error()
			if damage, ok := errors.AsType[*repo.IndexError](err); ok {
				text += " (" + damage.Err.Error() + ")"
			}
			api.WriteText(w, r, status, text)
			return
		}
		c := &checker{r: repository, out: json.NewEncoder(w), flush: http.NewResponseController(w).Flush}
		w.Header().Set("Content-Type", "application/x-ndjson")
		if err := c.run(r.Context(), q.Verify); err != nil {
			_ = c.say(checkEvent{Broken: err.Error()})
			panic(http.ErrAbortHandler) // cut short, so that the command does not take it for the whole
		}
	})
	return mux
}

// inspectLocks shows what clients hold in a repository, by the rules of its dialect.
func inspectLocks(ctx context.Context, a *repo.Access) ([]api.LockInfo, error) {
	if a.Repository().Dialect() == "vger" {
		return vger.InspectLocks(ctx, a)
	}
	return borgstore.InspectLocks(ctx, a)
}

// endLock breaks one of them.
func endLock(ctx context.Context, a *repo.Access, l api.LockInfo) error {
	if a.Repository().Dialect() == "vger" {
		return vger.BreakLock(ctx, a, l)
	}
	return borgstore.BreakLock(ctx, a, l)
}

// checker checks one repository and tells line by line what it finds.
type checker struct {
	r     *repo.Repository
	out   *json.Encoder
	flush func() error
	event checkEvent // running totals
}

// progressStep is how many bytes are read between two lines of progress.
const progressStep = 64 << 20

func (c *checker) run(ctx context.Context, verify bool) error {
	report, err := c.r.Index().Check(ctx)
	if err != nil {
		return err
	}
	for _, problem := range report.Problems {
		if err := c.problem(problem); err != nil {
			return err
		}
	}
	c.event.Items, c.event.Total = report.Counted.Items, report.Counted.Bytes
	if len(report.Problems) > 0 {
		if report.Counted == (index.Counters{}) { // its rows were not walked over
			c.event.Items, c.event.Total = report.Stored.Items, report.Stored.Bytes
		}
		if err := c.say(checkEvent{Advice: c.r.Mend() + " makes the index anew"}); err != nil {
			return err
		}
	}
	if err := c.files(ctx, verify); err != nil {
		return err
	}
	if verify {
		if err := c.verify(ctx); err != nil {
			return err
		}
	}
	return c.say(checkEvent{Done: true})
}

// files compares the names of the files with the index, and tells what is lost. With verify what is damaged is found
// anyway, and may turn out to be whole.
func (c *checker) files(ctx context.Context, verify bool) error {
	_, err := c.r.Sweep(ctx)
	switch {
	case errors.Is(err, repo.ErrLoss):
		if err := c.problem(err.Error()); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	return c.r.Marked(ctx, func(e index.Entry) error {
		switch {
		case e.Item.Flags&index.FlagMissing != 0:
			return c.problem(e.Key + ": its file is missing")
		case !verify:
			return c.problem(e.Key + ": its stored bytes are damaged")
		}
		return nil
	})
}

// verifyBatch is how many items are looked up at once. They are read outside the walk of the index: marking a
// damaged one is a change, which a walk must not wait for.
const verifyBatch = 256

// verify reads every item.
func (c *checker) verify(ctx context.Context) error {
	said, after := int64(0), ""
	for {
		var batch []index.Entry
		enough := errors.New("enough")
		err := c.r.Index().List(ctx, index.ListOptions{Recursive: true, After: after}, func(entry index.Entry) error {
			if batch = append(batch, entry); len(batch) == verifyBatch {
				return enough
			}
			return nil
		})
		if err != nil && !errors.Is(err, enough) && !errors.Is(err, index.ErrCorrupt) {
			return err
		}
		damaged := errors.Is(err, index.ErrCorrupt)
		for _, entry := range batch {
			if err := c.item(ctx, entry); err != nil {
				return err
			}
			if c.event.Bytes-said >= progressStep {
				said = c.event.Bytes
				if err := c.say(checkEvent{Progress: true}); err != nil {
					return err
				}
			}
		}
		if damaged {
			return c.problem("items after these cannot be found: " + err.Error())
		}
		if len(batch) < verifyBatch {
			return nil
		}
		after = batch[len(batch)-1].Key
	}
}

// item reads one item, which may have been marked as damaged before.
func (c *checker) item(ctx context.Context, entry index.Entry) error {
	c.event.Bytes += entry.Item.Size
	err := c.r.Verify(ctx, entry, nil)
	switch {
	case errors.Is(err, repo.ErrLoss), err != nil && entry.Item.Flags&index.FlagMissing != 0:
		return nil // said already
	case errors.Is(err, repo.ErrCorrupt):
		return c.problem(entry.Key + ": " + err.Error())
	}
	return err
}

func (c *checker) problem(text string) error {
	c.event.Problems++
	return c.say(checkEvent{Problem: text})
}

// say writes a line with the running totals.
func (c *checker) say(event checkEvent) error {
	event.Items, event.Bytes, event.Total, event.Problems = c.event.Items, c.event.Bytes, c.event.Total, c.event.Problems
	if err := c.out.Encode(event); err != nil {
		return err
	}
	return c.flush()
}
