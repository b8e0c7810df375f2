package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"packhouse/api"
	"packhouse/api/admin"
)

// TrashPage returns at most limit of the items of a repository that can be restored, by expiry, behind that of the ID after ("": from the
// first on), whose keys begin with prefix.
func (c *Client) TrashPage(ctx context.Context, name, after, prefix string, limit int) (page admin.TrashPage, err error) {
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	if after != "" {
		query.Set("after", after)
	}
	if prefix != "" {
		query.Set("prefix", prefix)
	}
	_, err = c.Request(ctx, http.MethodGet, Path(name, "trash?"+query.Encode()), nil, &page)
	return page, err
}

// HistoryPage returns at most limit changes, the latest first, from the one before an ID on; 0: from the last. Of f it uses Key and Principal.
func (c *Client) HistoryPage(ctx context.Context, name string, f HistoryFilter, before uint64, limit int) (page admin.HistoryPage, err error) {
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	if f.Key != "" {
		query.Set("key", f.Key)
	}
	if f.Principal != "" {
		query.Set("principal", f.Principal)
	}
	if before != 0 {
		query.Set("before", strconv.FormatUint(before, 10))
	}
	_, err = c.Request(ctx, http.MethodGet, Path(name, "history?"+query.Encode()), nil, &page)
	return page, err
}

// JobsPage returns at most limit jobs, the latest first, behind the first skip.
func (c *Client) JobsPage(ctx context.Context, name string, skip, limit int) (page admin.JobsPage, err error) {
	_, err = c.Request(ctx, http.MethodGet, Path(name, fmt.Sprintf("jobs?limit=%d&skip=%d", limit, skip)), nil, &page)
	return page, err
}

// Growth returns the size of a repository by day, the oldest first.
func (c *Client) Growth(ctx context.Context, name string) ([]admin.GrowthDay, error) {
	var answer struct{ Days []admin.GrowthDay }
	_, err := c.Request(ctx, http.MethodGet, Path(name, "growth"), nil, &answer)
	return answer.Days, err
}

// Self tells who the client is to the server.
func (c *Client) Self(ctx context.Context) (self admin.Self, err error) {
	_, err = c.Request(ctx, http.MethodGet, "/-/self", nil, &self)
	return self, err
}

// LocksPage returns at most limit of the locks of a repository, behind the first skip, and how many there are.
func (c *Client) LocksPage(ctx context.Context, name string, skip, limit int) (page api.LockList, err error) {
	_, err = c.Request(ctx, http.MethodGet, Path(name, fmt.Sprintf("locks?limit=%d&skip=%d", limit, skip)), nil, &page)
	return page, err
}

// WritersPage returns at most limit of the principals that have completed backups, behind the first skip: those with the latest backup first,
// or last with oldest.
func (c *Client) WritersPage(ctx context.Context, name string, oldest bool, skip, limit int) (page admin.WritersPage, err error) {
	order := "latest"
	if oldest {
		order = "oldest"
	}
	_, err = c.Request(ctx, http.MethodGet, Path(name, fmt.Sprintf("writers?limit=%d&skip=%d&order=%s", limit, skip, order)), nil, &page)
	return page, err
}
