// Package repo is where index and blob store meet: a Repository is one client's
// independent set of items, with its own limits and policy; a Set is the
// repositories of one data directory.
//
// The order of every change is written here and nowhere else: bytes first
// (durable in the blob store, under an ID that nothing refers to), index second (one
// transaction that is the commit point), unlink last (by the reclaimer, when the
// grace time of what was removed is over). A crash between the first two leaves a blob that
// Sweep removes at the next start; a crash between the last two leaves a trash row whose
// blob is unlinked again.
//
// What a client may do is decided here too: Access checks the permissions
// of its Principal on keys that have exactly one spelling.
//
// Start reading at Access.Put, and at Batch (commit.go) for the order of a commit.
package repo
