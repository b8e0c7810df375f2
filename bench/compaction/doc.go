// Package compaction measures how fast packs are compacted: it makes packs, compacts them one way at a time, and
// returns figures; Compare prints those of all ways. `packhouse bench compact` runs it.
//
// Data is made from a seed. Files are dropped from the page cache before each measurement where the system
// lets us; figures of CPU time and memory are those of the process that does the work, so each way runs
// in a process of its own.
//
// Start reading at Workload.
package compaction
