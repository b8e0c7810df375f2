package repo_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// Lists of more than a page are whole, each row once and in order, and the callback may change the repository meanwhile,
// because no transaction is held.
func TestListsInPages(t *testing.T) {
	a := newAccess(t, func(o *datadir.Options) {
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: time.Hour} }
	})
	r := a.Repository()
	const n = 1300
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("d/%04d", i))
		mustPut(t, a, names[i], "")
	}
	if deleted, err := a.DeleteAll(ctx, names); err != nil || deleted != n {
		t.Fatal(deleted, err)
	}
	count, last := 0, ""
	err := r.Trash(func(row index.Removed) error {
		if row.ID <= last {
			t.Errorf("row %s follows %s", row.ID, last)
		}
		last = row.ID
		if count++; count%500 == 1 {
			mustPut(t, a, fmt.Sprintf("new/%d", count), "")
		}
		return nil
	})
	if err != nil || count != n {
		t.Errorf("trash: %d rows, %v, want %d", count, err, n)
	}
	changes := 0
	if err := r.Changes(ctx, func(index.Change) error { changes++; return nil }); err != nil || changes != 2*n+3 {
		t.Errorf("history: %d changes, %v, want %d", changes, err, 2*n+3)
	}
	stop := errors.New("stop")
	if err := r.Trash(func(index.Removed) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want the callback's error", err)
	}
	if e, err := r.EmptyTrash(ctx, time.Now().Add(time.Hour)); err != nil || e.Items != n {
		t.Errorf("emptied %+v, %v", e, err)
	}
}
