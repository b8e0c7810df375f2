// Package borgstore is the BorgStore REST dialect: what borgstore's clients and BorgBackup 2
// speak, over TCP, Unix sockets and stdio.
//
// It translates and decides nothing: names are checked by the protocol's rules and brought
// to their one spelling, requests become calls on repo.Access and compact.Engine, errors become the
// statuses of one table. Where it differs from the reference server it is on purpose:
//
//   - Any number of requests run at once, and errors leave the connection open and in step. Bodies of
//     errors are plain text.
//   - A store checks name, permission and quota before it reads the body. Chunked bodies are stored
//     whole, truncated ones not at all; by HTTP/1.0, which has no chunks, a store needs its length (411).
//   - What needs an object and meets a directory, or the other way round, is a 400 that says so. Directories
//     cannot be moved.
//   - A range suffix longer than the object is the whole object; an end before the
//     start (but for the empty range) is a 400; a last byte beyond 2^63 is the end of the object.
//   - defrag needs the right to write the new object and no more: w where nothing is replaced.
//   - Storing again what is there already succeeds without the right to replace it.
//   - "." and empty components of names are dropped before anything looks at them.
//   - atime is when the bytes were stored, and so is mtime; reads write nothing.
//   - hash and defrag offer the hashes of package digest except V'Ger's blake2b-256.
//
// Start reading at Dialect.Serve.
package borgstore
