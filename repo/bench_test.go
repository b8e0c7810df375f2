package repo_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"packhouse/index"
	"packhouse/repo"
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
