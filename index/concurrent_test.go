package index_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"packhouse/index"
)

// Many writers, each with its own keys and many failing groups, beside readers:
// every success stands, every failure left nothing, the counters are exact.
func TestConcurrentApply(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	if err := index.Create(path, nil); err != nil {
		t.Fatal(err)
	}
	x, err := index.Open(path, index.Options{})
	if err != nil {
		t.Fatal(err)
	}
	const writers, rounds = 32, 40
	var writing, reading sync.WaitGroup
	wants := make([]index.Counters, writers)
	for w := range writers {
		writing.Go(func() {
			random := rand.New(rand.NewPCG(7, uint64(w)))
			dir, want := fmt.Sprintf("w%d", w), &wants[w]
			for n := range rounds {
				key := fmt.Sprintf("%s/%d", dir, n)
				size := random.Int64N(1000)
				switch random.IntN(4) {
				case 0: // fails at its end
					_, err := x.Apply(background, put(key, size), index.MakeDir{Key: key + "dir"}, index.Require{Key: "none", Ref: "r"})
					if !errors.Is(err, index.ErrNotFound) {
						t.Errorf("failing group: got %v", err)
					}
				case 1: // comes and goes
					apply(t, x, put(key, size))
					apply(t, x, index.Delete{Key: key, TrashUntil: clock})
					want.TrashItems, want.TrashBytes = want.TrashItems+1, want.TrashBytes+size
				case 2: // moves
					apply(t, x, put(key, size), index.Move{From: key, To: key + "moved"})
					want.Items, want.Bytes = want.Items+1, want.Bytes+size
				default:
					apply(t, x, put(key, size))
					want.Items, want.Bytes = want.Items+1, want.Bytes+size
				}
			}
		})
	}
	done := make(chan struct{})
	for range 4 {
		reading.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				// In one snapshot no group is seen in part.
				x.List(background, index.ListOptions{Recursive: true}, func(e index.Entry) error {
					if e.Item.Ref == "" {
						t.Errorf("entry without a ref: %+v", e)
					}
					return nil
				})
				if report, err := x.Check(background); err != nil || len(report.Problems) > 0 {
					t.Errorf("check beside writers: %v, %v", report.Problems, err)
				}
				x.Counters()
				x.NextExpiry()
			}
		})
	}
	writing.Wait()
	close(done)
	reading.Wait()

	check := func(x *index.Index) {
		t.Helper()
		var total index.Counters
		for w, want := range wants {
			got, err := x.DirCounters(fmt.Sprintf("w%d", w))
			if err != nil || got.Items != want.Items || got.Bytes != want.Bytes {
				t.Errorf("writer %d: got %+v, %v, want %+v", w, got, err, want)
			}
			total.Items += want.Items
			total.Bytes += want.Bytes
			total.TrashItems += want.TrashItems
			total.TrashBytes += want.TrashBytes
		}
		equal(t, "counters", x.Counters(), total)
	}
	check(x)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	check(open(t, path, index.Options{}))
}

// However many try at once, usage never passes the limit, and all of it is used.
func TestConcurrentQuota(t *testing.T) {
	x := create(t)
	const limit, size = 1000, 30
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			p := put(fmt.Sprint(i), size)
			p.Limit = limit
			if _, err := x.Apply(background, p); err != nil && !errors.Is(err, index.ErrQuota) {
				t.Error(err)
			}
			if n := x.Counters().Bytes; n > limit {
				t.Errorf("%d bytes used of %d", n, limit)
			}
		})
	}
	all.Wait()
	equal(t, "items", x.Counters().Items, int64(limit/size))
}

// Of many that want one lock, or one key, one gets it.
func TestConcurrentPreconditions(t *testing.T) {
	x := create(t)
	var all sync.WaitGroup
	var mu sync.Mutex
	locked, stored := 0, 0
	for i := range 50 {
		all.Go(func() {
			_, lockErr := x.Apply(background, index.AcquireLock{ID: "l", Holder: fmt.Sprint(i), TTL: time.Hour, Now: clock})
			p := putRef("key", fmt.Sprint(i), 1)
			p.IfAbsent = true
			_, putErr := x.Apply(background, p)
			mu.Lock()
			defer mu.Unlock()
			if lockErr == nil {
				locked++
			} else if !errors.Is(lockErr, index.ErrLocked) {
				t.Error(lockErr)
			}
			if putErr == nil {
				stored++
			} else if !errors.Is(putErr, index.ErrExists) {
				t.Error(putErr)
			}
		})
	}
	all.Wait()
	equal(t, "locked", locked, 1)
	equal(t, "stored", stored, 1)
}
