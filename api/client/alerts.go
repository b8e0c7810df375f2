package client

import (
	"context"
	"encoding/json"
	"net/http"

	"packhouse/api/admin"
	"packhouse/api/alert"
)

// Alerts returns what is wrong with the server, and what its receivers of alerts know.
func (c *Client) Alerts(ctx context.Context) (state alert.State, text json.RawMessage, err error) {
	text, err = c.Request(ctx, http.MethodGet, "/-/alerts", nil, &state)
	return state, text, err
}

// TestAlerts sends a test message to a receiver; "": to all.
func (c *Client) TestAlerts(ctx context.Context, receiver string) (results admin.TestResults, text json.RawMessage, err error) {
	text, err = c.Request(ctx, http.MethodPost, "/-/alerts/test", admin.TestRequest{Receiver: receiver}, &results)
	return results, text, err
}
