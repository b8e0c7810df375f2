// Package holder decides which process opens a directory: a data directory is served by one process, a repository is open
// in one process, the holder, and every other process that needs it sends requests to the holder over a Unix socket.
//
// Files of the holder, in the directory that it holds:
//
//	.packhouse/lock    locked exclusively while the holder runs; its text is the process ID
//	.packhouse/socket  mode 0600: a process that can connect has every permission
//	.packhouse/log     of a background holder, at most 2 MiB with log.1
//
// A server of a data directory holds the lock of that directory, and an exclusive flock on the directory itself. The holder of
// a single repository holds the lock of that repository, and a shared flock on the directory above it, where a server may
// start. Each process takes its own lock first and checks the other one second, so that of two processes that start at the same
// time at least one sees the other. A server asks the holders of its repositories to end; a holder that sees a server above ends.
//
// The kernel releases the locks when the process ends. On a file system that cannot lock directories, only the lock of each
// index remains, which always prevents that two processes open the same repository.
//
// Start reading at Find, by which a process reaches a repository, and at Claim.
package holder
