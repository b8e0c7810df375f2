package repo_test

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

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
