// Package profile is how a benchmark has a server of ours profile the time in which it is measured. The server writes the
// files (OnSignal), the benchmark says when (Begin and End); what they agree on is written here only:
//
//	SIGUSR1, the 1st   allocs-before.pprof, mutex-before.pprof: counters since the server's start; profiling begins
//	SIGUSR1, the 2nd   cpu.pprof, allocs.pprof, mutex.pprof
//
// and so on, in turns. The mutex profile is written last, and has its name when it is whole: who waits for it finds the others.
package profile

// The files that are waited for.
const (
	first = "mutex-before.pprof"
	last  = "mutex.pprof"
)
