package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"packhouse/compact"
)

// PlanOptions are the options of Compact and Estimate.
type PlanOptions struct {
	When string // as compact.CheckWhen has it
	Keep bool   // delete nothing
}

func (o PlanOptions) query() url.Values {
	q := url.Values{"when": {o.When}}
	if o.Keep {
		q.Set("delete", "no")
	}
	return q
}

// Compact submits a plan in JSON and returns its job.
func (c *Client) Compact(ctx context.Context, name string, plan io.Reader, o PlanOptions) (job compact.Job, text json.RawMessage, err error) {
	text, err = c.post(ctx, Path(name, "compactions?"+o.query().Encode()), plan, &job)
	return job, text, err
}

// Estimate returns what a plan would do, without carrying it out.
func (c *Client) Estimate(ctx context.Context, name string, plan io.Reader, o PlanOptions) (e compact.Estimate, text json.RawMessage, err error) {
	text, err = c.post(ctx, Path(name, "compactions?dry_run=yes&"+o.query().Encode()), plan, &e)
	return e, text, err
}

// Scrub queues a job that reads a share of a repository's bytes, greater than 0 and at most 1.
func (c *Client) Scrub(ctx context.Context, name, when string, share float64) (job compact.Job, text json.RawMessage, err error) {
	text, err = c.Request(ctx, http.MethodPost, Path(name, fmt.Sprintf("scrubs?share=%g&when=%s", share, when)), nil, &job)
	return job, text, err
}

// jobPath is the path of a job in the API. Characters that no job ID contains are replaced, so that the answer is "no such job".
func jobPath(name, id, rest string) string {
	plain := strings.Map(func(c rune) rune {
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '.' {
			return c
		}
		return '-'
	}, id)
	return Path(name, "jobs/"+plain+rest)
}

// Jobs calls each with the JSON text of every job of a repository while the answer is received: there may be one for every pack.
func (c *Client) Jobs(ctx context.Context, name string, each func(json.RawMessage) error) error {
	return c.elements(ctx, Path(name, "jobs"), "jobs", each)
}

// Job returns a job, and what became of its plan, as JSON.
func (c *Client) Job(ctx context.Context, name, id string) (json.RawMessage, error) {
	return c.Request(ctx, http.MethodGet, jobPath(name, id, ""), nil, nil)
}

// Cancel ends a job if its commit has not begun.
func (c *Client) Cancel(ctx context.Context, name, id string) (job compact.Job, text json.RawMessage, err error) {
	text, err = c.Request(ctx, http.MethodDelete, jobPath(name, id, ""), nil, &job)
	return job, text, err
}

// restartPatience is how long Await waits for a server that has answered before.
const restartPatience = time.Minute

// Await follows a job to its end and calls show with each of its states. If the server restarts, Await waits for it: the job
// continues there.
func (c *Client) Await(ctx context.Context, name, id string, show func(compact.Job)) (compact.Job, error) {
	seen := time.Time{} // when the server last answered
	for {
		job, err := c.events(ctx, jobPath(name, id, "/events"), show)
		switch {
		case job.State.Ended():
			return job, nil
		case err == nil:
			seen = time.Now()
		case time.Since(seen) > restartPatience || !Unreachable(err):
			return job, err
		}
		select {
		case <-ctx.Done():
			return job, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// Unreachable reports whether no server answered, for example while it is restarted.
func Unreachable(err error) bool {
	var op *net.OpError
	return errors.As(err, &op)
}
