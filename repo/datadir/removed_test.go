package datadir_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// graceful gives all repositories a grace time.
func graceful(o *datadir.Options) {
	o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: time.Hour} }
}

// onlyRemoved is the one repository that can be restored.
func onlyRemoved(t *testing.T, s *datadir.Set) datadir.Removed {
	t.Helper()
	all, err := s.Removed()
	if err != nil || len(all) != 1 {
		t.Fatalf("removed: %+v, %v; want one", all, err)
	}
	return all[0]
}

// TestRemovedAndRestored: a repository that is destroyed within a grace time comes back whole, with its trash, under its name or another
// one, also after another repository of its name.
func TestRemovedAndRestored(t *testing.T) {
	dir := t.TempDir()
	s := newSet(t, func(o *datadir.Options) { graceful(o); o.Dir = dir })
	large := strings.Repeat("content ", 50_000)
	a := create(t, s, "laptop").As(repo.Principal{})
	mustPut(t, a, "packs/x", large)
	mustPut(t, a, "config", "small")
	mustPut(t, a, "config", "small again")
	if err := s.Destroy(ctx, "laptop"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(ctx, "laptop"); !errors.Is(err, repo.ErrNoRepository) {
		t.Fatalf("get: %v, want ErrNoRepository", err)
	}
	if names, err := s.Names(); err != nil || len(names) != 0 {
		t.Errorf("names: %v, %v", names, err)
	}
	was := onlyRemoved(t, s)
	if was.Name != "laptop" || was.Dialect != "test" || was.Items != 2 || was.Expires.Sub(was.At) != time.Hour {
		t.Errorf("removed: %+v", was)
	}
	wantRestored := func(name string) {
		t.Helper()
		r, err := s.Get(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		a := r.As(repo.Principal{})
		wantContent(t, a, "packs/x", large)
		wantContent(t, a, "config", "small again")
		if u := r.Usage(); u.TrashItems != 1 {
			t.Errorf("%d items in the trash, want 1", u.TrashItems)
		}
		mustPut(t, a, "more", "can be stored")
		if all, err := s.Removed(); err != nil || len(all) != 0 {
			t.Errorf("removed: %v, %v", all, err)
		}
	}
	if _, err := s.RestoreRemoved(ctx, "laptop", ""); err != nil {
		t.Fatal(err)
	}
	wantRestored("laptop")
	if files, err := os.ReadDir(filepath.Join(dir, "laptop")); err != nil || strings.Contains(fmt.Sprint(files), "removed") {
		t.Errorf("left in the directory: %v, %v", files, err)
	}

	// While another one has its name, it can have another.
	if err := s.Destroy(ctx, "laptop"); err != nil {
		t.Fatal(err)
	}
	mustPut(t, create(t, s, "laptop").As(repo.Principal{}), "new", "new")
	if _, err := s.RestoreRemoved(ctx, "laptop", ""); !errors.Is(err, repo.ErrExists) {
		t.Errorf("restore over another: %v, want ErrExists", err)
	}
	if _, err := s.RestoreRemoved(ctx, "laptop", "../x"); !errors.Is(err, repo.ErrInvalid) {
		t.Errorf("restore as ../x: %v, want ErrInvalid", err)
	}
	if _, err := s.RestoreRemoved(ctx, "nothing", ""); !errors.Is(err, repo.ErrNoRepository) {
		t.Errorf("restore of nothing: %v, want ErrNoRepository", err)
	}
	if got, err := s.RestoreRemoved(ctx, onlyRemoved(t, s).ID, "old"); err != nil || got.Name != "old" {
		t.Fatal(got, err)
	}
	wantRestored("old")
	if r, err := s.Get(ctx, "laptop"); err != nil {
		t.Error(err)
	} else {
		wantContent(t, r.As(repo.Principal{}), "new", "new")
	}

	// Two of one name; for good.
	for range 2 {
		if err := s.Destroy(ctx, "laptop"); err != nil {
			t.Fatal(err)
		}
		create(t, s, "laptop")
	}
	if _, err := s.RestoreRemoved(ctx, "laptop", "which"); !errors.Is(err, repo.ErrConflict) {
		t.Errorf("restore of one of two: %v, want ErrConflict", err)
	}
	all, err := s.Removed()
	if err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	if _, err := s.PurgeRemoved(all[0].ID); err != nil {
		t.Error(err)
	}
	if left := onlyRemoved(t, s); left.ID != all[1].ID {
		t.Errorf("left: %+v, want %+v", left, all[1])
	}
	if err := s.DestroyNow(ctx, "old"); err != nil {
		t.Error(err)
	}
	onlyRemoved(t, s)
	waitFor(t, "the files to go", func() bool { _, err := os.Stat(filepath.Join(dir, "old")); return errors.Is(err, os.ErrNotExist) })
}

// TestRemovedExpires: when its grace time is over, a removed repository goes, and its directory with it.
func TestRemovedExpires(t *testing.T) {
	clock := newClock()
	dir := t.TempDir()
	s := newSet(t, func(o *datadir.Options) { graceful(o); o.Dir, o.Now = dir, clock.Now })
	mustPut(t, create(t, s, "r").As(repo.Principal{}), "x", "body")
	if err := s.Destroy(ctx, "r"); err != nil {
		t.Fatal(err)
	}
	look := func() {
		t.Helper()
		if _, err := s.Names(); err != nil {
			t.Fatal(err)
		}
	}
	look()
	clock.Advance(30 * time.Minute)
	look()
	onlyRemoved(t, s)
	clock.Advance(2 * time.Hour)
	look()
	waitFor(t, "the files to go", func() bool { _, err := os.Stat(filepath.Join(dir, "r")); return errors.Is(err, os.ErrNotExist) })
	if all, err := s.Removed(); err != nil || len(all) != 0 {
		t.Errorf("removed: %v, %v", all, err)
	}
}

// onceAt calls a function, once, before it looks at a file of that name.
type onceAt struct {
	vfs.FS
	name string
	call func()
}

func (f *onceAt) Stat(path string) (fs.FileInfo, error) {
	info, err := f.FS.Stat(path)
	if call := f.call; call != nil && strings.HasSuffix(path, f.name) {
		f.call = nil
		call()
	}
	return info, err
}

// TestRestoredAndPurgedAtOnce: a repository that is purged between the look for it and its restoring is not said to be restored.
func TestRestoredAndPurgedAtOnce(t *testing.T) {
	for _, as := range []string{"", "other"} {
		hook := &onceAt{FS: vfs.OS()}
		s := newSet(t, func(o *datadir.Options) { graceful(o); o.FS = hook })
		mustPut(t, create(t, s, "laptop").As(repo.Principal{}), "x", "x")
		if err := s.Destroy(ctx, "laptop"); err != nil {
			t.Fatal(err)
		}
		id := onlyRemoved(t, s).ID
		purge := func() {
			if _, err := s.PurgeRemoved(id); err != nil {
				t.Error(err)
			}
		}
		hook.name, hook.call = filepath.Join(id, "index.db"), purge
		if _, err := s.RestoreRemoved(ctx, id, as); !errors.Is(err, repo.ErrNoRepository) {
			t.Errorf("as %q: got %v, want ErrNoRepository", as, err)
		}
		if _, err := s.Create(ctx, "laptop", "test"); err != nil {
			t.Errorf("as %q: create: %v", as, err)
		}
	}
}

// TestSetAsideSurvivesEveryFailure: whichever file call of a removal with grace time fails, and whatever of that a power cut loses, the
// repository is whole, or it can be restored whole; and so with each call of the restoring.
func TestSetAsideSurvivesEveryFailure(t *testing.T) {
	for _, restoring := range []bool{false, true} {
		for n, hit := 1, true; hit; n++ {
			for _, lose := range losses {
				t.Run(fmt.Sprintf("restoring=%v/%d/lose=%s", restoring, n, lose.name), func(t *testing.T) {
					hit = setAsideFails(t, restoring, n, lose.crash)
				})
			}
		}
	}
}

func setAsideFails(t *testing.T, restoring bool, n int, lose func(*testing.T, *vfstest.Lossy, int)) (hit bool) {
	dir := newRepository(t)
	disk := vfstest.NewLossy(t, dir)
	fsys := vfstest.NewFailing(disk)
	s := datadir.Open(datadir.Options{Dir: dir, Environment: failingEnvironment(t, fsys), Settings: func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: time.Hour} }})
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	large := strings.Repeat("body ", 50_000)
	mustPut(t, r.As(repo.Principal{}), "x", large)
	mustPut(t, r.As(repo.Principal{}), "y", "small")
	if restoring {
		if err := s.Destroy(ctx, "r"); err != nil {
			t.Fatal(err)
		}
	}
	fsys.Reset()
	fsys.StopAt(n, vfstest.Before, syscall.EIO)
	var done error
	if restoring {
		_, done = s.RestoreRemoved(ctx, "r", "")
	} else {
		done = s.Destroy(ctx, "r")
	}
	hit = fsys.Hit()
	if !hit && done != nil {
		t.Errorf("it failed by itself: %v", done)
	}
	if err := s.Close(); err != nil && !hit {
		t.Fatal(err)
	}
	lose(t, disk, n)
	s = newSet(t, func(o *datadir.Options) { graceful(o); o.Dir = dir })
	r, err = s.Get(ctx, "r")
	switch {
	case err == nil && !restoring && done == nil:
		t.Error("it was destroyed, and is there")
	case errors.Is(err, repo.ErrNoRepository) && restoring && done == nil:
		t.Error("it was restored, and is not there")
	case errors.Is(err, repo.ErrNoRepository):
		if _, err := s.RestoreRemoved(ctx, "r", ""); err != nil {
			t.Fatalf("it is neither there nor can be restored: %v", err)
		}
		r, err = s.Get(ctx, "r")
	}
	if err != nil {
		t.Fatal(err)
	}
	wantContent(t, r.As(repo.Principal{}), "x", large)
	wantContent(t, r.As(repo.Principal{}), "y", "small")
	return hit
}

