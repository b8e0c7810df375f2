package admin

import (
	"net/http"
	"time"

	"packhouse/repo"
)

// RestoreRequest is the body of a request to restore many removed items: all that every member given allows.
type RestoreRequest struct {
	IDs       []string  `json:"ids,omitempty"`
	Prefix    string    `json:"prefix,omitempty"` // of the key
	Since     time.Time `json:"since,omitzero"`   // when they were removed, or later
	Principal *string   `json:"principal,omitempty"`
	Replace   bool      `json:"replace,omitempty"` // also where something has the key now
}

// RestoreResult is what was restored.
type RestoreResult struct {
	Items   int64    `json:"items"`
	Bytes   int64    `json:"bytes"`
	Skipped int64    `json:"skipped"`          // something has their keys
	Failed  []string `json:"failed,omitempty"` // keys and reasons, the first hundred
}

// longSelection is the longest body that names items by their IDs, in bytes: some 240,000. While it is carried out it takes several
// times as much memory, so that there is one at a time of those that are not small.
const longSelection = 8 << 20

var errSelecting = repo.Errorf(repo.ErrBusy, "another restore of many items is carried out; try again when it is complete")

// restoreMany puts back what a selection has.
func (q *request) restoreMany(string) error {
	var body RestoreRequest
	most := int64(small)
	if q.ContentLength < 0 || q.ContentLength > small {
		if !q.h.selecting.TryLock() {
			return errSelecting
		}
		defer q.h.selecting.Unlock()
		most = longSelection
	}
	if err := q.documentUpTo(&body, most); err != nil {
		return err
	}
	if body.IDs == nil && body.Prefix == "" && body.Since.IsZero() && body.Principal == nil {
		return invalid("which items: ids, prefix, since or principal is missing")
	}
	done, err := q.repo.RestoreMany(q.Context(), repo.RestoreSelection{
		IDs: body.IDs, Prefix: body.Prefix, Since: body.Since, Principal: body.Principal, Replace: body.Replace,
	})
	if err != nil {
		return err
	}
	return q.reply(http.StatusOK, RestoreResult(done))
}
