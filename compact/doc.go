// Package compact rewrites items on the server. A client knows which byte ranges of which items are still in use; it sends a
// plan, and the server reads the ranges, writes the new items and deletes the old ones. Only the plan goes over the network.
//
// Guarantees:
//
//   - Everything in a plan is checked against the index before any item is read.
//   - Operations run in parallel, in memory that does not depend on the sizes of items.
//   - One index transaction makes all new items, all deletions and the result visible. Before it the repository is
//     unchanged; after it the result is durable.
//   - The result is stored under the digest of plan and principal. If the same plan is sent again (because its answer was
//     lost), it gets the same result, also after a restart and although the sources were deleted, as long as the
//     repository still matches the result. If the first run has not ended, the second request joins it.
//
// A source must not change while a plan reads it: the commit requires that each is the item that was read. Otherwise the plan
// fails with ErrConflict, and the error names the item.
//
// Not checked: if only a part of an item is read, its BLAKE3 checksum in the index cannot be verified. The clients' own
// authentication of their blobs and the scrub cover that.
//
// Gather reads ranges as plans name them, and makes nothing of them.
//
// Start reading at Engine.Run, and at carryOut (run.go) for the order of its steps.
package compact
