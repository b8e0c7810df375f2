package datadir_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/layout"
)

// serverDir is a new data directory with the server's own directory.
func serverDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, layout.OwnDir), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// openSet opens a set of dir, and returns what closes it.
func openSet(t *testing.T, dir string, fsys vfs.FS, change func(*datadir.Options)) (s *datadir.Set, end func()) {
	t.Helper()
	o := datadir.Options{Dir: dir, Environment: repo.Environment{FS: fsys}}
	if failing, ok := fsys.(*vfstest.Failing); ok {
		o.Index.Database = vfstest.Bolt(t, failing)
	}
	if change != nil {
		change(&o)
	}
	s = datadir.Open(o)
	closed := false
	end = func() {
		if !closed {
			closed = true
			_ = s.Close() // after an error of the disk it says so
		}
	}
	t.Cleanup(end)
	return s, end
}

func wantGet(t *testing.T, s *datadir.Set, name string, want error) {
	t.Helper()
	_, err := s.Get(ctx, name)
	if !errors.Is(err, want) || want == repo.ErrNoRepository && errors.Is(err, repo.ErrVanished) {
		t.Errorf("get %s: %v, want %v", name, err, want)
	}
}

// TestVanished: it is known after a restart that there was a repository which is missing, until it is back, created again, destroyed or forgotten.
func TestVanished(t *testing.T) {
	dir, away := serverDir(t), t.TempDir()
	places := make(map[string]string)
	s, end := openSet(t, dir, nil, nil)
	for _, name := range []string{"back", "again", "destroyed", "alice/forgotten", "stays"} {
		mustCreate(t, s, name)
		places[name] = filepath.Join(dir, layout.DirName(name))
	}
	if err := s.Destroy(ctx, "destroyed"); err != nil {
		t.Fatal(err)
	}
	end()
	missing := []string{"again", "alice/forgotten", "back"}
	for _, name := range missing {
		if err := os.Rename(places[name], filepath.Join(away, layout.DirName(name))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(places["again"], 0o700); err != nil { // as where a volume is not mounted
		t.Fatal(err)
	}
	if got := datadir.Vanished(dir); !slices.Equal(got, missing) {
		t.Errorf("vanished: %q, want %q", got, missing)
	}
	for range 2 {
		s, end = openSet(t, dir, nil, nil)
		for _, name := range missing {
			wantGet(t, s, name, repo.ErrVanished)
		}
		wantGet(t, s, "stays", nil)
		wantGet(t, s, "destroyed", repo.ErrNoRepository)
		wantGet(t, s, "never", repo.ErrNoRepository)
		names, err := s.Names()
		if got := s.Vanished(names); err != nil || !slices.Equal(got, missing) || !slices.Equal(names, []string{"stays"}) {
			t.Errorf("names %q, vanished %q, %v", names, got, err)
		}
		end()
	}

	s, end = openSet(t, dir, nil, nil)
	mustCreate(t, s, "again")
	if err := os.Rename(filepath.Join(away, "back"), places["back"]); err != nil {
		t.Fatal(err)
	}
	wantGet(t, s, "back", nil)
	for name, want := range map[string]error{"alice/forgotten": nil, "back": repo.ErrExists, "never": repo.ErrNoRepository, "destroyed": repo.ErrNoRepository} {
		if err := s.Forget(name); !errors.Is(err, want) {
			t.Errorf("forget %s: %v, want %v", name, err, want)
		}
	}
	end()
	s, _ = openSet(t, dir, nil, nil)
	wantGet(t, s, "alice/forgotten", repo.ErrNoRepository)
	wantGet(t, s, "back", nil)
	wantGet(t, s, "again", nil)
	if got := datadir.Vanished(dir); len(got) > 0 {
		t.Errorf("vanished: %q, want none", got)
	}
}

// TestVanishedAfterPowerLoss: that there is a repository is durable when it can first be used.
func TestVanishedAfterPowerLoss(t *testing.T) {
	dir := serverDir(t)
	t.Run("served", func(t *testing.T) {
		lossy := vfstest.NewLossy(t, dir)
		s, _ := openSet(t, dir, lossy, nil)
		mustCreate(t, s, "a")
		mustCreate(t, s, "b")
		if err := s.Destroy(ctx, "b"); err != nil {
			t.Fatal(err)
		}
		if err := lossy.Crash(nil); err != nil {
			t.Fatal(err)
		}
	})
	if err := os.RemoveAll(filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	s, _ := openSet(t, dir, nil, nil)
	wantGet(t, s, "a", repo.ErrVanished)
	wantGet(t, s, "b", repo.ErrNoRepository)
}

// TestVanishedAfterKillAndPowerLoss: a process that is killed while it creates a repository leaves nothing half-recorded to the next one: what that one has
// opened is known after a power loss, too.
func TestVanishedAfterKillAndPowerLoss(t *testing.T) {
	t.Parallel()
	opened := 0
	for n, hit := 1, true; hit; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			dir, there := serverDir(t), false
			t.Run("served", func(t *testing.T) {
				lossy := vfstest.NewLossy(t, dir)
				failing := vfstest.NewFailing(lossy)
				s, end := openSet(t, dir, failing, nil)
				failing.StopAt(n, vfstest.Before, syscall.EIO)
				_, _ = s.Create(ctx, "r", "borgstore")
				hit = failing.Hit()
				end()
				s, _ = openSet(t, dir, lossy, nil)
				_, err := s.Get(ctx, "r")
				there = err == nil
				if err := lossy.Crash(nil); err != nil {
					t.Fatal(err)
				}
			})
			if !there {
				return
			}
			opened++
			if err := os.RemoveAll(filepath.Join(dir, "r")); err != nil {
				t.Fatal(err)
			}
			s, _ := openSet(t, dir, nil, nil)
			wantGet(t, s, "r", repo.ErrVanished)
		})
	}
	if opened == 0 {
		t.Error("the repository was never there")
	}
}

