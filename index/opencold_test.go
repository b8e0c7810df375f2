package index_test

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"packhouse/index"
)

// BenchmarkOpenCold is opening an index of 1 M items of which the page cache has nothing: the branches are read from the disk.
func BenchmarkOpenCold(b *testing.B) {
	path := fillMillion(b, million, true)
	b.Run(fmt.Sprintf("items=%d", million), func(b *testing.B) {
		var total time.Duration
		for b.Loop() {
			if err := evict(path); err != nil {
				b.Fatal(err)
			}
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

// evict takes a file out of the page cache.
func evict(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close())
}
