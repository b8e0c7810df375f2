package borgstore_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"packhouse/api"
	"packhouse/api/borgstore"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// destroying is a set whose repository is destroyed as soon as a request has it.
type destroying struct{ *datadir.Set }

func (d destroying) Get(ctx context.Context, name string) (*repo.Repository, error) {
	r, err := d.Set.Get(ctx, name)
	return r, errors.Join(err, d.Destroy(ctx, name))
}

// A repository that is destroyed while it is created again is missing, which is no fault of the server.
func TestDestroyedWhileCreatedAgain(t *testing.T) {
	set := datadir.Open(datadir.Options{Dir: t.TempDir(), Single: true})
	defer set.Close()
	if _, err := set.Create(t.Context(), "", borgstore.Name); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	borgstore.New(borgstore.Options{TempDir: t.TempDir()}).Serve(w, httptest.NewRequest("POST", "/?cmd=create", nil),
		api.Target{Set: destroying{set}, Path: "/", Query: "cmd=create", Log: new(api.Record)})
	if w.Code != http.StatusGone {
		t.Errorf("got %d %q, want 410", w.Code, w.Body)
	}
}
