package repo_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"packhouse/repo"
)

// As many empty items and directories as the quota pays for, and no more: whoever fills a repository with them cannot take
// the disk's inodes and the space of its index. It can still be locked and emptied, and clients can complete what they have
// begun.
func TestEmptyItemsHaveALimit(t *testing.T) {
	const most = 2048 + 10
	a, _ := newTrash(t, "vger", 10*512, 0)
	r := a.Repository()
	refused := func(what string, err error) {
		t.Helper()
		var charges *repo.ChargesError
		if !errors.As(err, &charges) || !errors.Is(err, repo.ErrQuota) || charges.Limit != most {
			t.Errorf("%s: got %v, want a ChargesError", what, err)
		}
	}
	for i := range most - 2 {
		mustPut(t, a, fmt.Sprintf("packs/%d", i), "")
	}
	if err := a.MakeDir(ctx, "dir"); err != nil {
		t.Fatal(err)
	}
	_, err := put(a, "one more", "")
	refused("an item", err)
	refused("a directory", a.MakeDir(ctx, "another"))
	refused("a move", a.Move(ctx, "packs/1", "another/1"))
	if short := r.Short(); len(short) != 1 || short[0].Of != repo.ShortQuota {
		t.Errorf("short: got %+v", short)
	}
	if u := r.Usage(); u.Used != 0 {
		t.Errorf("clients are told that %d bytes are used, want the sum of the sizes", u.Used)
	}
	mustPut(t, a, "packs/1", "overwritten")
	if err := a.Move(ctx, "packs/1", "packs/moved"); err != nil {
		t.Error(err)
	}
	for _, key := range []string{"locks/l", "sessions/s", "index", "index.gen", "manifest"} {
		mustPut(t, a, key, "x")
	}
	_, err = put(a, "locks/x/l", "a lock in a directory of its own")
	refused("a nested lock", err)
	if err := a.Delete(ctx, "packs/2"); err != nil {
		t.Error(err)
	}
	_, err = put(a, "one more", "")
	refused("while there are too many", err)
	for i := range 10 {
		if err := a.Delete(ctx, fmt.Sprintf("packs/%d", 10+i)); err != nil {
			t.Error(err)
		}
	}
	mustPut(t, a, "one more", "")
}

// Nor can the trash be filled with empty items.
func TestTrashOfEmptyItemsHasALimit(t *testing.T) {
	const most = 2048 + 10
	a, clock := newTrash(t, "test", 1<<20, 10*512)
	r := a.Repository()
	mustPut(t, a, "x", "")
	for range most {
		mustPut(t, a, "x", "")
	}
	_, err := put(a, "x", "")
	refusedForTrash(t, "overwritten", err)
	if !strings.Contains(err.Error(), fmt.Sprintf("%d items", most)) {
		t.Errorf("got %v, want the number of items", err)
	}
	if u := r.Usage(); u.TrashItems != most {
		t.Errorf("%d items in the trash, want %d", u.TrashItems, most)
	}
	clock.Advance(49 * time.Hour)
	mustPut(t, a, "x", "")

	// Added and removed again.
	b, clock := newTrash(t, "test", 0, 0)
	stored := 0
	for ; stored < 3*2048; stored++ {
		if _, err = put(b, "x", ""); err != nil {
			break
		}
		if err := b.Delete(ctx, "x"); err != nil {
			t.Fatal(err)
		}
	}
	refusedForTrash(t, "added again and again", err)
	if stored != 2*2048 {
		t.Errorf("stored %d times, want %d", stored, 2*2048)
	}
	mustPut(t, b, "locks/l", "a lock")
	clock.Advance(49 * time.Hour)
	mustPut(t, b, "x", "")
}
