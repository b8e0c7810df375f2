package main

import (
	"fmt"
	"log/slog"
	"path/filepath"

	"packhouse/blobstore/vfs"
	"packhouse/internal/shell"
	"packhouse/repo/adopt"
	"packhouse/repo/datadir"
	"packhouse/repo/layout"
)

// checkDataDir returns an error if a data directory is a single repository or is inside of one, and logs a warning for each entry
// that is not a repository.
// ignores tells of an entry by its name that it is nothing to warn of.
func checkDataDir(dir string, log *slog.Logger, ignores func(name string) bool) error {
	if err := datadir.CheckApart(dir); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if layout.HasIndex(dir) {
		return fmt.Errorf("%s is one repository, not a data directory; serve the directory above it (%s), or use packhouse %s --backend FILE:%s",
			dir, filepath.Dir(dir), restName, dir)
	}
	if err := notOurs(dir); err != nil && !datadir.AnyRepository(dir) {
		return err
	}
	strangers, err := datadir.Strangers(dir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if err := holdsOthers(dir, strangers); err != nil && !datadir.AnyRepository(dir) {
		return err
	}
	for _, name := range strangers {
		if ignores(name) {
			continue
		}
		if _, ok := datadir.NameOf(name); !ok {
			log.Warn("ignoring an entry of the data directory that is not a repository", "name", name)
			continue // it was not looked into: it may be on a disk that does not answer
		}
		if of := otherServer(filepath.Join(dir, name)); of != "" {
			log.Warn("ignoring a directory of another server in the data directory: packhouse adopt makes a repository of it; where there are only such, a start with --adopt does", "name", name, "server", of,
				"command", fmt.Sprintf("packhouse adopt %s --as NAME -d %s", shell.Word(filepath.Join(dir, name)), shell.Word(dir)))
			continue
		}
		log.Warn("ignoring an entry of the data directory that is not a repository", "name", name)
	}
	return nil
}

// serverOf names the servers of a layout.
var serverOf = map[string]string{"borgstore": "BorgStore's file backend", "restic": "rest-server or restic itself", "vger": "vger-server or vykar-server"}

// otherServer names the server whose directory it is; "": none that is known.
func otherServer(dir string) string { return serverOf[adopt.Recognize(vfs.OS(), dir)] }
