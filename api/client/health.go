package client

import (
	"context"
	"encoding/json"
	"net/http"
)

// Health is what a server says of itself to anyone, as far as it is of use to people.
type Health struct {
	Status    string `json:"status"` // "ok" or "degraded"
	Reason    string `json:"reason"` // of a degraded one
	Version   string `json:"version"`
	Free      int64  `json:"disk_free_bytes"`
	Total     int64  `json:"disk_total_bytes"`
	Repos     int    `json:"repos"`
	ReadOnly  int    `json:"read_only_repos"`
	Unusable  int    `json:"unusable_repos"`
	Detached  bool   `json:"detached"`
	UptimeSec int64  `json:"uptime_seconds"`
}

// Health asks the server for its health, which needs no credentials.
func (c *Client) Health(ctx context.Context) (h Health, text json.RawMessage, err error) {
	text, err = c.Request(ctx, http.MethodGet, "/health", nil, &h)
	return h, text, err
}
