// Package profile lets a benchmark profile a Packhouse server while it is measured. The server writes the files (OnSignal); the
// benchmark starts and stops the profile with a signal (Begin and End):
//
//	SIGUSR1, the 1st   allocs-before.pprof, mutex-before.pprof: counters since the server's start; profiling begins
//	SIGUSR1, the 2nd   cpu.pprof, allocs.pprof, mutex.pprof
//
// and so on, alternately. The mutex profile is written last, and gets its name when it is complete: after it exists, all others do.
package profile

// The files that Begin and End wait for.
const (
	first = "mutex-before.pprof"
	last  = "mutex.pprof"
)
