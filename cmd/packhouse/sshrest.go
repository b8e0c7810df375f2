package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"packhouse/api/stdio"
	"packhouse/repo/datadir"
)

// serveRest is `serve --rest`: what borg starts over ssh, or an administrator forces there.
func serveRest(cmd *cobra.Command, s streams, f *restFlags) error {
	if original := os.Getenv("SSH_ORIGINAL_COMMAND"); original != "" {
		// What the client asks for counts for the backend alone; the rest is the forced command's. A
		// backend that is forced without a restriction to choose within is meant to be the only one.
		backend, ok := stdio.BackendOf(original)
		switch {
		case ok && (f.backend == "" || f.restricted()):
			f.backend = backend
		case f.backend == "":
			return restricted("the client must ask for: serve --rest --backend FILE:path")
		}
	}
	if f.permissions == "" {
		f.permissions = os.Getenv("BORG_REPO_PERMISSIONS")
	}
	if f.restricted() && !strings.HasPrefix(f.backend, "FILE:") {
		return restricted("only FILE: backends are allowed here")
	}
	p, err := f.parse()
	if err != nil {
		return err
	}
	if err := f.allow(p.dir); err != nil {
		return err
	}
	if err := datadir.CheckApart(p.dir); err != nil {
		return err
	}
	return serveStdio(cmd.Context(), s, p, "", "")
}

func restricted(format string, args ...any) error {
	return &exitError{exitRestricted, fmt.Errorf(format, args...)}
}

// restricted tells whether only some directories are allowed.
func (f *restFlags) restricted() bool { return len(f.restrictToPath)+len(f.restrictToRepository) > 0 }

// allow holds a directory against the restrictions, if there are any.
func (f *restFlags) allow(dir string) error {
	if !f.restricted() {
		return nil
	}
	for _, path := range f.restrictToPath {
		root, err := restriction(path)
		if err != nil {
			return err
		}
		if dir == root || strings.HasPrefix(dir, strings.TrimSuffix(root, "/")+"/") {
			return nil
		}
	}
	for _, path := range f.restrictToRepository {
		root, err := restriction(path)
		if err != nil {
			return err
		}
		if dir == root {
			return nil
		}
	}
	return restricted("access to this repository is not allowed")
}

func restriction(path string) (string, error) {
	path, err := stdio.ExpandHome(path)
	if err != nil {
		return "", err
	}
	return resolve(path)
}
