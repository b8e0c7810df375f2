package datadir_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// stalled is a set in which the disk of the repository "slow" does not answer until release is called. A put into it is under way.
type stalled struct {
	set        *datadir.Set
	fast, slow *repo.Access
	release    func()
	put        chan error // how that put ended
}

func newStalled(t *testing.T) *stalled {
	t.Helper()
	dir := t.TempDir()
	fsys := vfstest.NewStalling(vfs.OS())
	s := &stalled{put: make(chan error, 1)}
	s.set = datadir.Open(datadir.Options{
		Dir: dir, Environment: repo.Environment{FS: fsys, Small: 1 << 10}, Patience: time.Second,
		FileSystem: func(at string) string {
			if strings.HasPrefix(at, filepath.Join(dir, "slow")) {
				return "slow"
			}
			return "fast"
		},
	})
	s.fast, s.slow = create(t, s.set, "fast").As(repo.Principal{}), create(t, s.set, "slow").As(repo.Principal{})
	create(t, s.set, "slow2")
	mustPut(t, s.fast, "before", "x")
	s.release = fsys.Stall(filepath.Join(dir, "slow"))
	t.Cleanup(func() {
		s.release()
		if err := s.set.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	go func() {
		_, err := put(s.slow, "waits", strings.Repeat("x", 100_000))
		s.put <- err
	}()
	waitFor(t, "call that waits", func() bool { return fsys.Waiting() > 0 })
	return s
}

// within fails the test if do takes longer than a stalled disk may hold up others.
func within(t *testing.T, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		do()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(15 * time.Second):
		t.Fatalf("%s waits for a disk that does not answer", what)
	}
}

// What concerns other repositories, or all of them, does not wait for a disk that does not answer.
func TestOthersDoNotWaitForADisk(t *testing.T) {
	s := newStalled(t)
	within(t, "a put of a file", func() { mustPut(t, s.fast, "large", strings.Repeat("y", 100_000)) })
	within(t, "a small put", func() { mustPut(t, s.fast, "small", "y") })
	within(t, "a get", func() { wantContent(t, s.fast, "large", strings.Repeat("y", 100_000)) })
	within(t, "a listing", func() {
		if got := list(t, s.fast, "", true); len(got) != 3 {
			t.Errorf("got %q", got)
		}
	})
	within(t, "the list of names", func() {
		if names, err := s.set.Names(); err != nil || !slices.Equal(names, []string{"fast", "slow", "slow2"}) {
			t.Errorf("got %q, %v", names, err)
		}
	})
	within(t, "the list of removed repositories", func() {
		if _, err := s.set.Removed(); err != nil {
			t.Error(err)
		}
	})
	within(t, "a look at all", func() {
		if err := s.set.Refresh(); err != nil {
			t.Error(err)
		}
	})
	within(t, "a question to all", func() {
		got, silent := datadir.AskOpened(s.set, func(_ string, r *repo.Repository) int64 {
			_, total, err := r.Space()
			if err != nil {
				t.Error(err)
			}
			return total
		})
		if len(got) < 1 || got["fast"] == 0 || !slices.Contains(silent, "slow") {
			t.Errorf("got %v, silent %q", got, silent)
		}
	})
	within(t, "creating another", func() { create(t, s.set, "new") })
	within(t, "destroying another", func() {
		if err := s.set.Destroy(ctx, "new"); err != nil {
			t.Error(err)
		}
	})
	s.release()
	if err := <-s.put; err != nil {
		t.Errorf("the put that waited: %v", err)
	}
	wantContent(t, s.slow, "waits", strings.Repeat("x", 100_000))
}

// A stop closes the others, and ends.
func TestCloseDoesNotWaitForADisk(t *testing.T) {
	s := newStalled(t)
	var err error
	within(t, "closing the set", func() { err = s.set.Close() })
	if err == nil || !strings.Contains(err.Error(), "slow") || strings.Contains(err.Error(), "fast") {
		t.Errorf("got %v, want an error that names the repository", err)
	}
	if _, err := put(s.fast, "late", "x"); err == nil {
		t.Error("the other repository is not closed")
	}
	s.release()
	<-s.put
}

// Requests are refused while a disk does not answer for long, instead of waiting; those to others are not.
func TestSilentDiskIsRefused(t *testing.T) {
	s := newStalled(t)
	within(t, "a look at all", func() {
		for {
			if err := s.set.Refresh(); err != nil {
				t.Error(err)
			}
			if _, err := s.set.Get(ctx, "slow"); err != nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
	for _, name := range []string{"slow", "slow2"} {
		if _, err := s.set.Get(ctx, name); !errors.Is(err, datadir.ErrSilent) || !errors.Is(err, repo.ErrBusy) {
			t.Errorf("%s: got %v, want ErrSilent", name, err)
		}
	}
	if _, err := s.set.Get(ctx, "fast"); err != nil {
		t.Error(err)
	}
	s.release()
	waitFor(t, "answer of the disk", func() bool {
		_ = s.set.Refresh()
		_, err := s.set.Get(context.Background(), "slow")
		return err == nil
	})
	if err := <-s.put; err != nil {
		t.Errorf("the put that waited: %v", err)
	}
}
