package repo_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"packhouse/repo"
	"packhouse/repo/layout"
)

// A copy of the index does not use up what deleting needs, and leaves nothing of itself when the disk is full.
func TestSnapshotLeavesTheReserve(t *testing.T) {
	d, s := newDisk(t, 1<<20)
	r := create(t, s, "r")
	d.free.Store(100 + 10)
	if _, err := r.Snapshot(ctx, 1); !errors.Is(err, repo.ErrNoSpace) {
		t.Errorf("got %v, want ErrNoSpace", err)
	}
	if files, err := os.ReadDir(filepath.Join(repo.Dir(r), layout.SnapshotDir)); err != nil || len(files) != 0 {
		t.Errorf("left: %v, %v", files, err)
	}
}
