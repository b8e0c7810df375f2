package index

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// The file is read through a memory mapping. A page that is not in memory is read from the disk when it is touched, and a goroutine that
// waits for that keeps its processor, and holds up the garbage collector, which waits for all: reads from a slow disk would delay
// everybody, and one from a disk that does not answer would stop the process. Therefore pages are asked for by a system call before
// they are touched: while that waits, others go on. It costs about as much as a page has rows, so it is done for several pages at once, and
// not again for a while. What the kernel takes out of memory meanwhile is read when it is touched.

const (
	windowPages = 16
	// residentFor is how long pages that were in memory are taken to be there still.
	residentFor = 10 * time.Second
)

// residence is what is known to be in memory of a mapping. It is safe for concurrent use.
type residence struct {
	data     []byte // the mapping
	pageSize int
	windows  []atomic.Uint32 // a bit for each window of pages that was in memory since the time below
	began    time.Time
	since    atomic.Int64 // nanoseconds from began
}

func newResidence(data []byte, pageSize int) *residence {
	windows := len(data)/(pageSize*windowPages) + 1
	return &residence{data: data, pageSize: pageSize, windows: make([]atomic.Uint32, windows/32+1), began: time.Now()}
}

// renew forgets what has become old.
func (r *residence) renew() {
	now := int64(time.Since(r.began))
	if since := r.since.Load(); now-since >= int64(residentFor) && r.since.CompareAndSwap(since, now) {
		for i := range r.windows {
			r.windows[i].Store(0)
		}
	}
}

// load brings pages into memory, from the first to the last.
func (r *residence) load(first, last uint64) {
	for w := first / windowPages; w <= last/windowPages; w++ {
		word, bit := &r.windows[w/32], uint32(1)<<(w%32)
		if word.Load()&bit != 0 {
			continue
		}
		from := int(w) * windowPages * r.pageSize
		to := min(from+windowPages*r.pageSize, len(r.data))
		// Who touches a page that could not be read gets the error. Kernels before Linux 5.14 do not know the call.
		_ = unix.Madvise(r.data[from:to], unix.MADV_POPULATE_READ)
		word.Or(bit)
	}
}
