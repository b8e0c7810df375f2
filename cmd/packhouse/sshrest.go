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
	if cmd.Flags().Changed("role") && f.role == "" {
		return usage("--role: must not be empty") // else the client would have none, and so every right
	}
	if original := os.Getenv("SSH_ORIGINAL_COMMAND"); original != "" {
		// What the client asks for counts for the backend alone; the rest is the forced command's. A
		// backend that is forced without a restriction to choose within is meant to be the only one.
		backend, ok := stdio.BackendOf(original)
		switch {
		case ok && (f.backend == "" || f.restriction.Restricted()):
			f.backend = backend
		case f.backend == "":
			return restricted("the client must ask for: serve --rest --backend FILE:path")
		}
	}
	if f.permissions == "" {
		f.permissions = os.Getenv("BORG_REPO_PERMISSIONS")
	}
	if f.restriction.Restricted() && !strings.HasPrefix(f.backend, "FILE:") {
		return restricted("only FILE: backends are allowed here")
	}
	p, err := f.parse()
	if err != nil {
		return err
	}
	if allowed, err := f.restriction.Allows(p.dir); err != nil {
		return err
	} else if !allowed {
		return restricted("access to this repository is not allowed")
	}
	if err := datadir.CheckApart(p.dir); err != nil {
		return err
	}
	return serveStdio(cmd.Context(), s, p, "", "")
}

func restricted(format string, args ...any) error {
	return &exitError{exitRestricted, fmt.Errorf(format, args...)}
}
