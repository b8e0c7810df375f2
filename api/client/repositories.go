package client

import (
	"context"
	"encoding/json"
	"net/http"

	"packhouse/api"
	"packhouse/api/admin"
)

// Repository is the description of a repository that a server returns.
type Repository struct {
	admin.Repository
	Error *admin.Problem `json:"error"` // why it cannot be used; then there is only the name beside it
}

// Repositories returns all repositories that the client may list. Like other calls it also returns the JSON text of the answer,
// which may have members that this version does not know.
func (c *Client) Repositories(ctx context.Context) ([]Repository, json.RawMessage, error) {
	var answer struct{ Repositories []Repository }
	text, err := c.Request(ctx, http.MethodGet, "/-/repositories", nil, &answer)
	return answer.Repositories, text, err
}

// Repository returns the repository of that name; "": the only one.
func (c *Client) Repository(ctx context.Context, name string) (r Repository, text json.RawMessage, err error) {
	text, err = c.Request(ctx, http.MethodGet, Path(name, ""), nil, &r)
	return r, text, err
}

// SetQuota sets limits of a repository in bytes, "quota" and "trash_quota". nil: no limit; "default": the limit of the
// configuration.
func (c *Client) SetQuota(ctx context.Context, name string, limits map[string]any) (r Repository, text json.RawMessage, err error) {
	text, err = c.Request(ctx, http.MethodPut, Path(name, "quota"), limits, &r)
	return r, text, err
}

// Locks returns the locks of a repository.
func (c *Client) Locks(ctx context.Context, name string) ([]api.LockInfo, error) {
	var answer api.LockList
	_, err := c.Request(ctx, http.MethodGet, Path(name, "locks"), nil, &answer)
	return answer.Locks, err
}

// BreakLock removes a lock. It is not an error if the lock was already released.
func (c *Client) BreakLock(ctx context.Context, name, id string) error {
	_, err := c.Request(ctx, http.MethodPost, Path(name, "locks/break"), map[string]string{"id": id}, nil)
	if Refused(err, http.StatusNotFound) {
		return nil
	}
	return err
}

// Plans calls each with every open plan of a repository, oldest first.
func (c *Client) Plans(ctx context.Context, name string, each func(admin.OpenPlan, json.RawMessage) error) error {
	return rows(ctx, c, Path(name, "plans"), each)
}

// rows sends a GET and calls each with every JSON document of the answer, decoded and as text.
func rows[T any](ctx context.Context, c *Client, path string, each func(T, json.RawMessage) error) error {
	return c.Lines(ctx, http.MethodGet, path, nil, func(line json.RawMessage) error {
		var row T
		if err := json.Unmarshal(line, &row); err != nil {
			return err
		}
		return each(row, line)
	})
}
