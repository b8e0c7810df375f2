package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"packhouse/api/local"
	"packhouse/repo"
)

// Create makes an empty repository for clients of a dialect.
func (c *Client) Create(ctx context.Context, name, dialect string) error {
	_, err := c.Request(ctx, http.MethodPost, local.PathCreate, local.Request{Name: name, Dialect: dialect}, nil)
	return err
}

// Destroy removes a repository for good.
func (c *Client) Destroy(ctx context.Context, name string) error {
	_, err := c.Request(ctx, http.MethodPost, local.PathDestroy, local.Request{Name: name}, nil)
	return err
}

// Salvage has damaged items served as they lie for a time; 0 ends it. It returns until when; zero: they are not.
func (c *Client) Salvage(ctx context.Context, name string, d time.Duration) (time.Time, json.RawMessage, error) {
	var answer local.SalvageAnswer
	text, err := c.Request(ctx, http.MethodPost, local.PathSalvage, local.Request{Name: name, For: d.String()}, &answer)
	return answer.Until, text, err
}

// Missing is what AcceptLoss would mark.
func (c *Client) Missing(ctx context.Context, name string) (repo.LossReport, json.RawMessage, error) {
	return c.loss(ctx, local.Request{Name: name, Dry: true})
}

// AcceptLoss marks what is missing as lost. forget also removes the rows of all missing items.
func (c *Client) AcceptLoss(ctx context.Context, name string, forget bool) (repo.LossReport, json.RawMessage, error) {
	return c.loss(ctx, local.Request{Name: name, Forget: forget})
}

func (c *Client) loss(ctx context.Context, q local.Request) (r repo.LossReport, text json.RawMessage, err error) {
	text, err = c.Request(ctx, http.MethodPost, local.PathLoss, q, &r)
	return r, text, err
}

// Check has a repository checked, and calls each with what comes in: progress, problems, advice, and at last the end. A
// repository that cannot be opened is refused with http.StatusConflict.
func (c *Client) Check(ctx context.Context, name string, verify bool, each func(local.CheckEvent) error) error {
	ended := false
	err := c.Lines(ctx, http.MethodPost, local.PathCheck, local.Request{Name: name, Verify: verify}, func(line json.RawMessage) error {
		var event local.CheckEvent
		if err := json.Unmarshal(line, &event); err != nil {
			return err
		}
		if event.Broken != "" {
			return fmt.Errorf("the check could not be finished: %s", event.Broken)
		}
		ended = ended || event.Done
		return each(event)
	})
	if err == nil && !ended {
		err = errors.New("the check broke off")
	}
	return err
}
