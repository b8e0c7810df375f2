// Package floor is the least that a server of durable items must do, as a bare HTTP server, beside which the others are
// measured on the same machine. It keeps no index and no permissions, and what it stored is of no use; nobody stores
// backups on it. Of one request it does one thing after the other: a server that has the disk begin to write a large item
// before its end, uses a quicker hash or copies several packs at a time can do better.
//
//	PUT /log/NAME     reads the body, compares its SHA-256 with NAME, appends it to one file, and answers when one
//	                  fdatasync after that has returned; all who wait share it
//	PUT /files/NAME   writes a file and computes its SHA-256 meanwhile, then fdatasync, then sync of the directory
//	GET /files/NAME   net/http's file handler, with ranges
//	GET /list/PREFIX  a cursor over a bbolt file, written as a JSON array of names
//	POST /delete      appends the names, fdatasync as above, and unlinks those that are files later
//	POST /copy        reads ranges of a file and writes them to another, one after the other, with SHA-256 and
//	                  fdatasync, then unlinks the first
//
// The log begins anew with each start, so that it takes no more space than one measurement.
//
// Start reading at Server.
package floor
