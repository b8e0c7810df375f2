// Package vykartest is a client of the V'Ger protocol for tests: it sends the requests that vykar 0.19.1 sends, in its
// order, and with format 1 those of V'Ger 0.7.1. What it stores is its own: no encryption, no compression, and an index that
// tests can read. It goes by what the real clients do, also where that is unwise:
//
//   - the index is loaded when a repository is opened, before the lock is taken, and not again under it;
//   - compact asks for batches of a plan, the packs with most dead bytes first, and stores the index for the
//     batches that were answered even after an error, but not at all when no entry moved;
//   - packs that are listed and not in the index are removed by operations that keep nothing;
//   - locks of dead processes of the same host are removed, and those older than six hours;
//   - each request is repeated five times after transport errors, 429 and 5xx.
//
// Requests that the real client sends in parallel are sent one after the other, so that a test can count them.
//
// A Client is one process. It gives its requests to an http.RoundTripper, in which a test can cut a connection
// anywhere: see Cutter. After ErrKilled nothing is repeated and nothing more is sent: the process is dead.
//
// Start reading at Client.
package vykartest
