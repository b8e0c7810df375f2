package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"packhouse/api/holder"
	"packhouse/blobstore/vfs"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/repo/datadir"
)

// checkDataID refuses a directory that has not the identity that data_id of the configuration demands: such as the empty one
// below a volume that is not mounted. It makes nothing.
func checkDataID(dir, want string) error {
	if want == "" {
		return nil
	}
	id, err := datadir.Identity(vfs.OS(), dir)
	switch {
	case errors.Is(err, datadir.ErrNoIdentity):
		return fmt.Errorf("data directory %s: it has no identity; data_id of the configuration expects %s: mount its volume, or correct data_dir or data_id", dir, want)
	case err != nil:
		return fmt.Errorf("data directory %s: %w", dir, err)
	case id != want:
		return fmt.Errorf("data directory %s: this is another one, with the identity %s; data_id of the configuration expects %s: mount the right volume, or correct data_dir or data_id", dir, id, want)
	}
	return nil
}

// identify returns the identity of a data directory that is claimed; the first start makes it. A directory on a read-only
// file system may have none.
func identify(claim *holder.Claim, want string) (id string, made bool, err error) {
	if err := checkDataID(claim.Dir, want); err != nil {
		return "", false, err // once more: it is ours only now
	}
	id, err = datadir.Identity(vfs.OS(), claim.Dir)
	switch {
	case !errors.Is(err, datadir.ErrNoIdentity):
		return id, false, err
	case claim.ReadOnly:
		return "", false, nil
	}
	id, err = datadir.MakeIdentity(vfs.OS(), claim.Dir)
	return id, true, err
}

// missingRepositories are those that the configuration names and that are not in the data directory.
func missingRepositories(dir string, c *config.Config) (names []string) {
	for _, r := range c.Repositories {
		names = append(names, r.Name)
	}
	return datadir.Absent(dir, names)
}

// warnOfVanished warns of repositories that were in the data directory and are missing.
func (sv *service) warnOfVanished(dir string) {
	const most = 10
	names := datadir.Vanished(dir)
	if len(names) == 0 {
		return
	}
	sv.log.Warn("repositories are missing that were in the data directory: mount their volumes, or bring their directories back; packhouse repo destroy NAME has the server forget one that is gone for good",
		"path", dir, "number", len(names), "repositories", strings.Join(names[:min(len(names), most)], ", "))
}

// describeDataDir is what `config check` says of the data directory that a file names, as far as it is there: lines, and
// what is wrong.
func describeDataDir(c *config.Config) (lines []string, err error) {
	dir, err := datadir.ResolveDir(c.DataDir)
	if err != nil {
		return nil, nil // serve says so, in its own working directory
	}
	if missing := missingRepositories(dir, c); len(missing) > 0 {
		lines = append(lines, fmt.Sprintf("warning: the data directory %s has no repository %s", dir, strings.Join(missing, ", ")))
	}
	id, err := datadir.Identity(vfs.OS(), dir)
	switch {
	case errors.Is(err, datadir.ErrNoIdentity) && c.DataID != "":
		return append(lines, fmt.Sprintf("warning: the data directory %s is not there now; data_id expects %s", dir, c.DataID)), nil
	case errors.Is(err, datadir.ErrNoIdentity), errors.Is(err, os.ErrPermission):
		return lines, nil
	case err != nil:
		return lines, err
	case c.DataID == "":
		return append(lines, fmt.Sprintf("the data directory %s has data_id = %q", dir, id)), nil
	}
	return lines, checkDataID(dir, c.DataID)
}
