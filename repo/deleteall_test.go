package repo_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// TestDeleteAllInParts: many items go part by part. Where one part fails, those before it are gone, the others are there, and it can be
// asked for again.
func TestDeleteAllInParts(t *testing.T) {
	var left atomic.Int64 // commits until one fails; negative: none does
	left.Store(-1)
	s := newSet(t, func(o *datadir.Options) {
		o.Index = index.Options{BeforeCommit: func() error {
			if left.Add(-1) == -1 {
				return errors.New("the disk fails")
			}
			return nil
		}}
	})
	r := create(t, s, "r")
	a := r.As(repo.Principal{})
	names := []string{"none"}
	for i := range 40 {
		names = append(names, fmt.Sprintf("packs/%02d", i))
		mustPut(t, a, names[len(names)-1], "content")
	}
	for i := range 2 * repo.DeletePart {
		names = append(names, fmt.Sprintf("nothing/%d", i)) // parts in between
	}
	names = append(names, "packs/last")
	mustPut(t, a, "packs/last", "content")

	if n, err := r.As(repo.Principal{Permissions: permissions(t, `{"": "lrwWD", "packs/last": "lr"}`)}).DeleteAll(ctx, names); n != 0 || !errors.Is(err, repo.ErrDenied) {
		t.Errorf("with one that is not allowed: %d, %v", n, err)
	}
	if got := r.Usage().Items; got != 41 {
		t.Fatalf("%d items are left, want 41", got)
	}
	n, err := a.DeleteAll(ctx, names)
	if err != nil || n != 41 {
		t.Errorf("got %d, %v; want 41", n, err)
	}
	if got := r.Usage().Items; got != 0 {
		t.Errorf("%d items are left", got)
	}

	for i := range 40 {
		mustPut(t, a, fmt.Sprintf("packs/%02d", i), "content")
	}
	mustPut(t, a, "packs/last", "content")
	left.Store(1) // the first part
	n, err = a.DeleteAll(ctx, names)
	if n != 40 || !errors.Is(err, repo.ErrReadOnly) {
		t.Errorf("with a disk that fails: %d, %v; want 40 and ErrReadOnly", n, err)
	}
	if got := r.Usage().Items; got != 1 {
		t.Errorf("%d items are left, want that of the last part", got)
	}
}
