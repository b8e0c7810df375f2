// Package borgstore is the BorgStore REST dialect: the protocol of borgstore's clients and BorgBackup 2, over TCP, Unix
// sockets and stdio.
//
// It translates requests and makes no decisions of its own: names are checked by the protocol's rules and normalized, requests
// become calls of repo.Access and compact.Engine, and one table maps errors to statuses. Deliberate differences from the
// reference server:
//
//   - Any number of requests run at once, and errors leave the connection open and usable. Bodies of errors are plain text.
//   - Storing an item checks name, permission and quota before the body is read. A chunked body is stored as a whole, a
//     truncated one not at all. HTTP/1.0 has no chunks, so storing needs a Content-Length (411).
//   - If an operation needs an object and the name is a directory, or the reverse, the answer is 400 and says so. Directories
//     cannot be moved.
//   - A range suffix longer than the object is the whole object; an end before the start is 400 (except the empty range); a
//     last byte beyond 2^63 means the end of the object.
//   - defrag only needs the permission to write the new object: w is enough if nothing is replaced.
//   - Storing the same bytes again succeeds without the permission to overwrite.
//   - "." and empty components of names are removed before any check.
//   - atime and mtime are both the time when the bytes were stored; reads write nothing.
//   - hash and defrag offer the hashes of package digest except V'Ger's blake2b-256.
//
// Start reading at Dialect.Serve.
package borgstore
