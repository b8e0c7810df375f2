package repo

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"packhouse/blobstore"
	"packhouse/index"
)

// The files and directories of a repository, and of the data directory around it. docs/architecture.md shows them.
const (
	IndexFile     = "index.db"         // the link that gives it this name makes a directory a repository
	lostFile      = "index.db.lost"    // the index that a rebuild replaced
	rebuiltFile   = "index.db.rebuilt" // the index that a rebuild makes, until it takes the name of the index
	destroyedFile = "index.destroyed"  // the index of a repository whose removal has begun
	snapshotDir   = "snapshots"        // compressed copies of the index
	graveDir      = ".destroyed"       // what was moved out of the way of a new repository: a directory for each that was destroyed
	OwnDir        = ".packhouse"       // lock, socket, token and identity of a server; not part of a repository

	// JobsFolder has the plans of queued jobs.
	JobsFolder Folder = "jobs"
)

// own tells whether a name in a directory may be one of ours, or is in nobody's way.
func own(name string) bool {
	switch name {
	case blobstore.BlobsDir, blobstore.IncomingDir, index.LogDir, snapshotDir, string(JobsFolder), destroyedFile, graveDir, OwnDir, "lost+found":
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

// MayBecome tells whether a directory is a repository, or has nothing in it that keeps one from being made there.
func MayBecome(dir string) bool {
	if HasIndex(dir) {
		return true
	}
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	names, err := f.Readdirnames(10) // ours are fewer; another's may be a million
	if err != nil && !errors.Is(err, io.EOF) {
		return false
	}
	return !slices.ContainsFunc(names, func(name string) bool { return !own(name) })
}

// CheckApart returns an ErrInvalid for a directory that lies inside a repository, or inside what a server keeps: a client that
// chooses its directory must not make one among another's files. dir is absolute, without symbolic links.
func CheckApart(dir string) error {
	for at := dir; ; at = filepath.Dir(at) {
		if filepath.Base(at) == OwnDir {
			return invalid("a directory below %s is packhouse's own; choose another", OwnDir)
		}
		if at == filepath.Dir(at) {
			return nil
		}
		if at != dir && HasIndex(at) && HasBlobs(at) {
			return invalid("the directory lies inside a repository; choose one beside it")
		}
	}
}

// LostIndexes are the names of repositories in a data directory whose index is gone, while some of what they stored is there.
// names: look at these alone; none: at all.
func LostIndexes(data string, names ...string) []string {
	entries, err := os.ReadDir(data)
	if err != nil {
		return nil // who lists repositories fails as well, and says why
	}
	var lost []string
	for _, entry := range entries {
		name, dir := entry.Name(), filepath.Join(data, entry.Name())
		if CheckName(name) != nil || len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		if absent(dir, IndexFile) && absent(dir, destroyedFile) && anyBlob(dir) {
			lost = append(lost, name)
		}
	}
	return lost
}

func absent(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return errors.Is(err, fs.ErrNotExist)
}

// anyBlob tells whether anything is stored below a repository's directory.
func anyBlob(dir string) bool {
	shards, err := os.ReadDir(filepath.Join(dir, blobstore.BlobsDir))
	if err != nil {
		return false
	}
	for _, shard := range shards {
		f, err := os.Open(filepath.Join(dir, blobstore.BlobsDir, shard.Name()))
		if err != nil {
			continue
		}
		names, _ := f.Readdirnames(1) // an error leaves it empty
		_ = f.Close()
		if len(names) > 0 {
			return true
		}
	}
	return false
}
