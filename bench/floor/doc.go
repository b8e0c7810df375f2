// Package floor is a minimal HTTP server that stores items durably, with which other servers are compared on the same machine.
// It has no index and no permissions, so it cannot be used for backups. It processes each request sequentially: a server that
// starts writing a large item to disk before its end, uses a faster hash, or copies several packs in parallel can be faster.
//
//	PUT /log/NAME     reads the body, compares its SHA-256 with NAME, appends it to one file, and answers when one
//	                  fdatasync after that has returned; all waiting requests share it
//	PUT /files/NAME   writes a file and computes its SHA-256 meanwhile, then fdatasync, then fsync of the directory
//	GET /files/NAME   net/http's file handler, with ranges
//	GET /list/PREFIX  reads a bbolt file with a cursor, and writes a JSON array of names
//	POST /delete      appends the names, fdatasync as above, and later unlinks those that are files
//	POST /copy        reads ranges of a file and writes them to another, one after the other, with SHA-256 and
//	                  fdatasync, then unlinks the first
//
// The log is truncated at each start, so that it takes no more space than one measurement.
//
// Start reading at Server.
package floor
