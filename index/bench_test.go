package index_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"packhouse/index"
)

const million = 1_000_000

// fillMillion makes a closed index of n items as a borg repository has them:
// hash-like names, in one directory, or spread over 256.
func fillMillion(b *testing.B, n int, spread bool) (path string) {
	b.Helper()
	path = filepath.Join(b.TempDir(), "index.db")
	if err := index.Create(path, nil); err != nil {
		b.Fatal(err)
	}
	x, err := index.Open(path, index.Options{})
	if err != nil {
		b.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	// Larger groups are slower: bbolt splits a page only when it commits.
	muts := make([]index.Mutation, 0, 5_000)
	for i := range n {
		muts = append(muts, packItem(random, spread))
		if len(muts) == cap(muts) || i == n-1 {
			apply(b, x, muts...)
			muts = muts[:0]
		}
	}
	if err := x.Close(); err != nil {
		b.Fatal(err)
	}
	return path
}

func packItem(random *rand.Rand, spread bool) index.Put {
	name := fmt.Sprintf("%016x%016x%016x%016x", random.Uint64(), random.Uint64(), random.Uint64(), random.Uint64())
	key := "packs/" + name
	if spread {
		key = "packs/" + name[:2] + "/" + name
	}
	return index.Put{
		Key: key, Limit: -1, Now: clock,
		Item: index.Item{Size: 1 << 20, Ref: name[16:48], Algorithm: "sha256", Sum: make([]byte, 32), Writer: "alice"},
	}
}

// BenchmarkList is the cost of a walk over 1 M items, without a consumer's: of rows, of rows with one in a hundred still in the
// log, and of whole entries.
func BenchmarkList(b *testing.B) {
	for _, recursive := range []bool{false, true} {
		x, err := index.Open(fillMillion(b, million, recursive), index.Options{})
		if err != nil {
			b.Fatal(err)
		}
		defer x.Close()
		o, n := index.ListOptions{Dir: "packs", Recursive: recursive}, 0
		measure := func(name string, want int, list func() error) {
			b.Run(fmt.Sprintf("items=%d/recursive=%v/of=%s", million, recursive, name), func(b *testing.B) {
				runtime.GC()
				b.ReportAllocs()
				for b.Loop() {
					n = 0
					if err := list(); err != nil || n != want {
						b.Fatal(n, err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/million, "ns/item")
			})
		}
		rows := func() error { return x.Rows(background, o, func(*index.Row) error { n++; return nil }) }
		measure("entries", million, func() error { return x.List(background, o, func(index.Entry) error { n++; return nil }) })
		measure("rows", million, rows)
		release := x.HoldCheckpoints()
		random := rand.New(rand.NewPCG(7, 8))
		for range 10 {
			var muts []index.Mutation
			for range million / 1000 {
				muts = append(muts, packItem(random, recursive))
			}
			apply(b, x, muts...)
		}
		measure("rows-and-log", million+million/100, rows)
		release()
	}
}

// BenchmarkListLevel is the cost of passing over 256 sub-directories of 1 M items.
func BenchmarkListLevel(b *testing.B) {
	x, err := index.Open(fillMillion(b, million, true), index.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer x.Close()
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		err := x.List(background, index.ListOptions{Dir: "packs"}, func(index.Entry) error { n++; return nil })
		if err != nil || n != 256 {
			b.Fatal(n, err)
		}
	}
}

// BenchmarkApply is durable puts of one item each, into an index of 100 k.
func BenchmarkApply(b *testing.B) {
	for _, goroutines := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			var commits atomic.Int64
			x, err := index.Open(fillMillion(b, 100_000, true), index.Options{AfterCommit: func() error { commits.Add(1); return nil }})
			if err != nil {
				b.Fatal(err)
			}
			defer x.Close()
			commits.Store(0)
			var seed atomic.Uint64
			b.ReportAllocs()
			b.SetParallelism(goroutines / min(goroutines, runtime.GOMAXPROCS(0)))
			if goroutines == 1 { // RunParallel has at least one for each processor
				random := rand.New(rand.NewPCG(3, 4))
				for b.Loop() {
					apply(b, x, packItem(random, true))
				}
			} else {
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					random := rand.New(rand.NewPCG(5, seed.Add(1)))
					for pb.Next() {
						if _, err := x.Apply(background, packItem(random, true)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
			b.ReportMetric(float64(b.N)/float64(commits.Load()), "puts/commit")
		})
	}
}

// BenchmarkOpen is opening an index of 1 M items after a clean close, and after a
// crash.
func BenchmarkOpen(b *testing.B) {
	path := fillMillion(b, million, true)
	b.Run(fmt.Sprintf("items=%d/after=close", million), func(b *testing.B) {
		for b.Loop() {
			x, err := index.Open(path, index.Options{})
			if err != nil {
				b.Fatal(err)
			}
			if err := x.Close(); err != nil {
				b.Fatal(err)
			}
		}
		info, err := os.Stat(path)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(info.Size())/million, "file-B/item")
	})
	b.Run(fmt.Sprintf("items=%d/after=crash", million), func(b *testing.B) {
		// A failed index leaves its file as a crash does.
		x, err := index.Open(path, index.Options{AfterCommit: func() error { return fmt.Errorf("crash") }})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := x.Apply(background, put("last", 1)); err == nil {
			b.Fatal("the commit did not fail")
		}
		if err := x.Close(); err != nil {
			b.Fatal(err)
		}
		var total time.Duration
		for b.Loop() {
			begin := time.Now()
			x, err := index.Open(path, index.Options{})
			if err != nil {
				b.Fatal(err)
			}
			total += time.Since(begin)
			if err := x.Close(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(total.Milliseconds())/float64(b.N), "open-ms")
	})
}

// BenchmarkLargePlan isolates the one transaction of a plan of many packs: all of them become sources, and are proven. Its
// time should be in proportion to their number.
func BenchmarkLargePlan(b *testing.B) {
	for _, n := range []int{20_000, 80_000} {
		b.Run(fmt.Sprintf("packs=%d", n), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				x := create(b)
				keys := make([]string, n)
				muts := make([]index.Mutation, n)
				for i := range keys {
					keys[i] = fmt.Sprintf("packs/%02x/%02x%060x", i%256, i%256, i)
					m := put(keys[i], 1)
					m.Item.Ref = keys[i][len(keys[i])-16:]
					muts[i] = m
				}
				apply(b, x, muts...)
				b.StartTimer()
				opened := apply(b, x, index.OpenPlan{Plan: index.Plan{At: clock}, Sources: keys, Limit: -1})[0]
				apply(b, x, index.ProvePlan{ID: opened.Plan, Now: clock, Until: clock.Add(time.Hour)})
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(n), "µs/pack")
		})
	}
}
