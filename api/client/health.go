package client

import (
	"context"
	"encoding/json"
	"net/http"
)

// Health is what a server says of itself; the text has more.
type Health struct {
	Status string `json:"status"` // "ok" or "degraded"
	Reason string `json:"reason"` // what is wrong and what to do; empty if nothing is
}

// Health asks the server for its health, which needs no credentials.
func (c *Client) Health(ctx context.Context) (h Health, text json.RawMessage, err error) {
	text, err = c.Request(ctx, http.MethodGet, "/health", nil, &h)
	return h, text, err
}
