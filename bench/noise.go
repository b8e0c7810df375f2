package bench

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
)

// noise is size bytes that do not compress and depend on seed alone.
func noise(seed uint64, size int64) []byte {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	body := make([]byte, size)
	_, _ = rand.NewChaCha8(key).Read(body) // never fails
	return body
}

// newNoise is a reader of size bytes: one block of noise again and again, each time with its number in
// front, so that making the bytes costs next to nothing beside sending them.
func newNoise(seed uint64, size int64) io.Reader {
	return io.LimitReader(&repeated{block: noise(seed, 1<<20)}, size)
}

type repeated struct {
	block []byte
	at    int
	round uint64
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.at == 0 {
		binary.LittleEndian.PutUint64(r.block, r.round)
	}
	n := copy(p, r.block[r.at:])
	if r.at += n; r.at == len(r.block) {
		r.at = 0
		r.round++
	}
	return n, nil
}
