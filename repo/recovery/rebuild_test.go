package recovery_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/recovery"
)

// TestRebuild loses the index, with and without a snapshot of it, and wants every acknowledged item back.
func TestRebuild(t *testing.T) {
	for _, c := range []struct {
		name  string
		small int64
		noLog bool // it is lost too
	}{{"files", 0, false}, {"files, no log", 0, true}, {"log", index.MaxPayload, false}} {
		for _, snapshots := range []int{0, 1, 3} {
			t.Run(fmt.Sprintf("%s/snapshots=%d", c.name, snapshots), func(t *testing.T) { testRebuild(t, c.small, c.noLog, snapshots) })
		}
	}
}

func testRebuild(t *testing.T, small int64, noLog bool, snapshots int) {
	dir := memoryDir(t)
	start, ticks := time.Now(), atomic.Int64{}
	tick := func() time.Time { return start.Add(time.Duration(ticks.Add(1)) * time.Second) }
	o := datadir.Options{Dir: dir, Environment: repo.Environment{Now: tick, Small: small}}
	s := datadir.Open(o)
	r := create(t, s, "r")
	a := r.As(repo.Principal{Name: "w"})
	for i := range 30 {
		mustPut(t, a, fmt.Sprintf("packs/%02d/x", i), strings.Repeat("p", i*100))
	}
	mustPut(t, a, "config", "old")
	mustPut(t, a, "archives/1", "")
	if err := a.Delete(ctx, "packs/03/x"); err != nil {
		t.Fatal(err)
	}
	if snapshots > 0 { // a crash left one half-written
		part := filepath.Join(dir, "r", "snapshots", "20260101T000000.000Z.index.zst.new")
		if err := errors.Join(os.Mkdir(filepath.Dir(part), 0o700), os.WriteFile(part, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for range snapshots {
		if _, err := r.Snapshot(ctx, 2); err != nil {
			t.Fatal(err)
		}
	}
	if files, err := filepath.Glob(filepath.Join(dir, "r", "snapshots", "*")); err != nil || len(files) != min(snapshots, 2) {
		t.Errorf("files of snapshots: %q, %v", files, err)
	}
	if kept, err := recovery.Snapshots(vfs.OS(), filepath.Join(dir, "r")); err != nil || len(kept) != min(snapshots, 2) {
		t.Errorf("snapshots kept: %v, %v", kept, err)
	}
	mustPut(t, a, "config", "new")
	mustPut(t, a, "packs/zz/late", "after the snapshot")
	mustPut(t, a, "locks/l", "lock")
	if err := a.Delete(ctx, "packs/05/x"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the trash to empty", func() bool { return r.Usage().TrashItems == 0 })
	want, usage := contents(t, a), r.Usage()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "r")
	if _, err := recovery.Rebuild(ctx, path, recovery.RebuildOptions{Now: tick}); err == nil {
		t.Error("an index that is there was replaced without being asked to")
	}
	if err := os.WriteFile(filepath.Join(path, "index.db"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if noLog {
		if err := os.RemoveAll(filepath.Join(path, index.LogDir)); err != nil {
			t.Fatal(err)
		}
	}
	report, err := recovery.Rebuild(ctx, path, recovery.RebuildOptions{Now: tick, Replace: true})
	if err != nil {
		t.Fatal(err)
	}
	// A row of the snapshot whose blob is gone may have been deleted, or lost: it stays. Where the log goes on from there all is known.
	exact, missing := snapshots > 0 && !noLog, int64(0)
	if snapshots > 0 && noLog {
		missing = 1
	}
	if report.Missing != missing || report.Replayed != exact || report.LogDamaged != 0 || report.Damaged != 0 {
		t.Errorf("report: %+v, want %d missing, and the log replayed: %v", report, missing, exact)
	}
	if (report.Snapshot != "") != (snapshots > 0) || report.Items != int64(len(want)) || report.Unreadable != 0 {
		t.Errorf("report: %+v", report)
	}
	s = datadir.Open(o)
	defer s.Close()
	r, err = s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	if got := contents(t, r.As(repo.Principal{})); !maps.Equal(got, want) {
		t.Errorf("got %d items, want %d: %v", len(got), len(want), report)
	}
	if got := r.Usage(); got.Used != usage.Used || got.Exempt != usage.Exempt || r.Dialect() != "test" {
		t.Errorf("usage %+v, want %+v; dialect %q", got, usage, r.Dialect())
	}
	checkAll(t, s)
}

// TestRebuildKeepsWhatGaveWay: the label of a moved item still has its former key. An item stored there since
// takes the key, and the moved one must not be lost for that. Nor may an index be replaced that is in use.
func TestRebuildKeepsWhatGaveWay(t *testing.T) {
	dir := newRepository(t)
	path := filepath.Join(dir, "r")
	s := datadir.Open(datadir.Options{Dir: dir})
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	a := r.As(repo.Principal{})
	mustPut(t, a, "x", "moved")
	if err := a.Move(ctx, "x", "y"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Millisecond) // times have milliseconds
	mustPut(t, a, "x", "stored since")
	if _, err := recovery.Rebuild(ctx, path, recovery.RebuildOptions{Replace: true}); !errors.Is(err, index.ErrLocked) {
		t.Errorf("rebuild in use: got %v, want ErrLocked", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := recovery.Rebuild(ctx, path, recovery.RebuildOptions{Replace: true}); err != nil {
		t.Fatal(err)
	}
	s = datadir.Open(datadir.Options{Dir: dir})
	defer s.Close()
	if r, err = s.Get(ctx, "r"); err != nil {
		t.Fatal(err)
	}
	waitReclaimed(t, r, time.Now)
	wantContent(t, r.As(repo.Principal{}), "x", "stored since")
	var ids []string
	if err := r.Trash(func(removed index.Removed) error { ids = append(ids, removed.ID); return nil }); err != nil || len(ids) != 1 {
		t.Fatalf("trash: got %q, %v, want one item", ids, err)
	}
	if _, err := r.Restore(ctx, ids[0], "y"); err != nil {
		t.Fatal(err)
	}
	wantContent(t, r.As(repo.Principal{}), "y", "moved")
}

func TestRebuildFromNothing(t *testing.T) {
	dir := newRepository(t)
	path := filepath.Join(dir, "r")
	if err := errors.Join(os.Remove(filepath.Join(path, "index.db")), os.RemoveAll(filepath.Join(path, index.LogDir))); err != nil {
		t.Fatal(err)
	}
	if _, err := recovery.Rebuild(ctx, path, recovery.RebuildOptions{}); err == nil || strings.Contains(err.Error(), dir) {
		t.Errorf("got %v, want an error without a path", err)
	}
}
