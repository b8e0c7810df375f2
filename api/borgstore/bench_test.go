package borgstore_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"net/http"
	"runtime"
	"testing"

	"packhouse/api/borgstore"
	"packhouse/index"
	"packhouse/repo/datadir"
	"packhouse/repo/repotest"
)

// BenchmarkList is one listing over a connection of the machine itself: the walk of the index, the JSON, the buffer
// and sendfile. Allocations are the client's, too.
func BenchmarkList(b *testing.B) {
	for _, items := range []int{1_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("items=%d", items), func(b *testing.B) {
			if items > 100_000 && testing.Short() {
				b.Skip("filling takes a while")
			}
			dir := b.TempDir()
			repotest.Seed(b, datadir.Options{Dir: dir, Single: true}, "", borgstore.Name, rows(items))
			f := start(b, options{dir: dir})
			c := client{t: b, url: "http://" + f.Addr}
			var size int64
			b.ReportAllocs()
			for b.Loop() {
				size = download(b, c.url+"/packs/", items)
			}
			b.SetBytes(size)
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			b.ReportMetric(float64(m.HeapSys)/(1<<20), "heap-MiB")
		})
	}
}

// rows are items without bytes: the index does not look at references.
func rows(items int) iter.Seq[[]index.Mutation] {
	const group = 10_000
	return func(yield func([]index.Mutation) bool) {
		for done := 0; done < items; {
			var muts []index.Mutation
			for ; len(muts) < group && done < items; done++ {
				sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(done)))
				name := hex.EncodeToString(sum[:])
				muts = append(muts, index.Put{
					Key: "packs/" + name, Limit: -1, Now: now,
					Item: index.Item{Size: 50_000_000, Created: now, Modified: now, Ref: name[:32], BLAKE3: sum, Algorithm: "sha256", Sum: sum[:], Writer: "bench"},
				})
			}
			if !yield(muts) {
				return
			}
		}
	}
}

// download reads a listing to its end. A long one comes without a length.
func download(b *testing.B, url string, items int) int64 {
	b.Helper()
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Accept", mediaType)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	n, err := io.Copy(io.Discard, response.Body)
	if err != nil || response.StatusCode != 200 || n != response.ContentLength && response.ContentLength >= 0 || n < int64(items)*64 {
		b.Fatalf("got %d, %d of %d bytes for %d items, %v", response.StatusCode, n, response.ContentLength, items, err)
	}
	return n
}
