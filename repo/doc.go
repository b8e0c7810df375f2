// Package repo is where index and blob store meet: a Repository is one client's independent set of items, with its own limits and
// policy. It keeps items, locks, jobs' records and what was removed and can be restored, and counts what they take of quota and disk.
//
// It promises that what it has acknowledged survives a crash. The order of every change is written here and nowhere else: bytes first
// (durable in the blob store, under an ID that nothing refers to), index second (one
// transaction that is the commit point), unlink last (by the reclaimer, when the
// grace time of what was removed is over). A crash between the first two leaves a blob that
// Sweep removes at the next start; a crash between the last two leaves a trash row whose
// blob is unlinked again. What a client may do is decided here too: Access checks the permissions
// of its Principal on keys that have exactly one spelling.
//
// It does not know protocols, nor which repositories there are and when one is opened (repo/datadir), nor how an index is made anew
// (repo/recovery), nor how its files are named (repo/layout).
//
// Start reading at Access.Put, and at Batch (commit.go) for the order of a commit.
package repo
