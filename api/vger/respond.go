package vger

import (
	"encoding/json"
	"fmt"
	"net/http"

	"packhouse/api"
	"packhouse/repo"
)

// empty answers with a status alone.
func (x *request) empty(code int) { api.WriteText(x.w, x.r, code, "") }

// json answers 200 with a small value.
func (x *request) json(value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode an answer: %w", err)
	}
	api.WriteBytes(x.w, x.r, http.StatusOK, jsonType, body)
	return nil
}

const jsonType = "application/json"

// abort ends an answer that has begun and cannot be completed: the client must see that it is cut off.
func (x *request) abort(err error) {
	x.t.Log.Reason = err.Error()
	panic(http.ErrAbortHandler)
}

func quotaText(q *repo.QuotaError, format string, last int64) string {
	return fmt.Sprintf(format, q.Used, q.Limit, last)
}
