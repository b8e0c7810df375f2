package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"packhouse/api/holder"
	"packhouse/repo"
)

// lookAround refuses a data directory that is one repository or in one, and warns of what is not a repository at all.
func lookAround(dir string, log *slog.Logger) error {
	if err := checkApart(dir); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	for _, entry := range entries {
		if entry.Name() == indexName {
			return fmt.Errorf("%s is one repository, not a data directory; serve the directory above it (%s), or use packhouse %s --backend FILE:%s",
				dir, filepath.Dir(dir), restName, dir)
		}
	}
	for _, entry := range entries {
		name := entry.Name()
		if name == holder.OwnDir || repo.CheckName(name) == nil && entry.IsDir() && mayBeRepository(filepath.Join(dir, name)) {
			continue
		}
		log.Warn("ignoring an entry of the data directory that is not a repository", "name", name)
	}
	return nil
}

// mayBeRepository tells whether a directory is a repository of ours, or empty and may become one.
func mayBeRepository(dir string) bool {
	if _, err := os.Stat(filepath.Join(dir, indexName)); err == nil {
		return true
	}
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	names, err := f.Readdirnames(8) // ours are fewer; another's may be a million
	if err != nil && !errors.Is(err, io.EOF) {
		return false
	}
	for _, name := range names {
		switch name {
		case holder.OwnDir, "blobs", "incoming", "snapshots", string(repo.JobsFolder), "lost+found", "index.destroyed", ".destroyed":
		default:
			if !strings.HasPrefix(name, indexName+".") {
				return false
			}
		}
	}
	return true
}

// checkApart refuses a directory that lies inside a repository, or inside what a holder keeps: a client that chooses
// its directory must not build one into another's files.
func checkApart(dir string) error {
	for at := dir; ; at = filepath.Dir(at) {
		if filepath.Base(at) == holder.OwnDir {
			return fmt.Errorf("a directory below %s is packhouse's own; choose another", holder.OwnDir)
		}
		if at == filepath.Dir(at) {
			return nil
		}
		if at != dir && isRepository(at) {
			return errors.New("the directory lies inside a repository; choose one beside it")
		}
	}
}

// isRepository tells whether a directory has what every repository has.
func isRepository(dir string) bool {
	index, indexErr := os.Stat(filepath.Join(dir, indexName))
	blobs, blobsErr := os.Stat(filepath.Join(dir, "blobs"))
	return indexErr == nil && index.Mode().IsRegular() && blobsErr == nil && blobs.IsDir()
}

// indexName is the file that makes a directory a repository.
const indexName = "index.db"

// resolve makes a path absolute and follows its symbolic links, as far as it exists.
func resolve(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, os.ErrNotExist) && filepath.Dir(path) != path {
		// A link that leads nowhere now may lead anywhere later, past what was checked of the path.
		if _, linkErr := os.Lstat(path); linkErr == nil {
			return "", fmt.Errorf("%s is a symbolic link to nothing", filepath.Base(path))
		}
		above, err := resolve(filepath.Dir(path))
		return filepath.Join(above, filepath.Base(path)), err
	}
	return real, err
}