// TestDestroyedIsNotVanished: each call of the file system by which a repository is destroyed is the last before the process ends, once. After that the
// repository is there, or destroyed; and it is never missing.
func TestDestroyedIsNotVanished(t *testing.T) {
	t.Parallel()
	for _, grace := range []time.Duration{0, time.Hour} {
		for _, when := range []vfstest.When{vfstest.Before, vfstest.After} {
			for n, hit := 1, true; hit; n++ {
				t.Run(fmt.Sprint(grace, "/", when, "/", n), func(t *testing.T) {
					dir := serverDir(t)
					failing := vfstest.NewFailing(vfs.OS())
					s, end := openSet(t, dir, failing, func(o *datadir.Options) {
						o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: grace} }
					})
					mustCreate(t, s, "r")
					failing.Reset()
					failing.StopAt(n, when, syscall.EIO)
					err := s.Destroy(ctx, "r")
					hit = failing.Hit()
					failing.Reset()
					end()
					s, _ = openSet(t, dir, nil, nil)
					if _, got := s.Get(context.Background(), "r"); errors.Is(got, repo.ErrVanished) || err == nil && !errors.Is(got, repo.ErrNoRepository) {
						t.Errorf("destroyed with %v, then %v", err, got)
					}
				})
			}
		}
	}
}

// TestNoneVanishedWithoutDataDirectory: a data directory that goes while one looks does not make all its repositories missing.
func TestNoneVanishedWithoutDataDirectory(t *testing.T) {
	dir := serverDir(t)
	s, _ := openSet(t, dir, nil, nil)
	mustCreate(t, s, "a")
	away := filepath.Join(t.TempDir(), "away")
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	if got := s.Vanished(nil); len(got) > 0 {
		t.Errorf("got %q, want none", got)
	}
	if err := os.Rename(away, dir); err != nil {
		t.Fatal(err)
	}
}

// TestKnownIsNotWrittenAgain: that a repository is known costs nothing but when it is first opened.
func TestKnownIsNotWrittenAgain(t *testing.T) {
	dir := serverDir(t)
	failing := vfstest.NewFailing(vfs.OS())
	calls := func() (ops []vfstest.Op) {
		for _, call := range failing.Calls() {
			if strings.Contains(call.Name, filepath.Join(layout.OwnDir, layout.KnownDir)) {
				ops = append(ops, call.Op)
			}
		}
		failing.Reset()
		return ops
	}
	s, end := openSet(t, dir, failing, nil)
	mustCreate(t, s, "a")
	if got, want := calls(), []vfstest.Op{vfstest.Mkdir, vfstest.Create, vfstest.Sync, vfstest.SyncDir}; !slices.Equal(got, want) {
		t.Errorf("the first: %v, want %v", got, want)
	}
	mustCreate(t, s, "b")
	calls()
	end()
	s, _ = openSet(t, dir, failing, nil)
	wantGet(t, s, "a", nil)
	if got, want := calls(), []vfstest.Op{vfstest.SyncDir}; !slices.Equal(got, want) { // whoever made the files may have been killed before
		t.Errorf("after a restart: %v, want %v", got, want)
	}
	wantGet(t, s, "b", nil)
	wantGet(t, s, "a", nil)
	wantGet(t, s, "never", repo.ErrNoRepository)
	if got := calls(); len(got) > 0 {
		t.Errorf("later: %v, want nothing", got)
	}
}

// TestKnownWithoutRecord: where nothing can be recorded a repository is served, and known as long as the process runs.
func TestKnownWithoutRecord(t *testing.T) {
	dir := serverDir(t)
	failing := vfstest.NewFailing(vfs.OS())
	s, _ := openSet(t, dir, failing, nil)
	mustCreate(t, s, "first")
	failing.Reset()
	if err := os.RemoveAll(filepath.Join(dir, layout.OwnDir, layout.KnownDir)); err != nil {
		t.Fatal(err)
	}
	failing.FailOp(vfstest.Mkdir, 1, vfstest.Before, syscall.ENOSPC)
	r := filepath.Join(dir, "other")
	if err := os.Rename(filepath.Join(dir, "first"), r); err != nil {
		t.Fatal(err)
	}
	wantGet(t, s, "other", nil)
	if !failing.Hit() {
		t.Fatal("nothing was to be recorded")
	}
	if err := os.RemoveAll(r); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	wantGet(t, s, "other", repo.ErrVanished)
	wantGet(t, s, "first", repo.ErrVanished)
}
