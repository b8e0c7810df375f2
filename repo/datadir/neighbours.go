package datadir

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"packhouse/blobstore"
	"packhouse/repo"
	"packhouse/repo/layout"
)

// MayBecome reports whether a directory is a repository, or contains nothing that prevents one from being created in it.
func MayBecome(dir string) bool {
	if layout.HasIndex(dir) {
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
	return !slices.ContainsFunc(names, func(name string) bool { return !layout.Own(name) })
}

// CheckApart returns a repo.ErrInvalid for a directory inside a repository, or inside a directory of the server: a client that chooses
// its directory must not create one among other files. dir is absolute, without symbolic links.
func CheckApart(dir string) error {
	for at := dir; ; at = filepath.Dir(at) {
		if filepath.Base(at) == layout.OwnDir {
			return repo.Errorf(repo.ErrInvalid, "a directory below %s is packhouse's own; choose another", layout.OwnDir)
		}
		if at == filepath.Dir(at) {
			return nil
		}
		if at != dir && layout.HasIndex(at) && layout.HasBlobs(at) {
			return repo.Errorf(repo.ErrInvalid, "the directory is inside a repository; choose one outside of it")
		}
	}
}

// LostIndexes returns the names of repositories in a data directory whose index is missing although other files of them exist. names:
// check only these; none: check all.
func LostIndexes(data string, names ...string) []string {
	entries, err := os.ReadDir(data)
	if err != nil {
		return nil // who lists repositories fails as well, and says why
	}
	var lost []string
	for _, entry := range entries {
		name, ok := NameOf(entry.Name())
		dir := filepath.Join(data, entry.Name())
		if !ok || len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		if absent(dir, layout.IndexFile) && absent(dir, layout.DestroyedFile) && absent(dir, layout.AdoptingFile) && anyBlob(dir) {
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
