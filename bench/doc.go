// Package bench measures Packhouse from outside, over HTTP on loopback, beside servers of others and beside the floor: a bare
// server that does the least that must be done. `packhouse bench store` binds flags to it; nothing is asserted.
//
// # What there is
//
//	Workload   something to measure, a value: Puts, Gets, Deletes, Lists, Compactions, Mixed, Opens; suite.go lists them
//	Driver     a client of one wire dialect, one file each: borgstore.go, vger.go, restic.go, floor.go
//	Server     a program with its driver, in the file of its dialect; our own in packhouse.go
//	Bench      a run to be made: servers, workloads, rounds
//	Run        what it found, as a value; written as JSON, shown by package report
//
// A new dialect or peer is one file with a Driver, and a line in the table of peers.
//
// # How a figure comes about
//
// Workloads that need the same items share a store, one for each server. A round runs each workload on one server
// after the other, and begins with another server than the round before. For a sample the server is started anew, the file
// system is synced, connections are opened by requests that do not count, and then requests are sent for some time,
// each connection waiting for its answers. Large items that were stored are removed again, small ones stay until all rounds
// are over; the server is stopped: no server works while another one is measured. The load generator is this process, so that the processor time of both is known.
// A request that fails is counted apart and is in no other figure.
//
// It needs no rights but those to write in a directory, and Linux: it reads /proc.
//
// Start reading at Bench.Run, and at suite.go for what there is to be measured.
package bench
