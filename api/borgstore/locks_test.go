package borgstore_test

import (
	"fmt"
	"testing"

	"packhouse/api"
	"packhouse/api/borgstore"
	"packhouse/repo"
	"packhouse/repo/repotest"
)

// TestLockWindow: locks that are not wanted are counted.
func TestLockWindow(t *testing.T) {
	set := repotest.NewSet(t, nil)
	r, err := set.Create(t.Context(), "r", borgstore.Name)
	if err != nil {
		t.Fatal(err)
	}
	a := r.As(repo.Principal{Name: "p"})
	for i := range 5 {
		repotest.MustPut(t, a, fmt.Sprintf("locks/%d", i), `{"hostid":"host","processid":1}`)
	}
	w := &api.LockWindow{Skip: 1, Limit: 2}
	got, err := borgstore.InspectLocks(t.Context(), a, w)
	if err != nil || len(got) != 2 || got[0].ID != "locks/1" || got[1].ID != "locks/2" || got[0].Host != "host" || w.Total != 5 {
		t.Errorf("got %+v of %d, %v", got, w.Total, err)
	}
	if all, err := borgstore.InspectLocks(t.Context(), a, nil); err != nil || len(all) != 5 {
		t.Errorf("all: got %+v, %v", all, err)
	}
}
