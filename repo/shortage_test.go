package repo_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"packhouse/repo"
	"packhouse/repo/datadir"
)

// Who is refused learns what would help, and so does the administrator, for an hour.
func TestShortages(t *testing.T) {
	d := newFreeDisk(1 << 30)
	clock := newClock()
	a := newAccess(t, func(o *datadir.Options) {
		o.FS, o.Now = d, clock.Now
		o.Settings = func(string) repo.Settings {
			return repo.Settings{Quota: 1000, TrashQuota: 100, Reserve: 100, Grace: 30 * day}
		}
	})
	r := a.Repository()
	want := func(of string, help ...string) {
		t.Helper()
		short := r.Short()
		if of == "" {
			if len(short) != 0 {
				t.Errorf("got %+v, want nothing short", short)
			}
			return
		}
		if len(short) != 1 || short[0].Of != of {
			t.Fatalf("got %+v, want %s", short, of)
		}
		for _, text := range help {
			if !strings.Contains(short[0].Help, text) {
				t.Errorf("%s: %q does not say %q", of, short[0].Help, text)
			}
		}
		clock.Advance(2 * time.Hour)
		if short := r.Short(); len(short) != 0 {
			t.Errorf("two hours later: got %+v", short)
		}
	}
	mustPut(t, a, "x", body("x", 130))
	want("")
	_, err := put(a, "y", body("x", 871))
	if !errors.Is(err, repo.ErrQuota) {
		t.Fatal(err)
	}
	want(repo.ShortQuota, "prune and compact", "repo quota")
	_, err = put(a, "x", "x")
	refusedForTrash(t, "an overwrite", err)
	want(repo.ShortTrash, "packhouse trash empty", "grace", "trash_quota")

	d.free.Store(120)
	_, err = put(a, "y", body("y", 21))
	if !errors.Is(err, repo.ErrNoSpace) || !strings.Contains(err.Error(), "delete or compact first") {
		t.Errorf("nothing in the trash: got %v", err)
	}
	want(repo.ShortDisk, "prune and compact", "enlarge the disk")
	if err := a.Delete(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	var space *repo.SpaceError
	if _, err = put(a, "y", body("y", 21)); !errors.As(err, &space) || space.Trash != 130 || strings.Contains(err.Error(), "delete or compact") ||
		!strings.Contains(err.Error(), "130 bytes of removed items") || !strings.Contains(err.Error(), "packhouse trash empty") {
		t.Errorf("the trash holds the space: got %v", err)
	}
	want(repo.ShortDisk, "130 bytes", "packhouse trash empty", "grace")
	if _, err = a.Reserve(0, 100, true); err == nil || !strings.Contains(err.Error(), "packhouse trash empty") {
		t.Errorf("a plan: got %v", err)
	}
	want(repo.ShortDisk)
	if _, err = a.Reserve(0, 100, false); err == nil {
		t.Error("a plan that will be tried again was admitted")
	}
	want("")
	if err := a.Move(ctx, "nothing", "else"); !errors.Is(err, repo.ErrNotFound) {
		t.Error(err)
	}
	want("")
}
