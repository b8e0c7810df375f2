package vger_test

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"packhouse/api/vger"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/digest"
	"packhouse/repo/repotest"
)

// populated is a server whose repository "r" has n packs in its index without bytes behind them: for what never reads a pack. They are
// exempt, so that the counters of the quota stay right.
func populated(b *testing.B, n int) *server {
	b.Helper()
	now := time.UnixMilli(1785492000000)
	names := make([]string, n)
	for i := range names {
		names[i] = b3(fmt.Sprint(i))
	}
	slices.Sort(names) // in order the index takes them several times as fast
	dir := b.TempDir()
	repotest.Seed(b, datadir.Options{Dir: dir}, "r", vger.Name, func(yield func([]index.Mutation) bool) {
		for part := range slices.Chunk(names, 20_000) {
			var group []index.Mutation
			for _, name := range part {
				group = append(group, index.Put{
					Key: packKey(name), Exempt: true, Limit: -1, Now: now,
					Item: index.Item{Size: 1 << 20, Created: now, Modified: now, Ref: name[:32]},
				})
			}
			if !yield(group) {
				return
			}
		}
	})
	return newServer(b, func(c *setup) { c.set.Dir = dir })
}

func label(n int) string {
	if n >= 1e6 {
		return fmt.Sprintf("%dM", n/1e6)
	}
	return fmt.Sprintf("%dk", n/1e3)
}

// drain reads an answer to its end and returns its length.
func drain(b *testing.B, s *server, target, encoding string) int64 {
	b.Helper()
	r, err := http.NewRequest("GET", s.base+target, nil)
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Accept-Encoding", encoding)
	response, err := s.http.Do(r)
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	n, err := io.Copy(io.Discard, response.Body)
	if err != nil || response.StatusCode != 200 {
		b.Fatalf("status %d: %v", response.StatusCode, err)
	}
	return n
}

// BenchmarkList: one whole list over the wire: the walk of the index, JSON, and gzip if asked for.
func BenchmarkList(b *testing.B) {
	const n = 1_000_000
	s := populated(b, n)
	for _, encoding := range []string{"identity", "gzip"} {
		b.Run(fmt.Sprintf("keys=%s/encoding=%s", label(n), encoding), func(b *testing.B) {
			b.ReportAllocs()
			var bytes int64
			for b.Loop() {
				bytes = drain(b, s, "/r/packs/?list", encoding)
			}
			b.ReportMetric(float64(bytes)/(1<<20), "MiB/list")
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "keys/s")
		})
	}
}

// BenchmarkStats: the same time whatever the repository holds.
func BenchmarkStats(b *testing.B) {
	for _, n := range []int{1_000, 1_000_000} {
		b.Run("items="+label(n), func(b *testing.B) {
			s := populated(b, n)
			for b.Loop() {
				drain(b, s, "/r?stats", "identity")
			}
		})
	}
}

// BenchmarkVerifyPacks: reading, hashing and the framing of 8 packs of 32 MiB in one request. proof=BLAKE3 is a pack
// whose BLAKE2b was checked at upload, proof=none one that must be hashed again.
func BenchmarkVerifyPacks(b *testing.B) {
	const size, count = 32 << 20, 8
	for _, c := range []struct{ hash, proof string }{{"blake2b", "BLAKE3"}, {"blake2b", "none"}, {"blake3", "none"}} {
		b.Run(fmt.Sprintf("hash=%s/proof=%s", c.hash, c.proof), func(b *testing.B) {
			s := newServer(b, nil)
			s.want(201, s.do("POST", "/r?init", ""))
			var packs []string
			for i := range count {
				body := makePack(strings.Repeat(string(rune('a'+i)), size))
				key := packKey(b2(body))
				var expect []repo.Expectation
				if c.hash == "blake3" {
					key = packKey(b3(body))
				} else if c.proof != "none" {
					expect = []repo.Expectation{{Algorithm: must(digest.Lookup(digest.BLAKE2b256)), Sum: unhex(b2(body))}}
				}
				_, err := s.repository("r").Put(b.Context(), repo.PutRequest{Key: key, Body: strings.NewReader(body), Size: int64(len(body)), Expect: expect})
				if err != nil {
					b.Fatal(err)
				}
				packs = append(packs, verifyPack(key, size, 13, size))
			}
			rest := fmt.Sprintf(`,"hash":%q,"protocol_version":2`, c.hash)
			b.SetBytes(size * count)
			for b.Loop() {
				for _, r := range must2(s.verify(rest, packs...)) {
					if r.Error != nil {
						b.Fatal(*r.Error)
					}
				}
			}
			b.ReportMetric(float64(size*count)*float64(b.N)/(1<<20)/b.Elapsed().Seconds()/float64(runtime.GOMAXPROCS(0)), "MiB/s/core")
		})
	}
}

func must2(results []verified, truncated bool) []verified {
	if truncated {
		panic("truncated")
	}
	return results
}

// BenchmarkPut: one upload of 32 MiB to stable storage, hashed by the header's algorithm and by BLAKE3 for ourselves.
func BenchmarkPut(b *testing.B) {
	body := strings.Repeat("0123456789abcdef", 2<<20)
	for _, c := range []struct{ hash, header, sum string }{
		{"none", "X-Ignored", ""}, {"blake2b", "X-Content-BLAKE2b", b2(body)}, {"blake3", "X-Content-BLAKE3", b3(body)},
	} {
		b.Run("size=32MiB/hash="+c.hash+"/sync=on", func(b *testing.B) {
			s := newServer(b, func(c *setup) { c.set.FS = nil })
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				r, err := s.try("PUT", "/r/index", strings.NewReader(body), int64(len(body)), c.header, c.sum)
				if err != nil || r.status >= 300 {
					b.Fatalf("%+v, %v", r, err)
				}
			}
		})
	}
}
