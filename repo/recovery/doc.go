// Package recovery keeps copies of a repository's index, and makes an index anew when it is lost or damaged: from the newest copy that is
// whole and from the labels that blobs carry.
//
// It promises that a copy is whole or not there, and that a rebuild loses no acknowledged item: whatever was stored since the copy is
// in the blobs, and where two of them claim a key, the one that gives way can be restored. Until the last step of a rebuild, a rename,
// nothing of the old state has changed.
//
// It does not know how a repository is used: who may take a copy, when, and whether the index is sound (repo, compact/maintenance),
// nor who has it open otherwise than by the lock of its file.
//
// Start reading at Rebuild, then at rebuilder.run (reconcile.go); at Take for the copies.
package recovery
