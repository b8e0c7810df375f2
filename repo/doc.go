// Package repo combines index and blob store to a Repository: one client's independent set of items, with its own limits and policy.
// It stores items, locks, records of jobs, and removed items that can be restored, and counts the quota and disk space that they use.
//
// It promises that what it has acknowledged survives a crash. Only this package determines the order of a change: first the bytes
// (durable in the blob store, under an ID to which nothing refers), then the index (one transaction, which is the commit point),
// last the unlink (by the reclaimer, after the grace time of what was removed). A crash between the first two leaves a blob that
// Sweep removes at the next start; a crash between the last two leaves a trash row whose blob is unlinked again.
//
// The package also decides what a client may do: Access checks the permissions of its Principal (package policy has the tables) on
// keys that have exactly one spelling, and returns a DeniedError (denied.go) if they do not grant it.
//
// It does not know protocols, nor which repositories exist and when one is opened (repo/datadir), nor how an index is rebuilt
// (repo/recovery), nor how files are named (repo/layout).
//
// Start reading at Access.Put, and at Batch (commit.go) for the order of a commit.
package repo
