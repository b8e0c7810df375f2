package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"packhouse/blobstore/vfs"
	"packhouse/internal/terminal"
	"packhouse/repo/backup"
	"packhouse/repo/datadir"
)

// listRemoved lists the repositories that were destroyed and can be restored.
func listRemoved(ctx context.Context, s streams, f *adminFlags, c *adminClient) error {
	all, text, err := c.Removed(ctx)
	if err != nil {
		return err
	}
	if f.json {
		return terminal.JSON(s.out, text)
	}
	t := terminal.NewTable(s.out, "ID", "NAME", "DIALECT", "ITEMS", "BYTES", "DESTROYED", "EXPIRES")
	for _, r := range all {
		name := r.Name
		if name == "" {
			name = "-"
		}
		t.Row(r.ID, name, r.Dialect, fmt.Sprint(r.Items), t.Size(r.Bytes), t.Time(r.At), t.Time(r.Expires))
	}
	return t.End()
}

func repoRestore(s streams, f *adminFlags) *cobra.Command {
	var flags restoreFlags
	cmd := &cobra.Command{
		Use:   "restore NAME|ID | DIR --as NAME",
		Short: "Restore a repository that was destroyed, or from a backup",
		Long: `Restores a repository that was destroyed within its grace time, whole, with its trash and history: by its
former name, or by its ID if several had that name (packhouse repo list --removed). It gets its former
name, or another one with --as. Fails if there is a repository of that name.

With the directory of a backup (packhouse repo backup), which is written with / or ./ at its begin, it makes the repository
--as NAME of that. Each item is copied, and compared with its hash; one whose bytes are missing or damaged is named, is in the
repository as missing, and the exit code is 3. If the command is interrupted, there is no repository, and running it again
begins anew. --dry-run only looks for the files of the backup; --verify reads them all, and restores nothing.

  packhouse repo restore laptop
  packhouse repo restore 3f0a11c2d4e5b697 --as laptop-before
  packhouse repo restore /mnt/usb/laptop --as laptop2
  packhouse repo restore /mnt/usb/laptop --verify`,
		Args: exactly(1, "a NAME, an ID or the DIR of a backup"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.HasPrefix(args[0], "/") || strings.HasPrefix(args[0], ".") { // no name begins so
				return restoreBackup(cmd, s, f, args[0], flags)
			}
			if flags.dryRun || flags.verify {
				return usage("--dry-run and --verify are for backups; write the directory of one as ./%s", args[0])
			}
			return withAdminClient(cmd, s, f, func(c *adminClient) error {
				r, text, err := c.RestoreRemoved(cmd.Context(), args[0], flags.as)
				if err != nil {
					if backup.IsBackup(vfs.OS(), args[0]) {
						err = fmt.Errorf("%w; for the backup in the directory of that name, write ./%s", err, args[0])
					}
					return err
				}
				return sayRemoved(s, f, "restored", r, text)
			})
		},
	}
	cmd.Flags().StringVar(&flags.as, "as", "", "`name` that it gets")
	cmd.Flags().BoolVar(&flags.dryRun, "dry-run", false, "of a backup: only say what would be restored")
	cmd.Flags().BoolVar(&flags.verify, "verify", false, "of a backup: only read it, and compare it with its list")
	return cmd
}

func repoPurge(s streams, f *adminFlags) *cobra.Command {
	yes := false
	cmd := &cobra.Command{
		Use:   "purge NAME|ID",
		Short: "Delete for good a repository that was destroyed",
		Long: `Deletes a repository that was destroyed before its grace time is over, for example when the disk is full.
It cannot be restored afterwards. Asks for confirmation, unless --yes is given.

  packhouse repo purge old-laptop`,
		Args: exactly(1, "a NAME or an ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAdminClient(cmd, s, f, func(c *adminClient) error {
				if !yes {
					if err := confirm(s, "This deletes a repository that could be restored.", args[0], "--yes deletes without asking"); err != nil {
						return err
					}
				}
				r, text, err := c.PurgeRemoved(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return sayRemoved(s, f, "purged", r, text)
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask for confirmation")
	return cmd
}

// sayRemoved says what was done with a repository that had been destroyed.
func sayRemoved(s streams, f *adminFlags, what string, r datadir.Removed, text []byte) error {
	if f.json {
		return terminal.JSON(s.out, text)
	}
	_, err := fmt.Fprintf(s.out, "%s %s, %d items, %s\n", what, shownName(terminal.Printable(r.Name)), r.Items, terminal.Bytes(r.Bytes))
	return err
}
