// Package recovery writes copies of a repository's index, and rebuilds an index that is lost or damaged from the newest undamaged copy
// and the labels of the blobs.
//
// It promises that a copy is complete or does not exist, and that a rebuild loses no acknowledged item: everything that was stored
// since the copy is found in the blobs, and if two blobs have the same key, the one that is superseded can be restored. Until the last
// step of a rebuild, a rename, the old state is unchanged.
//
// It does not know how a repository is used: who may write a copy and when, and whether the index is undamaged (repo,
// compact/maintenance), nor whether another process has it open, except by the lock of its file.
//
// Start reading at Rebuild, then at rebuilder.run (reconcile.go); at Take for the copies.
package recovery
