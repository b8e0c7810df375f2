package client

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"packhouse/api/admin"
)

// Guard returns what limits the removal of snapshots in a repository.
func (c *Client) Guard(ctx context.Context, name string) (g admin.Guard, text json.RawMessage, err error) {
	text, err = c.Request(ctx, http.MethodGet, Path(name, "guard"), nil, &g)
	return g, text, err
}

// LiftGuard lifts the guard for a time; 0 ends that.
func (c *Client) LiftGuard(ctx context.Context, name string, d time.Duration) (g admin.Guard, text json.RawMessage, err error) {
	text, err = c.Request(ctx, http.MethodPut, Path(name, "guard/lift"), map[string]int64{"seconds": int64(d / time.Second)}, &g)
	return g, text, err
}
