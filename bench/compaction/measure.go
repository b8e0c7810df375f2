package compaction

import (
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	_ "packhouse/internal/platform" // Linux only
)

// dropCache asks the system to forget a file's pages, so that they are read from the disk again.
func dropCache(path string) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	_ = unix.Fsync(int(f.Fd()))
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) // a wish; figures are then of a warm cache
}

// cpuSeconds is the processor time of this process so far.
func cpuSeconds() float64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	seconds := func(t unix.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(u.Utime) + seconds(u.Stime)
}

// resetPeak makes peakMemory count from now.
func resetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

// memory returns the resident memory of this process now, and at most since resetPeak, in bytes.
func memory() (now, peak int64) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, 0
	}
	field := func(name string) int64 {
		_, rest, ok := bytes.Cut(text, []byte(name+":"))
		if !ok {
			return 0
		}
		words := bytes.Fields(rest)
		n, err := strconv.ParseInt(string(words[0]), 10, 64)
		if err != nil {
			return 0
		}
		return n << 10
	}
	return field("VmRSS"), field("VmHWM")
}
