// Package vykartest is a client of the V'Ger protocol for tests. It sends the requests of vykar 0.19.1 in their order, and with
// format 1 those of V'Ger 0.7.1. What it stores is its own: no encryption, no compression, and an index that tests can read. It
// behaves as the real clients do, also where that is risky:
//
//   - the index is loaded when a repository is opened, before the lock is taken, and not loaded again while the lock is held;
//   - compact sends plans in batches, the packs with the most unused bytes first; after an error it still stores the index for
//     the batches that were answered, but stores none if no entry has moved;
//   - packs that are listed but not in the index are removed by operations that keep nothing;
//   - locks of dead processes of the same host are removed, and locks older than six hours;
//   - each request is retried five times after transport errors, 429 and 5xx.
//
// Requests that the real client sends in parallel are sent one after the other, so that a test can count them.
//
// A Client is one process. It sends its requests through an http.RoundTripper, in which a test can cut a connection at any point:
// see Cutter. After ErrKilled nothing is retried and nothing more is sent, because the process is dead.
//
// Start reading at Client.
package vykartest
