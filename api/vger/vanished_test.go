package vger_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"packhouse/api"
	"packhouse/api/vger"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// closing is a set that the server's stop closes as soon as a request has its repository.
type closing struct{ *datadir.Set }

func (c closing) Get(ctx context.Context, name string) (*repo.Repository, error) {
	r, err := c.Set.Get(ctx, name)
	return r, errors.Join(err, c.Close())
}

// What a request reads of the index of a repository that is closed meanwhile is no fault of the server: clients retry.
func TestStatsOfAClosedRepository(t *testing.T) {
	set := datadir.Open(datadir.Options{Dir: t.TempDir()})
	if _, err := set.Create(t.Context(), "r", vger.Name); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	vger.New(vger.Options{}).Serve(w, httptest.NewRequest("GET", "/r?stats", nil),
		api.Target{Set: closing{set}, Name: "r", Query: "stats", Log: new(api.Record)})
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("got %d %q, want 503", w.Code, w.Body)
	}
}
