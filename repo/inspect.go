package repo

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"packhouse/blobstore"
	"packhouse/blobstore/vfs"
)

// errDestroyed is the ErrNoRepository of a directory that has the rest of one.
var errDestroyed = fmt.Errorf("%w any more", ErrNoRepository)

// inspect tells what a directory holds: nil for a repository, ErrNoRepository
// when there is nothing (or only what an interrupted create left; errDestroyed: or destroy), ErrCorrupt when it has blobs
// or snapshots whose index is lost, else a ForeignError.
func (s *Set) inspect(dir string) error {
	entries, err := s.o.FS.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNoRepository
	}
	if err != nil {
		info, statErr := s.o.FS.Stat(dir)
		if statErr == nil && !info.IsDir() {
			return &ForeignError{"it is a file, not a directory"}
		}
		if errors.Is(err, fs.ErrPermission) {
			return unreadable(dir, err)
		}
		return fmt.Errorf("look into repository: %w", err)
	}
	var foreign []string
	destroyed, graves := false, false
	for _, entry := range entries {
		switch name := entry.Name(); {
		case name == IndexFile:
			return nil
		case name == destroyedFile:
			destroyed = true
		case name == graveDir:
			graves = true
		case !own(name):
			foreign = append(foreign, name)
		}
	}
	switch {
	case len(foreign) > 0:
		return &ForeignError{describe(foreign)}
	case destroyed:
		return errDestroyed
	}
	if err := s.inspectRest(dir); !graves || !errors.Is(err, ErrNoRepository) {
		return err
	}
	return errDestroyed
}

// rebuildCommand is what an administrator types for the repository in dir.
func (s *Set) rebuildCommand(dir string) string {
	if s.o.Single {
		return "packhouse repo rebuild"
	}
	return "packhouse repo rebuild " + filepath.Base(dir)
}

// inspectRest looks whether a directory without an index has something that a rebuild could make a repository
// of again: what create makes before the index is empty.
func (s *Set) inspectRest(dir string) error {
	folders := []string{snapshotDir}
	shards, err := s.o.FS.ReadDir(filepath.Join(dir, blobstore.BlobsDir))
	if ignoreMissing(err) != nil {
		return fmt.Errorf("look into repository: %w", err)
	}
	for _, shard := range shards {
		folders = append(folders, filepath.Join(blobstore.BlobsDir, shard.Name()))
	}
	for _, folder := range folders {
		entries, err := s.o.FS.ReadDir(filepath.Join(dir, folder))
		if ignoreMissing(err) != nil {
			return fmt.Errorf("look into repository: %w", err)
		}
		if len(entries) > 0 {
			return &messageError{"the repository's index is lost, but its blobs are not: stop the server and build a new one with " + s.rebuildCommand(dir), ErrCorrupt}
		}
	}
	return ErrNoRepository
}

// describe names what was found, and whose it probably is.
func describe(found []string) string {
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
	case has["quota.hid"], has["config"] && has["keys"] && (has["packs"] || has["data"] || has["archives"]):
		return list + ": this looks like a store that another server wrote; copy it over with a client instead"
	case has["config"] && has["snapshots"], has["config"] && has["index"]:
		return list + ": this looks like a repository of vger-server or vykar-server; copy it over with a client instead"
	}
	return list + "; choose an empty or a new directory"
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
		case name == destroyedFile:
			last = name
		case name == OwnDir, name == graveDir, name == "lost+found", !own(name):
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
