package client

import (
	"context"
	"encoding/json"
	"net/url"
	"time"

	"packhouse/api/admin"
)

// HistoryFilter says which changes are wanted; the zero value: all.
type HistoryFilter struct {
	Key       string // of the item, before or after; empty: any
	Principal string // empty: any
	Since     time.Time
}

// History calls each with every change of an item that is recorded, the oldest first.
func (c *Client) History(ctx context.Context, name string, f HistoryFilter, each func(admin.Change, json.RawMessage) error) error {
	query := url.Values{}
	if f.Key != "" {
		query.Set("key", f.Key)
	}
	if f.Principal != "" {
		query.Set("principal", f.Principal)
	}
	if !f.Since.IsZero() {
		query.Set("since", f.Since.UTC().Format(time.RFC3339))
	}
	path := "history"
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return rows(ctx, c, Path(name, path), each)
}
