// Package layout defines the layout of a repository on disk: the names of its files and directories and of those around it in the
// data directory, the values that every index begins with, and the label of a blob. As these are defined only here, one part of the
// server finds what another one writes. The package does not know the order in which files are written, locks, or what clients may
// do. Start reading at the constants below; docs/architecture.md shows them as a tree.
package layout

import (
	"os"
	"path/filepath"
	"strings"

	"packhouse/blobstore"
	"packhouse/index"
)

// The files and directories of a repository, and of the data directory around it.
const (
	IndexFile     = "index.db"          // the link that gives it this name makes a directory a repository
	LostFile      = "index.db.lost"     // the index that a rebuild replaced
	RebuiltFile   = "index.db.rebuilt"  // the index that a rebuild makes, until it takes the name of the index
	DestroyedFile = "index.destroyed"   // the index of a repository whose removal has begun
	SnapshotDir   = "snapshots"         // compressed copies of the index
	GraveDir      = ".destroyed"        // what was moved out of the way of a new repository: a directory for each that was destroyed
	RemovedDir    = ".removed"          // repositories that were destroyed and can be restored: a directory for each
	RemovedFile   = "index.db.removed"  // says of a repository whose removal has begun that it can be restored; and, in RemovedDir, what it was
	RestoringFile = "index.db.restore"  // names the one of RemovedDir that is being put back
	AdoptedDir    = "adopted"           // which files of another server's directory became which blobs
	AdoptingFile  = "index.db.adopting" // there while a repository is being made from a directory of another server
	OwnDir        = ".packhouse"        // lock, socket, token and identity of a server; not part of a repository
	KnownDir      = "known"             // in OwnDir: an empty file for each repository that there is, of the name of its directory
	JobsDir       = "jobs"              // plans of queued jobs

	LostSuffix = ".lost" // of the second name of a damaged file of the log, from which an index was rebuilt
)

// Own tells whether a name in a directory may be one of ours, or is in nobody's way.
func Own(name string) bool {
	switch name {
	case blobstore.BlobsDir, blobstore.IncomingDir, index.LogDir, SnapshotDir, JobsDir, AdoptedDir, DestroyedFile, GraveDir, RemovedDir, OwnDir, "lost+found":
		return true
	}
	return strings.HasPrefix(name, IndexFile+".")
}

// HasIndex tells whether a directory is a repository: whether there is an index in it.
func HasIndex(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, IndexFile))
	return err == nil
}

// HasBlobs tells whether a directory was made for blobs, with or without an index beside them.
func HasBlobs(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, blobstore.BlobsDir))
	return err == nil && info.IsDir()
}

// ServerDir is the directory that a server has for itself in a directory that it holds.
func ServerDir(dir string) string { return filepath.Join(dir, OwnDir) }
