package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"packhouse/api/admin"
)

// PlanRollback tells what a rollback would do.
func (c *Client) PlanRollback(ctx context.Context, name string, req admin.RollbackRequest) (plan admin.RollbackPlan, text json.RawMessage, err error) {
	req.DryRun = true
	text, err = c.Request(ctx, http.MethodPost, Path(name, "rollback"), req, &plan)
	return plan, text, err
}

// Rollback makes the items of a repository what they were, and tells how many changes are made of how many.
func (c *Client) Rollback(ctx context.Context, name string, req admin.RollbackRequest, progress func(done, total int64)) (plan admin.RollbackPlan, text json.RawMessage, err error) {
	done := false
	err = c.Lines(ctx, http.MethodPost, Path(name, "rollback"), req, func(line json.RawMessage) error {
		var event struct {
			admin.RollbackEvent
			Plan json.RawMessage `json:"plan"`
		}
		if err := json.Unmarshal(line, &event); err != nil {
			return err
		}
		if event.Plan == nil {
			progress(event.Done, event.Total)
			return nil
		}
		done, text = true, event.Plan
		return json.Unmarshal(event.Plan, &plan)
	})
	if err == nil && !done {
		err = errors.New("the server's answer ended early; look at the repository: a rollback that has begun goes on by itself")
	}
	return plan, text, err
}
