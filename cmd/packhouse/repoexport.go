package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"packhouse/api/client"
	"packhouse/internal/terminal"
	"packhouse/repo/adopt"
	"packhouse/repo/datadir"
	"packhouse/repo/export"
)

func repoExport(s streams, f *adminFlags) *cobra.Command {
	var o client.ExportOptions
	cmd := &cobra.Command{
		Use:   "export NAME DIR --as borgstore|restic|vykar",
		Short: "Write a repository into a directory that another server can serve",
		Long: `Writes all items of a repository, but locks and sessions, into the directory DIR: in the layout of BorgStore's
file backend (borg with a file: or ssh: URL, borgstore-server-rest), of rest-server and restic itself, or of
vykar-server. Items that are files of their own get a second name there (a hard link), if DIR is on the same file
system; others are cloned where the file system can, or copied and checked. Clients may go on meanwhile: what is written is one state, that of the
beginning, and it is written as slowly as jobs in the background work while clients are served.

DIR must not exist, or be empty. It appears when all of it is written and synced; until then the files are in
DIR.partial. If the command is interrupted, running it again goes on with what it has copied. With --verify all
files are read from the disk again before DIR appears. An item that is damaged is not exported, but named, and
the exit code is 3.

  packhouse repo export laptop /srv/borg/laptop --as borgstore --dry-run
  packhouse repo export laptop /srv/borg/laptop --as borgstore

The process that has the data directory writes DIR, so a running server needs the permission to do so. A linked
file is that of the repository, too: do not change its owner or mode; with --copy there are no links.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if adopt.Dialect(o.Layout) == "" {
				return usage("--as is %s: the server that is to serve the directory", adopt.Written)
			}
			data, err := f.dir(cmd)
			if err != nil {
				return err
			}
			return withAdminClient(cmd, s, f, func(c *adminClient) error {
				name, rest, err := c.nameAndRest(args)
				if err != nil {
					return err
				}
				if len(rest) != 1 {
					return usage("%s needs a NAME and a DIR; see %s --help", cmd.CommandPath(), cmd.CommandPath())
				}
				if o.Dir, err = targetDir(rest[0], data); err != nil {
					return err
				}
				return exportInto(cmd, s, f, c, name, o)
			})
		},
	}
	cmd.Flags().StringVar(&o.Layout, "as", "", "the `layout`: "+adopt.Written)
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "only say what would be done")
	cmd.Flags().BoolVar(&o.Copy, "copy", false, "copy everything, so that the two have no files in common")
	cmd.Flags().BoolVar(&o.Verify, "verify", false, "read what was written from the disk, and compare it with the items")
	return cmd
}

// targetDir is the directory to write an export or a backup into, absolute. It lies outside of the data directory, in a directory that exists.
func targetDir(path, data string) (string, error) {
	real, err := datadir.ResolveDir(path)
	if err != nil {
		return "", err
	}
	if within(real, data) {
		return "", usage("%s is in the data directory: choose a directory outside of it, on the same file system", path)
	}
	if _, err := os.Stat(filepath.Dir(real)); errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("there is no directory %s to make %s in", filepath.Dir(real), filepath.Base(real))
	}
	return real, nil
}

func exportInto(cmd *cobra.Command, s streams, f *adminFlags, c *adminClient, name string, o client.ExportOptions) error {
	show := newTransferView[export.Report](s, f)
	defer show.end()
	report, err := c.Export(cmd.Context(), name, o, show.event)
	if err != nil {
		return err
	}
	if !f.json {
		if _, err := fmt.Fprintln(s.out, describeExport(report, o.DryRun)); err != nil {
			return err
		}
	}
	if report.Problems > 0 {
		return &exitError{exitFound, fmt.Errorf("%d items are not in it", report.Problems)}
	}
	return nil
}

// describeExport says what was done, or would be, in a line.
func describeExport(r export.Report, dryRun bool) string {
	done := "exported as"
	if dryRun {
		done = "would be exported as"
	}
	text := fmt.Sprintf("%s %s to %s: %d items, %s, by hard links, and %d, %s, by copies", done, r.Layout, terminal.Printable(r.Dir),
		r.Linked.Items, terminal.Bytes(r.Linked.Bytes), r.Copied.Items, terminal.Bytes(r.Copied.Bytes))
	if r.Cloned.Items > 0 {
		text += fmt.Sprintf(", and %d, %s, by clones", r.Cloned.Items, terminal.Bytes(r.Cloned.Bytes))
	}
	if r.Resumed.Items > 0 {
		text += fmt.Sprintf("; %d of the copies, %s, were made before the interruption", r.Resumed.Items, terminal.Bytes(r.Resumed.Bytes))
	}
	if r.Verified.Items > 0 {
		text += fmt.Sprintf("; %d, %s, read again and as they were written", r.Verified.Items, terminal.Bytes(r.Verified.Bytes))
	}
	if r.LeftOut > 0 {
		text += fmt.Sprintf("; %d locks and sessions left out", r.LeftOut)
	}
	return text
}
