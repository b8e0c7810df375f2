// Package holder settles which process opens what: a data directory is served by one
// process, a repository is open in one process, and every other process that wants it
// talks to that one over a Unix socket.
//
// What a holder keeps, below the directory it holds:
//
//	.packhouse/lock    locked exclusively for the life of the holder; the text is its process ID
//	.packhouse/socket  mode 0600: who may connect has every right
//	.packhouse/log     of a background holder, at most 2 MiB with log.1
//
// A server of a data directory holds the directory's lock, and an exclusive flock on the directory itself.
// The holder of a single repository holds that repository's lock, and a shared flock
// on the directory above, where a server may want to begin. Whoever begins takes its own lock
// first and looks at the other's second, so that of two that begin at once at least one sees the other.
// A server asks holders below to let go; a holder that finds a server above stands back.
//
// The locks end with the process, however it ends. A file system that cannot lock directories leaves
// the lock of each index, which is the last line in any case.
//
// Start reading at Find, which is how a process reaches a repository, and at Claim.
package holder
