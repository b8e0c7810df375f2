package restic_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"packhouse/api"
	"packhouse/repo/datadir"
)

// slowWriter has something happen when the first bytes of an answer are sent.
type slowWriter struct {
	*httptest.ResponseRecorder
	meanwhile func()
}

func (w *slowWriter) Write(p []byte) (int, error) {
	if w.meanwhile != nil {
		w.meanwhile()
		w.meanwhile = nil
	}
	return w.ResponseRecorder.Write(p)
}

// TestListIsCut: a listing of which the rest cannot be read ends with the connection, and what was sent of it is no list, also for who does not see how the
// connection ends (HTTP/1.0, or a proxy that speaks it).
func TestListIsCut(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(w *world) error{
		"destroyed": func(w *world) error { return w.Set.Destroy(context.Background(), "r") },
		"stopped":   func(w *world) error { return w.Set.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, api.Options{}, datadir.Options{})
			w.create("r")
			const many = 1500
			for n := range many {
				w.store("all", "r", "snapshots", fmt.Sprint(n))
			}
			for _, harmed := range []bool{false, true} {
				answer := &slowWriter{ResponseRecorder: httptest.NewRecorder()}
				if harmed {
					answer.meanwhile = func() {
						if err := harm(w); err != nil {
							t.Error(err)
						}
					}
				}
				r := httptest.NewRequest("GET", "/r/snapshots/", nil)
				r.Header.Set("Accept", "application/vnd.x.restic.rest.v2")
				aborted := func() (aborted bool) {
					defer func() { aborted = recover() == http.ErrAbortHandler }()
					w.dialect.Serve(answer, r, api.Target{Set: w.Set, Name: "r", Path: "/snapshots/", Log: new(api.Record)})
					return false
				}()
				var list []any
				err := json.Unmarshal(answer.Body.Bytes(), &list)
				if whole := err == nil && len(list) == many; whole == harmed || aborted != harmed || answer.Code != 200 {
					t.Errorf("harmed %v: aborted %v, %d, %d bytes, %d entries, %v", harmed, aborted, answer.Code, answer.Body.Len(), len(list), err)
				}
			}
		})
	}
}
