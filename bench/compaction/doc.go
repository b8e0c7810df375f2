// Package compaction measures how fast packs are compacted: it creates packs, compacts them in one of several ways, and returns
// figures; Compare runs all ways and prints their figures. `packhouse bench compact` calls it.
//
// Data is generated from a seed. Files are dropped from the page cache before each measurement, as far as the system permits it.
// Figures of CPU time and memory are those of the process that does the work, so each way runs in its own process.
//
// Start reading at Workload.
package compaction
