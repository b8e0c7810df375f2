package bench

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"packhouse/repo/digest"
)

// frame is what a pack of V'Ger has in front of its first blob: magic, version and the blob's length.
const frame = 9 + 4

// newBody makes the bytes that all items of a size share: a pack of V'Ger with one blob that does not compress.
// size is at least that of the frame and of the number that tells items apart.
func newBody(size int64) []byte {
	body := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(body) // never fails
	copy(body, "VGERPACK\x01")
	binary.LittleEndian.PutUint32(body[9:], uint32(size-frame))
	return body
}

// series are ranges of numbers, so that workloads that share a store have items of their own.
type series uint64

const (
	putSeries series = iota << 56
	getSeries
	deleteSeries
	mixedSeries
	largeSeries
)

// of is the part of the series for one round and one number of connections: at most 2^32 items.
func (s series) of(round, connections int) series {
	return s + series(round)<<40 + series(connections)<<32
}

// stamp makes body that of the item with this number.
func stamp(body []byte, number uint64) { binary.LittleEndian.PutUint64(body[frame:], number) }

// itemName is the name of an item whose bytes nobody looks at. It looks like a digest, and names with following numbers
// are far from each other.
func itemName(i int) string { return fmt.Sprintf("%016x%048x", uint64(i)*0x9e3779b97f4a7c15, i) }

// nameCache computes names of items beforehand, as a client has them before it sends: the digests of their bytes.
// It keeps them, as every server gets the same items. It is safe for concurrent use.
type nameCache struct {
	mu    sync.Mutex
	known map[namesKey][]string // guarded by mu
}

type namesKey struct {
	hash   string
	size   int64
	series series
}

// of returns the names of the first n items of a series.
func (c *nameCache) of(ctx context.Context, hash string, size int64, of series, n int) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := namesKey{hash, size, of}
	have := c.known[key]
	if len(have) >= n {
		return have[:n], nil
	}
	algorithm, err := digest.Lookup(hash)
	if err != nil {
		return nil, err
	}
	all := append(have, make([]string, n-len(have))...)
	group, ctx := errgroup.WithContext(ctx)
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		group.Go(func() error {
			body := newBody(size)
			for i := len(have) + w; i < n && ctx.Err() == nil; i += workers {
				all[i] = nameOf(algorithm, body, uint64(of)+uint64(i))
			}
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if c.known == nil {
		c.known = make(map[namesKey][]string)
	}
	c.known[key] = all
	return all, nil
}

// nameOf stamps body and returns the name of the item that it then is.
func nameOf(algorithm digest.Algorithm, body []byte, number uint64) string {
	stamp(body, number)
	h := algorithm.New()
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}
