package transfer_test

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"
	"testing"

	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/transfer"
)

// TestMeter: a step is reported at its begin, and then after so many items or bytes; each problem is told.
func TestMeter(t *testing.T) {
	var told []string
	counted := 0
	m := transfer.Meter{
		Report:  func(p transfer.Progress) { told = append(told, fmt.Sprint(p.Step, " ", p.Items, "/", p.ItemsTotal)) },
		Problem: func(p transfer.Problem) { told = append(told, p.Key+": "+p.Why) },
	}
	m.Begin("one", 3000, 1)
	for range 1500 {
		m.Pass(1, func() { counted++ })
	}
	m.Tell("key", 64<<20, transfer.ErrMissing, func() { counted++ })
	m.Step("two")
	want := []string{"one 0/3000", "one 1024/3000", "key: its file is missing", "one 1501/3000", "two 1501/3000"}
	if !slices.Equal(told, want) || counted != 1501 {
		t.Errorf("got %q, %d; want %q", told, counted, want)
	}
	quiet := transfer.Meter{}
	quiet.Begin("", 1, 1)
	quiet.Tell("key", 1, transfer.ErrMissing, nil) // nobody listens
}

// spaceFS has so many bytes.
type spaceFS struct {
	vfs.FS
	free int64
}

func (s spaceFS) Space(string) (free, total int64, err error) { return s.free, s.free, nil }

// TestFits: copies need their bytes, something for each file, and leave some space.
func TestFits(t *testing.T) {
	for _, c := range []struct {
		items, bytes, free int64
		fits               bool
	}{{0, 0, 0, true}, {1, 100, transfer.SpareSpace + 100, false}, {1, 100, transfer.SpareSpace + 4096, true}, {1000, 100, transfer.SpareSpace + 4096, false}} {
		err := transfer.Fits(spaceFS{free: c.free}, "", transfer.Amount{Items: c.items, Bytes: c.bytes})
		if c.fits && err != nil || !c.fits && !errors.Is(err, repo.ErrNoSpace) {
			t.Errorf("%d items, %d bytes, %d free: got %v", c.items, c.bytes, c.free, err)
		}
	}
}

// TestErrors: no error says where something lies, a full disk is one, and what the index knows of an item is told.
func TestErrors(t *testing.T) {
	path := &fs.PathError{Op: "open", Path: "/a/b", Err: syscall.EIO}
	if err := transfer.Failed(path); !errors.Is(err, syscall.EIO) || err.Error() != syscall.EIO.Error() {
		t.Errorf("got %v", err)
	}
	path.Err = syscall.ENOSPC
	if err := transfer.Failed(path); !errors.Is(err, repo.ErrNoSpace) {
		t.Errorf("got %v", err)
	}
	for flags, want := range map[index.Flags]error{
		0: nil, index.FlagExempt | index.FlagUnverified: nil, index.FlagDamaged: transfer.ErrDamaged, index.FlagDamaged | index.FlagMissing: transfer.ErrMissing,
	} {
		if err := transfer.Unfit(index.Item{Flags: flags}); err != want {
			t.Errorf("%d: got %v, want %v", flags, err, want)
		}
	}
	if err := transfer.SyncFileSystem(spaceFS{}, ""); err == nil {
		t.Error("a file system that cannot be synced: no error")
	}
}
