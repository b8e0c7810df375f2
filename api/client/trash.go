package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"packhouse/api/admin"
)

// Trash calls each with every item of a repository that can be restored, ordered by expiry.
func (c *Client) Trash(ctx context.Context, name string, each func(admin.Removed, json.RawMessage) error) error {
	return rows(ctx, c, Path(name, "trash"), each)
}

// Kept calls each with every pack that is kept after compactions, ordered by expiry.
func (c *Client) Kept(ctx context.Context, name string, each func(admin.KeptPack, json.RawMessage) error) error {
	return rows(ctx, c, Path(name, "kept"), each)
}

// Restore restores a removed item under a key; "": the key that it had.
func (c *Client) Restore(ctx context.Context, name, id, key string) (item admin.Removed, text json.RawMessage, err error) {
	var body any
	if key != "" {
		body = map[string]string{"key": key}
	}
	text, err = c.Request(ctx, http.MethodPost, Path(name, "trash/"+url.PathEscape(id)+"/restore"), body, &item)
	return item, text, err
}

// RestoreMany restores removed items under the keys that they had.
func (c *Client) RestoreMany(ctx context.Context, name string, req admin.RestoreRequest) (done admin.RestoreResult, text json.RawMessage, err error) {
	text, err = c.Request(ctx, http.MethodPost, Path(name, "trash/restore"), req, &done)
	return done, text, err
}

// Emptied counts permanently deleted items and their bytes.
type Emptied struct{ Items, Bytes int64 }

// EmptyTrash permanently deletes the items that were removed before a time; zero: all that can be restored.
func (c *Client) EmptyTrash(ctx context.Context, name string, before time.Time) (e Emptied, text json.RawMessage, err error) {
	path := "trash"
	if !before.IsZero() {
		path += "?removed_before=" + before.UTC().Format(time.RFC3339)
	}
	text, err = c.Request(ctx, http.MethodDelete, Path(name, path), nil, &e)
	return e, text, err
}

// EmptyKept deletes the packs that are kept after compactions.
func (c *Client) EmptyKept(ctx context.Context, name string) (e Emptied, text json.RawMessage, err error) {
	text, err = c.Request(ctx, http.MethodDelete, Path(name, "kept"), nil, &e)
	return e, text, err
}
