// Package bench measures a server that speaks the BorgStore protocol from outside: each workload is a Config
// with a Run, `packhouse bench store` binds flags to them. The same workload runs against Packhouse and against
// a peer, one after the other on the same machine and file system, so that their ratio says something.
//
// Results are printed in the form of Go's benchmarks, with key=value names, so that benchstat reads them.
// Nothing is asserted.
package bench
