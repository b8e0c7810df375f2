package blobstore_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"packhouse/blobstore"
)

// TestGroupSyncShares: whoever comes while a sync runs waits for one that begins later, all together.
func TestGroupSyncShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var syncs atomic.Int64
		release := make(chan error)
		wait := blobstore.NewGroupSync(func() error {
			syncs.Add(1)
			return <-release
		})
		begin := func(callers int) <-chan error {
			results := make(chan error, callers)
			for range callers {
				go func() { results <- wait() }()
			}
			synctest.Wait()
			return results
		}
		collect := func(results <-chan error, callers int, want error) {
			t.Helper()
			synctest.Wait()
			if len(results) != callers {
				t.Errorf("%d callers returned, want %d", len(results), callers)
			}
			for range callers {
				if err := <-results; err != want {
					t.Errorf("got %v, want %v", err, want)
				}
			}
		}

		first := begin(1)
		second := begin(10)
		if got := syncs.Load(); got != 1 {
			t.Errorf("%d syncs run at once, want 1", got)
		}
		release <- nil
		collect(first, 1, nil)
		if got := syncs.Load(); got != 2 {
			t.Errorf("%d syncs for the second batch, want 1 more", got)
		}
		third := begin(5)
		if len(second) != 0 {
			t.Error("the second batch returned before its sync")
		}
		bad := errors.New("bad disk")
		release <- bad
		collect(second, 10, bad)
		release <- nil
		collect(third, 5, nil)
		if got := syncs.Load(); got != 3 {
			t.Errorf("%d syncs for 16 callers, want 3", got)
		}
	})
}

// TestGroupSyncCovers: what a caller did before it called is seen by its sync.
func TestGroupSyncCovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var done, durable int // counts of what was done, and of that what a sync saw when it began
		wait := blobstore.NewGroupSync(func() error {
			mu.Lock()
			seen := done
			mu.Unlock()
			time.Sleep(time.Millisecond)
			mu.Lock()
			durable = max(durable, seen)
			mu.Unlock()
			return nil
		})
		var callers sync.WaitGroup
		for i := range 20 {
			callers.Go(func() {
				for range 50 {
					time.Sleep(time.Duration(i*37) * time.Microsecond)
					mu.Lock()
					done++
					mine := done
					mu.Unlock()
					if err := wait(); err != nil {
						t.Error(err)
					}
					mu.Lock()
					if durable < mine {
						t.Errorf("%d of at least %d were durable", durable, mine)
					}
					mu.Unlock()
				}
			})
		}
		callers.Wait()
	})
}
