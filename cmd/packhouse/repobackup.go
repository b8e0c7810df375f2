package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"packhouse/api/client"
	"packhouse/api/holder"
	"packhouse/api/local"
	"packhouse/internal/terminal"
	"packhouse/repo/backup"
	"packhouse/repo/datadir"
	"packhouse/repo/layout"
	"packhouse/repo/transfer"
)

func repoBackup(s streams, f *adminFlags) *cobra.Command {
	var o client.BackupOptions
	cmd := &cobra.Command{
		Use:   "backup NAME DEST",
		Short: "Copy a repository to a directory, and bring such a copy up to date",
		Long: `Writes one state of a repository into the directory DEST, from which packhouse repo restore makes a repository
again: all items with their times, hashes and sizes, what can be restored from the trash, the limits of the repository
and its last backups. Clients may go on meanwhile. The first time DEST must not exist, or be empty. Run again, it transfers
only what DEST does not have, and removes from DEST what is gone, last. If the command is interrupted, DEST has the state
that it had; running it again goes on.

Items that are files of their own get a second name in DEST (a hard link), if DEST is on the same file system; others are
copied and checked. With --copy there are no links, and DEST does not share a disk's fault with the repository. With
--verify all files in DEST are read first; those that are damaged are transferred again. An item that is damaged in the
repository is named, and the exit code is 3; what DEST has of it stays.

  packhouse repo backup laptop /mnt/usb/laptop --dry-run
  packhouse repo backup laptop /mnt/usb/laptop
  packhouse repo restore /mnt/usb/laptop --as laptop2

The process that has the data directory writes DEST, so a running server needs the permission to do so.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
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
					return usage("%s needs a NAME and a DEST; see %s --help", cmd.CommandPath(), cmd.CommandPath())
				}
				if o.Dir, err = targetDir(rest[0], data); err != nil {
					return err
				}
				return backupInto(cmd, s, f, c, name, o)
			})
		},
	}
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "only say what would be done")
	cmd.Flags().BoolVar(&o.Copy, "copy", false, "copy everything, with neither links nor clones, so that the two have nothing in common on the disk")
	cmd.Flags().BoolVar(&o.Verify, "verify", false, "read all files in DEST first, and transfer those that are damaged again")
	cmd.Flags().BoolVar(&o.TakeOver, "take-over", false, "go on with a backup of the repository from which this one was restored")
	return cmd
}

func backupInto(cmd *cobra.Command, s streams, f *adminFlags, c *adminClient, name string, o client.BackupOptions) error {
	show := newTransferView[backup.Report](s, f)
	defer show.end()
	report, err := c.Backup(cmd.Context(), name, o, show.event)
	if err != nil {
		return err
	}
	if !f.json {
		if _, err := fmt.Fprintln(s.out, describeBackup(report, o.DryRun)); err != nil {
			return err
		}
	}
	return backupFound(report)
}

// backupFound is the error of a backup that has come to its end and has met damage.
func backupFound(r backup.Report) error {
	var found []string
	for _, of := range []struct {
		n    int64
		text string
	}{
		{r.Problems, "%d items are not in it"},
		{r.Saved, "%d items are in it, and missing or damaged in the repository"},
		{r.Damaged, "%d files in it were damaged, and those of which the repository has the bytes were transferred again"},
	} {
		if of.n > 0 {
			found = append(found, fmt.Sprintf(of.text, of.n))
		}
	}
	if len(found) == 0 {
		return nil
	}
	return &exitError{exitFound, fmt.Errorf("%s", strings.Join(found, "; "))}
}

// describeBackup says what was done, or would be, in a line.
func describeBackup(r backup.Report, dryRun bool) string {
	amount := func(a transfer.Amount) string { return fmt.Sprintf("%d items, %s", a.Items, terminal.Bytes(a.Bytes)) }
	done := "backed up to"
	if dryRun {
		done = "would be backed up to"
	}
	text := fmt.Sprintf("%s %s: %s, by hard links, %s, by copies, and %s, that were there", done, terminal.Printable(r.Dir), amount(r.Linked), amount(r.Copied), amount(r.Kept))
	if r.Cloned.Items > 0 {
		text += fmt.Sprintf(", and %s, by clones", amount(r.Cloned))
	}
	if r.Trash.Items > 0 {
		text += fmt.Sprintf("; of these, %s, in the trash", amount(r.Trash))
	}
	if r.Removed.Items > 0 {
		text += fmt.Sprintf("; removed %d files, %s", r.Removed.Items, terminal.Bytes(r.Removed.Bytes))
	}
	if r.LeftOut > 0 {
		text += fmt.Sprintf("; %d locks and sessions left out", r.LeftOut)
	}
	return text
}

// restoreFlags are those of packhouse repo restore.
type restoreFlags struct {
	as     string
	dryRun bool
	verify bool
}

// restoreBackup makes a repository of the backup in a directory, or looks at that.
func restoreBackup(cmd *cobra.Command, s streams, f *adminFlags, path string, flags restoreFlags) error {
	source, err := datadir.ResolveDir(path)
	if err != nil {
		return err
	}
	if flags.verify {
		if flags.as != "" {
			return usage("--verify only reads the backup; leave --as out")
		}
		return verifyBackup(cmd.Context(), s, f, source)
	}
	if err := datadir.CheckName(flags.as); err != nil {
		return usage("--as: %w", err)
	}
	show := newTransferView[backup.Verified](s, f)
	defer show.end()
	o := backup.RestoreOptions{Source: source, Name: flags.as, Small: smallItems, Progress: show.progress, Problem: show.problem}
	if o.Into, err = f.dir(cmd); err != nil {
		return err
	}
	if err := vacant(filepath.Join(o.Into, layout.DirName(o.Name)), o.Name); err != nil {
		return err
	}
	if flags.dryRun {
		v, err := backup.LookRestore(cmd.Context(), o)
		return showVerified(s, show, v, "would be restored as "+o.Name, err)
	}
	if err := holder.CheckOwner(o.Into, os.Geteuid()); err != nil {
		return err
	}
	return withAdminClient(cmd, s, f, func(c *adminClient) error {
		if c.Single {
			return usage("the directory is a single repository; give the data directory with --data-dir")
		}
		o.Mark = func(ctx context.Context) error { return c.BeginAdoption(ctx, o.Name, o.Source) }
		o.Unmark = func(ctx context.Context) error { return c.EndAdoption(ctx, o.Name) }
		v, err := backup.Restore(cmd.Context(), o)
		return showVerified(s, show, v, "restored as "+o.Name, err)
	})
}

// verifyBackup reads a backup.
func verifyBackup(ctx context.Context, s streams, f *adminFlags, source string) error {
	show := newTransferView[backup.Verified](s, f)
	defer show.end()
	v, err := backup.Verify(ctx, backup.VerifyOptions{Dir: source, Progress: show.progress, Problem: show.problem})
	return showVerified(s, show, v, "read", err)
}

// showVerified says what a look at a backup, or a restore, has found.
func showVerified(s streams, show *transferView[backup.Verified], v backup.Verified, done string, err error) error {
	show.end()
	if err != nil {
		return err
	}
	if show.json {
		err = json.NewEncoder(s.out).Encode(local.TransferEvent[backup.Verified]{Done: &v})
	} else {
		_, err = fmt.Fprintf(s.out, "%s: the state of %s of %s: %d items, %s, and %d items, %s, in the trash\n", done, terminal.Printable(v.Name),
			v.At.Local().Format(time.RFC3339), v.Items.Items, terminal.Bytes(v.Items.Bytes), v.Trash.Items, terminal.Bytes(v.Trash.Bytes))
	}
	if err == nil && v.Problems > 0 {
		err = &exitError{exitFound, fmt.Errorf("the bytes of %d items are missing or damaged", v.Problems)}
	}
	return err
}
