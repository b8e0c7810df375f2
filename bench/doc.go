// Package bench measures Packhouse over HTTP on loopback, and compares it with other servers and with the floor, a minimal
// server. `packhouse bench store` binds flags to it. Nothing is asserted.
//
// # Types
//
//	Workload   something to measure, a value: Puts, Gets, Deletes, Lists, Compactions, Mixed, Opens; suite.go lists them
//	Driver     a client of one wire dialect, one file each: borgstore.go, vger.go, restic.go, floor.go
//	Server     a program with its driver, in the file of its dialect; our own in packhouse.go
//	Bench      the configuration of a run: servers, workloads, rounds
//	Run        the results, as a value; written as JSON, shown by package report
//
// A new dialect or peer is one file with a Driver, and a line in the table of peers.
//
// # How a figure is measured
//
// Workloads that need the same items share a store, one for each server. A round runs each workload on one server after the
// other, and begins with a different server than the round before. For a sample the server is started again, the file system
// is synced, connections are opened with requests that are not counted, and then requests are sent for some time, with
// one request at a time on each connection. Then large items that were stored are deleted (small ones stay until all rounds are
// over), and the server is stopped: while one server is measured, no other one works. The load generator is this
// process, so that the processor time of both is known. A failed request is counted separately and is in no other figure.
//
// It needs write permission in a directory, and Linux, because it reads /proc.
//
// Start reading at Bench.Run, and at suite.go for the list of workloads.
package bench
