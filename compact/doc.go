// Package compact rewrites items next to the data. A client knows which byte ranges of which
// items are alive; it sends a plan, and the server reads the ranges, writes
// the new items and deletes the old ones, without a byte crossing the network.
//
// What is guaranteed of a plan:
//
//   - Everything in it is checked against the index before a byte is read.
//   - Operations run in parallel, in memory that does not depend on the sizes of items.
//   - All new items, all deletions and the result become true in one index transaction.
//     Before it the repository is as it was; after it the result is not lost.
//   - The result is kept under the digest of plan and principal. The same plan sent again (its
//     answer was lost on the way) is given the same result, also after a restart and although the
//     sources are gone, as long as the repository still is what the result says. Sent
//     while the first run is under way, it joins that.
//
// A source must not change while a plan reads it: the commit requires each to be what was
// read, else the plan fails with ErrConflict and names what changed.
//
// What is not checked: of an item that is read in part only, the BLAKE3 that the index has cannot
// be compared. The clients' own authentication of their blobs and the scrub cover that.
//
// Gather reads ranges as plans name them, and makes nothing of them.
//
// Start reading at Engine.Run, and at carryOut (run.go) for the order of its steps.
package compact
