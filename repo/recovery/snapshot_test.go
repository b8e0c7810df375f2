package recovery_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/recovery"
)

// TestSnapshotSurvivesPowerFailure takes the power away at each file operation: one whole copy is there at any
// moment, the old one or the new one.
func TestSnapshotSurvivesPowerFailure(t *testing.T) {
	for n, hit := 1, true; hit; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			dir := newRepository(t)
			path := filepath.Join(dir, "r")
			lossy := vfstest.NewLossy(t, dir)
			failing := vfstest.NewFailing(lossy)
			s := datadir.Open(datadir.Options{Dir: dir, Environment: repo.Environment{FS: failing}})
			r, err := s.Get(ctx, "r")
			if err != nil {
				t.Fatal(err)
			}
			a := r.As(repo.Principal{})
			mustPut(t, a, "packs/x", "1")
			if err := a.Move(ctx, "packs/x", "packs/y"); err != nil { // which only an index knows
				t.Fatal(err)
			}
			if _, err := r.Snapshot(ctx, 1); err != nil {
				t.Fatal(err)
			}
			failing.Reset()
			failing.StopAt(n, vfstest.Before, syscall.EIO)
			_, err = r.Snapshot(ctx, 1)
			if hit = failing.Hit(); hit != (err != nil) {
				t.Errorf("call %d fails: got %v", n, err)
			}
			if err != nil && strings.Contains(err.Error(), dir) {
				t.Errorf("error shows a path: %v", err)
			}
			if err := s.Close(); err != nil && !failing.Hit() {
				t.Fatal(err)
			}
			if err := lossy.Crash(nil); err != nil {
				t.Fatal(err)
			}
			report, err := recovery.Rebuild(ctx, path, recovery.RebuildOptions{Replace: true})
			if err != nil || report.Snapshot == "" {
				t.Fatalf("rebuild: %+v, %v", report, err)
			}
			s = newSet(t, func(o *datadir.Options) { o.Dir = dir })
			if r, err = s.Get(ctx, "r"); err != nil {
				t.Fatal(err)
			}
			wantContent(t, r.As(repo.Principal{}), "packs/y", "1")
		})
	}
}

// When the clock went back, the new copy is not taken for the oldest.
func TestSnapshotAfterTheClockWentBack(t *testing.T) {
	clock, dir := fixedClock(time.Now()), t.TempDir()
	r := create(t, newSet(t, func(o *datadir.Options) { o.Dir, o.Now = dir, clock.Now }), "r")
	last := ""
	for _, step := range []time.Duration{0, 0, -time.Hour} {
		clock.Advance(step)
		s, err := r.Snapshot(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		kept, err := recovery.Snapshots(vfs.OS(), filepath.Join(dir, "r"))
		if err != nil || len(kept) != 1 || kept[0].Name != s.Name || s.Name <= last {
			t.Errorf("after %v: kept %v, %v; want %s, which comes after %s", step, kept, err, s.Name, last)
		}
		last = s.Name
	}
}

// A damaged index, or one whose last commit may not be on the disk, must not push out the sound copies.
func TestSnapshotOfBadIndexIsRefused(t *testing.T) {
	dir := newRepository(t)
	path := filepath.Join(dir, "r")
	failing := false
	o := datadir.Options{Dir: dir, Environment: repo.Environment{Index: index.Options{AfterCommit: func() error {
		if failing {
			return errors.New("sync failed")
		}
		return nil
	}}}}
	s := datadir.Open(o)
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, r.As(repo.Principal{}), "packs/a", "1")
	sound, err := r.Snapshot(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	failing = true
	if err := r.SetQuota(ctx, 1); !errors.Is(err, repo.ErrReadOnly) {
		t.Fatalf("quota: got %v, want ErrReadOnly", err)
	}
	if _, err := r.Snapshot(ctx, 1); !errors.Is(err, repo.ErrReadOnly) {
		t.Errorf("snapshot of a failed index: got %v, want ErrReadOnly", err)
	}
	failing = false
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	damageIndex(t, filepath.Join(path, "index.db"))
	s = datadir.Open(o)
	defer s.Close()
	if r, err = s.Get(ctx, "r"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Snapshot(ctx, 1); !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("snapshot of a damaged index: got %v, want ErrCorrupt", err)
	}
	if kept, err := recovery.Snapshots(vfs.OS(), path); err != nil || len(kept) != 1 || kept[0].Name != sound.Name {
		t.Errorf("kept %v, %v; want %s", kept, err, sound.Name)
	}
}
