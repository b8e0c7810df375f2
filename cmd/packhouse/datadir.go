package main

import (
	"fmt"
	"log/slog"
	"path/filepath"

	"packhouse/repo/datadir"
	"packhouse/repo/layout"
)

// checkDataDir returns an error if a data directory is a single repository or is inside of one, and logs a warning for each entry
// that is not a repository.
func checkDataDir(dir string, log *slog.Logger) error {
	if err := datadir.CheckApart(dir); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if layout.HasIndex(dir) {
		return fmt.Errorf("%s is one repository, not a data directory; serve the directory above it (%s), or use packhouse %s --backend FILE:%s",
			dir, filepath.Dir(dir), restName, dir)
	}
	strangers, err := datadir.Strangers(dir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	for _, name := range strangers {
		log.Warn("ignoring an entry of the data directory that is not a repository", "name", name)
	}
	return nil
}
