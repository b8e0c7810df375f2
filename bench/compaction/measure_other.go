//go:build !linux

package compaction

func dropCache(string) {}

func cpuSeconds() float64 { return 0 }

func resetPeak() {}

func memory() (now, peak int64) { return 0, 0 }