// TestRemovedWithinQuota: what is kept of the repositories of one name holds no more than the quota allows, except for the first. The
// oldest give way after two days; before that it is the newest that is not kept.
func TestRemovedWithinQuota(t *testing.T) {
	clock := newClock()
	s := newSet(t, func(o *datadir.Options) {
		o.Now = clock.Now
		o.Settings = func(string) repo.Settings {
			return repo.Settings{Quota: 1000, TrashQuota: 1000, Grace: 30 * 24 * time.Hour}
		}
	})
	destroyed := func(size int) {
		t.Helper()
		mustPut(t, create(t, s, "r").As(repo.Principal{}), "x", strings.Repeat("x", size))
		if err := s.Destroy(ctx, "r"); err != nil {
			t.Fatal(err)
		}
		clock.Advance(time.Hour)
	}
	want := func(sizes ...int64) {
		t.Helper()
		all, err := s.Removed()
		var got []int64
		for _, removed := range all {
			got = append(got, removed.Bytes)
		}
		if err != nil || fmt.Sprint(got) != fmt.Sprint(sizes) {
			t.Errorf("removed: %v, %v; want %v", got, err, sizes)
		}
	}
	destroyed(900)
	destroyed(800)
	want(900, 800)
	destroyed(700)
	want(900, 800)
	destroyed(300)
	want(900, 800, 300)
	clock.Advance(50 * time.Hour)
	destroyed(700)
	want(800, 300, 700)
}

