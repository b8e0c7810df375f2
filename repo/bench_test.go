package repo_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// BenchmarkPut is the whole path of a durable write but for HTTP.
func BenchmarkPut(b *testing.B) {
	for _, size := range []int{8 << 10, 32 << 20} {
		for _, writers := range []int{1, 8, 64} {
			if size > 1<<20 && writers > 1 {
				continue
			}
			b.Run(fmt.Sprintf("size=%d/writers=%d", size, writers), func(b *testing.B) {
				a := newAccess(b, nil)
				body := bytes.Repeat([]byte("x"), size)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				var next atomic.Int64
				var wg sync.WaitGroup
				b.ResetTimer()
				for range writers {
					wg.Go(func() {
						for {
							i := next.Add(1)
							if i > int64(b.N) {
								return
							}
							_, err := a.Put(ctx, repo.PutRequest{
								Key: fmt.Sprintf("packs/%02x/%d", i%256, i), Body: bytes.NewReader(body), Size: int64(size),
							})
							if err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
			})
		}
	}
}

// BenchmarkSweep compares the names of many files with the index. The files are empty: it reads none.
func BenchmarkSweep(b *testing.B) {
	for _, items := range []int{10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("items=%d", items), func(b *testing.B) {
			s := newSet(b, nil)
			r := create(b, s, "r")
			var muts []index.Mutation
			for i := range items {
				id := sha256.Sum256(fmt.Appendf(nil, "%d", i))
				name := hex.EncodeToString(id[:16])
				if err := os.WriteFile(filepath.Join(repo.Dir(r), "blobs", name[30:], name), nil, 0o600); err != nil {
					b.Fatal(err)
				}
				muts = append(muts, index.Put{Key: "packs/" + name[:2] + "/" + name, Item: index.Item{Ref: "\x01" + string(id[:16])}, Limit: -1})
				if len(muts) == 10_000 || i == items-1 {
					if _, err := repo.IndexOf(r).Apply(ctx, muts...); err != nil {
						b.Fatal(err)
					}
					muts = nil
				}
			}
			for b.Loop() {
				if report, err := r.Sweep(ctx); err != nil || report.Items != int64(items) || report.Missing != 0 {
					b.Fatal(report, err)
				}
			}
		})
	}
}

// BenchmarkPlanRollback is the plan of a rollback over changes of so many keys, half of which are to come back and half to go: the time
// for each key, and what it takes of the heap at most.
func BenchmarkPlanRollback(b *testing.B) {
	for _, keys := range []int{10_000, 200_000, 1_000_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			clock := fixedClock(time.UnixMilli(1_790_000_000_000))
			r := create(b, newSet(b, func(o *datadir.Options) {
				o.Now, o.Small = clock.Now, index.MaxPayload
				withTrash(o)
			}), "r")
			clock.Advance(time.Second)
			cause := &index.Cause{Principal: "alice", Address: "192.0.2.1"}
			change := func(begin, end int, mutation func(key string) index.Mutation) {
				for part := begin; part < end; part += 2000 {
					var muts []index.Mutation
					for i := part; i < min(end, part+2000); i++ {
						sum := sha256.Sum256(binary.AppendUvarint(nil, uint64(i)))
						muts = append(muts, mutation("packs/"+hex.EncodeToString(sum[:])))
					}
					if _, err := repo.IndexOf(r).Apply(ctx, muts...); err != nil {
						b.Fatal(err)
					}
				}
			}
			store := func(key string) index.Mutation {
				return index.Put{Key: key, Payload: []byte{}, Limit: -1, Now: clock.Now(), Cause: cause}
			}
			change(0, keys/2, store)
			clock.Advance(time.Second)
			to := clock.Now()
			clock.Advance(time.Second)
			change(keys/2, keys, store)
			change(0, keys/2, func(key string) index.Mutation {
				return index.Delete{Key: key, TrashUntil: clock.Now().Add(100 * time.Hour), Now: clock.Now(), Cause: cause}
			})
			for b.Loop() {
				peak := peakHeap(func() {
					plan, err := r.PlanRollback(ctx, repo.RollbackRequest{To: to})
					if err != nil || plan.Returns.Items != int64(keys/2) || plan.Removes.Items != int64(keys/2) {
						b.Fatalf("got %+v, %v", plan, err)
					}
				})
				b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*keys), "µs/key")
		})
	}
}

// peakHeap is by how many bytes the heap has grown at most while fn ran, of what was looked at every few milliseconds.
func peakHeap(fn func()) (peak uint64) {
	runtime.GC()
	heap := func() uint64 {
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapInuse
	}
	began, done, ended := heap(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			peak = max(peak, heap())
			select {
			case <-done:
				tick.Stop()
				return
			case <-tick.C:
			}
		}
	}()
	fn()
	close(done)
	<-ended
	return peak - min(peak, began)
}
