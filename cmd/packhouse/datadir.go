package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"packhouse/repo/datadir"
	"packhouse/repo/layout"
)

// lookAround refuses a data directory that is one repository or in one, and warns of what is not a repository at all.
func lookAround(dir string, log *slog.Logger) error {
	if err := datadir.CheckApart(dir); err != nil {
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
		if entry.Name() == layout.IndexFile {
			return fmt.Errorf("%s is one repository, not a data directory; serve the directory above it (%s), or use packhouse %s --backend FILE:%s",
				dir, filepath.Dir(dir), restName, dir)
		}
	}
	for _, entry := range entries {
		name := entry.Name()
		if name == layout.OwnDir || datadir.CheckName(name) == nil && entry.IsDir() && datadir.MayBecome(filepath.Join(dir, name)) {
			continue
		}
		log.Warn("ignoring an entry of the data directory that is not a repository", "name", name)
	}
	return nil
}

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
			return "", fmt.Errorf("%s is a symbolic link whose target does not exist", filepath.Base(path))
		}
		above, err := resolve(filepath.Dir(path))
		return filepath.Join(above, filepath.Base(path)), err
	}
	return real, err
}
