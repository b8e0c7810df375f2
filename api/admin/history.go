package admin

import (
	"time"

	"packhouse/index"
)

// Change is one row of the history: what happened to an item, and who asked for it.
type Change struct {
	ID        uint64    `json:"id"`
	Time      time.Time `json:"time"`
	Kind      string    `json:"kind"` // store, overwrite, delete, move, restore
	Key       string    `json:"key"`
	From      string    `json:"from,omitempty"`      // of a move: the key before it
	Replaced  bool      `json:"replaced"`            // an item was replaced or removed at the key
	Principal string    `json:"principal,omitempty"` // empty: the server, or an administrator
	Address   string    `json:"address,omitempty"`
	Job       string    `json:"job,omitempty"` // the compaction that asked for it
}

// listHistory streams the changes of items that are still recorded, one JSON document each.
func (q *request) listHistory(string) error {
	values, err := q.query("key", "principal", "since", "limit", "before")
	if err != nil {
		return err
	}
	if _, ok := values["limit"]; ok {
		return q.pageOfHistory(values)
	}
	if _, ok := values["before"]; ok {
		return invalid("before is for a page, and needs limit")
	}
	var since time.Time
	if text, ok := values["since"]; ok {
		if since, err = time.Parse(time.RFC3339, text); err != nil {
			return invalid("since is a time such as 2026-11-25T18:00:00Z, not %q", text)
		}
	}
	key, byKey := values["key"]
	principal, byPrincipal := values["principal"]
	return q.lines(func(say func(any) error) error {
		return q.repo.Changes(q.Context(), func(c index.Change) error {
			if c.At.Before(since) || byKey && c.Key != key && c.From != key || byPrincipal && c.Cause.Principal != principal {
				return nil
			}
			return say(describeChange(c))
		})
	})
}

func describeChange(c index.Change) Change {
	return Change{
		ID: c.ID, Time: c.At, Kind: c.Kind.String(), Key: c.Key, From: c.From, Replaced: c.Before != "",
		Principal: c.Cause.Principal, Address: c.Cause.Address, Job: c.Cause.Job,
	}
}
