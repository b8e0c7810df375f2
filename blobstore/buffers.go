package blobstore

import (
	"math/bits"
	"sync"

	"packhouse/journal"
)

// A buffer is memory that blobs of the log are read into, one after the other. Else each read would leave the garbage collector
// many times as much as all the rest of a request.
type buffer struct {
	bytes []byte
	class int
}

// Buffers are for blobs of at most a power of two of bytes, the powers between these.
const (
	minBuffer = 1 << 10
	maxBuffer = 128 << 10
)

// buffers are those that nobody uses, by class.
var buffers [8]sync.Pool

// bufferClass is the smallest whose buffers take a blob of so many bytes.
func bufferClass(size int64) int { return bits.Len64(uint64(max(size, minBuffer)-1) / minBuffer) }

// takeBuffer returns a buffer for a blob of so many bytes, nil if it is too large for one.
func takeBuffer(size int64) *buffer {
	if size > maxBuffer {
		return nil
	}
	class := bufferClass(size)
	if b, ok := buffers[class].Get().(*buffer); ok {
		return b
	}
	return &buffer{make([]byte, journal.BufferSize(minBuffer<<class)), class}
}

// give lets the next blob have the buffer. Nobody may use its bytes any more.
func (b *buffer) give() { buffers[b.class].Put(b) }
