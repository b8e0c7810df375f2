package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"packhouse/blobstore"
	"packhouse/blobstore/vfs"
	"packhouse/internal/shell"
	"packhouse/repo"
	"packhouse/repo/adopt"
	"packhouse/repo/layout"
)

// errDestroyed is the repo.ErrNoRepository of a directory that has the rest of one.
var errDestroyed = fmt.Errorf("%w any more", repo.ErrNoRepository)

// errRestoring is the repo.ErrNoRepository of a directory in which one is being put back.
var errRestoring = fmt.Errorf("%w yet", repo.ErrNoRepository)

// ErrAdopting is of a directory in which a repository is being made from the directory of another server, or from a backup: it is not whole.
var ErrAdopting = fmt.Errorf("%w: the repository is being adopted or restored; packhouse adopt, or packhouse repo restore, completes it, and packhouse adopt gives it up with --abandon", repo.ErrBusy)

// HasRest tells of an error of Inspect that the directory has the rest of a repository.
func HasRest(err error) bool { return errors.Is(err, errDestroyed) }

// Inspect tells what the directory of a single repository holds, without opening or changing anything: nil for a repository,
// repo.ErrNoRepository itself for nothing, a *repo.ForeignError for something else; other errors where there is the rest of a
// repository, or nobody can tell.
func Inspect(dir string) error {
	s := &Set{o: Options{Environment: repo.Environment{FS: vfs.OS()}, Single: true}}
	err := s.inspect(dir)
	if errors.Is(err, repo.ErrNoRepository) && layout.HasBlobs(dir) {
		return errDestroyed // or it was not created whole
	}
	return err
}

// inspect tells what a directory holds: nil for a repository, repo.ErrNoRepository
// when there is nothing (or only what an interrupted create left; errDestroyed: or destroy), ErrAdopting, repo.ErrCorrupt when it has blobs
// or snapshots whose index is lost, else a repo.ForeignError.
func (s *Set) inspect(dir string) error {
	entries, err := s.o.FS.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return repo.ErrNoRepository
	}
	if err != nil {
		info, statErr := s.o.FS.Stat(dir)
		if statErr == nil && !info.IsDir() {
			return &repo.ForeignError{Found: "it is a file, not a directory"}
		}
		if errors.Is(err, fs.ErrPermission) {
			return repo.Unreadable(dir, err)
		}
		return fmt.Errorf("look into repository: %w", err)
	}
	var foreign []string
	destroyed, graves, restoring, adopting, there := false, false, false, false, false
	for _, entry := range entries {
		switch name := entry.Name(); {
		case name == layout.IndexFile:
			there = true
		case name == layout.DestroyedFile:
			destroyed = true
		case name == layout.GraveDir:
			graves = true
		case name == layout.RestoringFile:
			restoring = true
		case name == layout.AdoptingFile:
			adopting = true
		case !layout.Own(name):
			foreign = append(foreign, name)
		}
	}
	switch {
	case restoring && !destroyed:
		return errRestoring // also with an index, which is the last that is moved
	case there:
		return nil
	case len(foreign) > 0:
		return &repo.ForeignError{Found: describe(foreign, adopt.Recognize(s.o.FS, dir))}
	case adopting:
		return ErrAdopting
	case destroyed:
		return errDestroyed
	}
	if err := s.inspectRest(dir); !graves || !errors.Is(err, repo.ErrNoRepository) {
		return err
	}
	return errDestroyed
}

// rebuildCommand is what an administrator types for the repository in dir.
func (s *Set) rebuildCommand(dir string) string {
	if s.o.Single {
		return "packhouse repo rebuild"
	}
	return "packhouse repo rebuild " + shell.Word(layout.NameIn(dir))
}

// inspectRest looks whether a directory without an index has something that a rebuild could make a repository
// of again: what create makes before the index is empty.
func (s *Set) inspectRest(dir string) error {
	folders := []string{layout.SnapshotDir}
	shards, err := s.o.FS.ReadDir(filepath.Join(dir, blobstore.BlobsDir))
	if layout.IgnoreMissing(err) != nil {
		return fmt.Errorf("look into repository: %w", err)
	}
	for _, shard := range shards {
		folders = append(folders, filepath.Join(blobstore.BlobsDir, shard.Name()))
	}
	for _, folder := range folders {
		entries, err := s.o.FS.ReadDir(filepath.Join(dir, folder))
		if layout.IgnoreMissing(err) != nil {
			return fmt.Errorf("look into repository: %w", err)
		}
		if len(entries) > 0 {
			return repo.Errorf(repo.ErrCorrupt, "the repository's index is lost, but its blobs are not: stop the server and build a new one with %s", s.rebuildCommand(dir))
		}
	}
	return repo.ErrNoRepository
}

// describe names what was found, and whose it probably is: layout is that of another server, as far as it is recognized.
func describe(found []string, layout string) string {
	has := make(map[string]bool)
	for _, name := range found {
		has[name] = true
	}
	shown := found
	if len(shown) > 5 {
		shown = append(shown[:5:5], "…")
	}
	list := "found " + strings.Join(shown, ", ")
	switch {
	case layout == adopt.LayoutRestic:
		return list + ": this looks like a repository of rest-server or of restic itself: packhouse adopt makes a repository of it without copying"
	case layout == adopt.LayoutBorgStore, has["quota.hid"], has["config"] && has["keys"] && (has["packs"] || has["data"] || has["archives"]):
		return list + ": this looks like a store of BorgStore's file backend: packhouse adopt makes a repository of it without copying"
	case layout != "", has["config"] && has["snapshots"], has["config"] && has["index"]:
		return list + ": this looks like a repository of vger-server or vykar-server: packhouse adopt makes a repository of it without copying"
	}
	return list + "; choose an empty or a new directory"
}

// staysInPlace tells of an entry that is not part of a repository, although it is in its directory.
func staysInPlace(name string) bool {
	switch name {
	case layout.OwnDir, layout.GraveDir, layout.RemovedDir, "lost+found":
		return true
	}
	return !layout.Own(name)
}

// finishDestroy removes what is left of a repository that has no index any more, but the graves.
func finishDestroy(fsys vfs.FS, dir string) error {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return err
	}
	last := ""
	for _, entry := range entries {
		switch name := entry.Name(); {
		case name == layout.DestroyedFile:
			last = name
		case staysInPlace(name):
		default:
			if err := fsys.RemoveAll(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	if last != "" {
		// The mark goes when the rest is gone for good: without it blobs are those of a lost index.
		if err := fsys.SyncDir(dir); err != nil {
			return err
		}
		if err := fsys.Remove(filepath.Join(dir, last)); err != nil {
			return err
		}
	}
	return fsys.SyncDir(dir)
}
