package bench

import (
	"context"
	"fmt"
	"time"
)

// Workload is a load with which servers are measured. The standard ones are in suite.go; a program can create others.
type Workload interface {
	// About describes it.
	About() About
	// Prepare fills a store, whose server runs, once for each server before its first sample.
	Prepare(ctx context.Context, s *Store) error
	// Sample does the work once and measures it, on a server that was just started.
	Sample(ctx context.Context, s *Store, round int) (Sample, error)
}

// About is the description of a workload: its name, the texts for a WorkloadRun, and what a run needs to know.
type About struct {
	Name, Kind, Title string
	// Store names the store that it shares with other workloads, which follow each other in a run.
	Store       string
	Size        int64 // bytes of an item
	Connections int
	Items       int // in the store beforehand, without bytes; all workloads of a store have the same
	TLS         bool
	Measure     Measure
	Curve       string
	Cache       string
	Floor       string
	// SnapshotEvery is the time between two snapshots of the index, where the server makes some.
	SnapshotEvery time.Duration
	// Cold starts the server for the first time in Sample, which stops it itself.
	Cold      bool
	Disk      int64 // bytes of what Prepare leaves in the store, at most
	DiskRound int64 // bytes of what a sample stores, at most
	Stays     bool  // what samples stored stays until the store is removed
	// OwnOnly leaves out peers but in a long run.
	OwnOnly bool
}

const (
	warm = "warm: what is read was written shortly before"
	cold = "cold: large files were dropped from the page cache before, as far as the system did"
)

// storeName is the store of workloads that only need items of a size, or many of whatever size.
func storeName(size int64, items int) string {
	if items > 0 {
		return "items-" + countName(items)
	}
	return "size-" + sizeName(size)
}

// sizeName is a size as in names of workloads: 200, 8k, 32m.
func sizeName(n int64) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%dm", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%dk", n>>10)
	default:
		return fmt.Sprint(n)
	}
}

// countName is a number of items as in names of workloads: 1000, 100k, 1m.
func countName(n int) string {
	switch {
	case n >= 1_000_000 && n%1_000_000 == 0:
		return fmt.Sprintf("%dm", n/1_000_000)
	case n >= 10_000 && n%1000 == 0:
		return fmt.Sprintf("%dk", n/1000)
	default:
		return fmt.Sprint(n)
	}
}

// rateMeasure is the figure of requests of that size: how many, or of large ones how many bytes.
func rateMeasure(size int64) Measure {
	if size >= 1<<20 {
		return Throughput
	}
	return Rate
}