// TestGuardedRemovals: where everything is kept for a time, a repository that could not be kept is not destroyed, and none gives way to it before
// that time is over.
func TestGuardedRemovals(t *testing.T) {
	clock := newClock()
	s := newSet(t, func(o *datadir.Options) {
		o.Now = clock.Now
		o.Settings = func(string) repo.Settings {
			return repo.Settings{Quota: 1000, TrashQuota: 1000, Guard: repo.Guard{MinAge: 10 * 24 * time.Hour}}
		}
	})
	for range 2 {
		mustPut(t, create(t, s, "r").As(repo.Principal{}), "x", strings.Repeat("x", 900))
		if err := s.Destroy(ctx, "r"); err != nil {
			t.Fatal(err)
		}
	}
	clock.Advance(3 * 24 * time.Hour)
	a := create(t, s, "r").As(repo.Principal{})
	mustPut(t, a, "x", strings.Repeat("y", 900))
	if err := s.Destroy(ctx, "r"); !errors.Is(err, repo.ErrDenied) || !strings.Contains(err.Error(), "refused by min_age") {
		t.Errorf("destroy of one that cannot be kept: got %v", err)
	}
	wantContent(t, a, "x", strings.Repeat("y", 900))
	if all, err := s.Removed(); err != nil || len(all) != 2 {
		t.Errorf("removed: %+v, %v; want both", all, err)
	}
	if err := s.DestroyNow(ctx, "r"); err != nil {
		t.Errorf("an administrator: %v", err)
	}
}
