package blobstore_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"packhouse/blobstore"
)

// BenchmarkCommit is the whole way of a blob, from Create to Settle, on the disk below
// the temporary directory (TMPDIR). With more goroutines it shows how far syncs are shared.
func BenchmarkCommit(b *testing.B) {
	for _, goroutines := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("size=8KiB/goroutines=%d", goroutines), func(b *testing.B) {
			benchmarkCommit(b, 8<<10, goroutines)
		})
	}
	b.Run("size=32MiB/goroutines=1", func(b *testing.B) { benchmarkCommit(b, 32<<20, 1) })
	b.Run("size=512MiB/goroutines=1", func(b *testing.B) { benchmarkCommit(b, 512<<20, 1) })
}

func benchmarkCommit(b *testing.B, size, goroutines int) {
	s := open(b, newDir(b), nil)
	piece := random(1, min(size, 256<<10))
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	var begun atomic.Int64
	var workers sync.WaitGroup
	for range goroutines {
		workers.Go(func() {
			for begun.Add(1) <= int64(b.N) {
				ref, err := stream(s, piece, size)
				if err == nil {
					err = s.Settle(ref)
				}
				if err == nil && size > 8<<10 {
					err = s.Remove(ref) // the disk need not hold them all
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	workers.Wait()
}

// stream commits a blob of size bytes, as a body arrives: in pieces.
func stream(s *blobstore.Store, piece []byte, size int) (blobstore.Ref, error) {
	w, err := s.Create(context.Background(), -1)
	if err != nil {
		return "", err
	}
	defer w.Abort()
	for left := size; left > 0; left -= len(piece) {
		if _, err := w.Write(piece[:min(left, len(piece))]); err != nil {
			return "", err
		}
	}
	ref, _, err := w.Commit(context.Background(), []byte("label"))
	return ref, err
}

// BenchmarkOpen is what a read of a small blob costs besides sending it.
func BenchmarkOpen(b *testing.B) {
	s := open(b, newDir(b), nil)
	ref := mustPut(b, s, string(random(1, 8<<10)), "label")
	p := make([]byte, 8<<10)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		blob, err := s.Open(ref, infoOf(p))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := blob.ReadAt(p, 0); err != nil {
			b.Fatal(err)
		}
		if err := blob.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVerify reads from the page cache: it isolates hashing.
func BenchmarkVerify(b *testing.B) {
	s := open(b, newDir(b), nil)
	ref := mustPut(b, s, string(random(1, 32<<20)), "label")
	b.SetBytes(32 << 20)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Verify(context.Background(), ref, asStored); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRemove removes settled blobs, one by one or 256 with shared syncs.
func BenchmarkRemove(b *testing.B) {
	for _, batch := range []int{1, 256} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			s := open(b, newDir(b), nil)
			refs := make([]blobstore.Ref, b.N)
			for i := range refs {
				refs[i] = mustPut(b, s, "content", "")
				mustSettle(b, s, refs[i])
			}
			b.ResetTimer()
			for len(refs) > 0 {
				n := min(batch, len(refs))
				if err := s.RemoveAll(refs[:n]); err != nil {
					b.Fatal(err)
				}
				refs = refs[n:]
			}
		})
	}
}
