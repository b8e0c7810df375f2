package repo_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// inodes is a file system that has a thousand inodes, and so many of them free.
type inodes struct {
	vfs.FS
	free  atomic.Int64
	total int64
}

func (d *inodes) Inodes(string) (free, total int64, err error) { return d.free.Load(), d.total, nil }

// Inodes have a reserve like bytes. What lies in the log needs none.
func TestInodesHaveAReserve(t *testing.T) {
	const reserve = 50
	d := &inodes{FS: vfs.OS(), total: 20 * reserve}
	a := newDialect(t, "vger", func(o *datadir.Options) {
		o.FS, o.Small = d, index.MaxPayload
		o.Settings = func(string) repo.Settings {
			return repo.Settings{Quota: -1, Reserve: repo.DefaultReserve, Grace: time.Hour}
		}
	})
	r := a.Repository()
	large := body("x", index.MaxPayload+1)
	refused := func(what string, err error) {
		t.Helper()
		var space *repo.SpaceError
		if !errors.As(err, &space) || space.Of != repo.ShortInodes || !errors.Is(err, repo.ErrNoSpace) {
			t.Errorf("%s: got %v, want a SpaceError", what, err)
		}
	}
	planned := func() error {
		res, err := a.Reserve(0, int64(len(large)), true)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Release()
		u, err := a.NewUpload(ctx, repo.UploadOptions{Key: "packs/planned", Size: int64(len(large)), Reservation: res})
		if err == nil {
			u.Discard()
		}
		return err
	}
	for _, tt := range []struct {
		free                int64
		item, plan, commits bool
	}{
		{reserve + 2, true, true, true},
		{reserve + 1, false, true, true},
		{reserve/4 + 2, false, true, true},
		{reserve/4 + 1, false, false, true},
		{reserve/8 + 2, false, false, true},
		{reserve/8 + 1, false, false, false},
	} {
		d.free.Store(tt.free)
		for _, c := range []struct {
			what     string
			err      error
			admitted bool
		}{
			{"an item", func() error { _, err := put(a, "packs/p", large); return err }(), tt.item},
			{"a plan", planned(), tt.plan},
			{"an index", func() error { _, err := put(a, "index", large); return err }(), tt.commits},
		} {
			if what := fmt.Sprintf("%s with %d free", c.what, tt.free); c.admitted && c.err != nil {
				t.Errorf("%s: %v", what, c.err)
			} else if !c.admitted {
				refused(what, c.err)
			}
		}
	}
	d.free.Store(0)
	mustPut(t, a, "locks/l", "a lock")
	mustPut(t, a, "packs/small", "in the log")
	if err := a.Delete(ctx, "packs/p"); err != nil {
		t.Error(err)
	}
	_, err := put(a, "packs/p", large)
	refused("without any", err)
	if short := r.Short(); len(short) != 1 || short[0].Of != repo.ShortInodes || !strings.Contains(short[0].Help, "inodes") {
		t.Errorf("short: got %+v", short)
	}
	if !strings.Contains(err.Error(), "no inodes left") || !strings.Contains(err.Error(), "packhouse trash empty") {
		t.Errorf("got %v", err)
	}

	d.free.Store(reserve + 3)
	first, err := a.NewUpload(ctx, repo.UploadOptions{Key: "packs/1", Size: -1})
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.NewUpload(ctx, repo.UploadOptions{Key: "packs/2", Size: -1})
	refused("beside an upload under way", err)
	first.Discard()
	mustPut(t, a, "packs/2", large)
	d.total, d.free = 0, atomic.Int64{}
	mustPut(t, a, "packs/3", large)
}

// TestFullInodes fills a real file system with empty files. It can still be locked and emptied.
func TestFullInodes(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64m,nr_inodes=1000"); err != nil {
		t.Skipf("a small file system cannot be mounted here (are we root?): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s := newSet(t, func(o *datadir.Options) {
		o.Dir = dir
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Reserve: 16 << 20} }
	})
	a, other := create(t, s, "r").As(repo.Principal{}), create(t, s, "other").As(repo.Principal{})
	n := 0
	for ; ; n++ {
		_, err := put(a, fmt.Sprintf("packs/%d", n), "")
		if errors.Is(err, repo.ErrNoSpace) {
			break
		}
		if err != nil || n > 1000 {
			t.Fatalf("put %d: %v", n, err)
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Ffree < 50 {
		t.Errorf("%d inodes are free, want a twentieth: %v", st.Ffree, err)
	}
	mustPut(t, a, "locks/l", "a lock")
	mustPut(t, other, "locks/l", "a lock")
	if err := replace(a, []string{"packs/0", "packs/1"}, "packs/new", ""); err != nil {
		t.Errorf("compact: %v", err)
	}
	for i := 2; i < 22; i++ {
		if err := a.Delete(ctx, fmt.Sprintf("packs/%d", i)); err != nil {
			t.Fatalf("delete: %v", err)
		}
	}
	waitFor(t, "the inodes to be free", func() bool { return a.Repository().Usage().TrashItems == 0 })
	mustPut(t, other, "packs/again", "there are inodes")
}
