package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"packhouse/internal/terminal"
	"packhouse/repo"
)

func repoSalvage(s streams, f *adminFlags) *cobra.Command {
	duration := time.Duration(0)
	off := false
	cmd := &cobra.Command{
		Use:   "salvage NAME --for TIME",
		Short: "Serve the bytes of damaged items for a limited time",
		Long: `Normally damaged items are not served. This command makes the server send and copy them for a limited time,
with the wrong bytes, so that the clients' own repair can keep what is intact: borg check --repair
--verify-data, vykar check --repair --verify-data. Each such item is logged, and health is degraded
meanwhile. A restart of the server does not end it; --off does.

  packhouse repo salvage laptop --for 2h
  packhouse repo salvage laptop --off`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if off == (duration > 0) {
				return usage("give --for TIME, such as --for 2h, or --off")
			}
			return withAdminClient(cmd, s, f, func(c *adminClient) error {
				name, err := c.name(args)
				if err != nil {
					return err
				}
				until, text, err := c.Salvage(cmd.Context(), name, duration)
				if err != nil {
					return err
				}
				if f.json {
					return terminal.JSON(s.out, text)
				}
				line := "damaged items are no longer served"
				if !until.IsZero() {
					line = "damaged items are served with wrong bytes until " + until.Local().Format(time.RFC3339)
				}
				_, err = fmt.Fprintf(s.out, "%s: %s\n", shownName(name), line)
				return err
			})
		},
	}
	cmd.Flags().DurationVar(&duration, "for", 0, "how long, such as 2h; at most 168h")
	cmd.Flags().BoolVar(&off, "off", false, "stop serving damaged items now")
	return cmd
}

func repoAcceptLoss(s streams, f *adminFlags) *cobra.Command {
	yes, forget, dry := false, false, false
	cmd := &cobra.Command{
		Use:   "accept-loss NAME",
		Short: "Confirm that missing files are lost, also when they are many",
		Long: `If more than 16 files and more than 1 % of a repository are missing at once, or more than half of it, or a
directory below blobs, the server assumes that the disk is the wrong one or incomplete, and the
repository refuses to list and store items. This command confirms that the files are lost. It shows what
would be marked as missing, asks, and marks it. Then the rest is served again, and the clients' own
repair can begin. With --forget it also removes the rows of all missing items, which otherwise keep
health degraded; they are in the trash for the grace time.

  packhouse repo accept-loss laptop --dry-run
  packhouse repo accept-loss laptop`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAdminClient(cmd, s, f, func(c *adminClient) error {
				name, err := c.name(args)
				if err != nil {
					return err
				}
				found, text, err := c.Missing(cmd.Context(), name)
				if err != nil {
					return err
				}
				if !f.json {
					if err := showLoss(s, name, found); err != nil {
						return err
					}
				}
				if dry || found.Items == 0 && len(found.Shards) == 0 && (!forget || found.Marked == 0) {
					if f.json {
						return terminal.JSON(s.out, text)
					}
					return nil
				}
				if !yes {
					what := fmt.Sprintf("Clients will be told that %d items are missing. If you can restore their files, do that first.", found.Items+found.Marked)
					if err := confirm(s, what, shownName(name), "--yes accepts without asking"); err != nil {
						return err
					}
				}
				found, text, err = c.AcceptLoss(cmd.Context(), name, forget)
				if err != nil {
					return err
				}
				if f.json {
					return terminal.JSON(s.out, text)
				}
				_, err = fmt.Fprintf(s.out, "%s: %d items marked as missing, %d rows removed\n", shownName(name), found.Items, found.Removed)
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask for confirmation")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only show what would be marked")
	cmd.Flags().BoolVar(&forget, "forget", false, "also move the rows of missing items to the trash")
	return cmd
}

// showLoss prints what is missing.
func showLoss(s streams, name string, r repo.LossReport) error {
	for _, key := range r.Keys {
		if _, err := fmt.Fprintf(s.out, "missing: %s\n", terminal.Printable(key)); err != nil {
			return err
		}
	}
	if more := r.Items - int64(len(r.Keys)); more > 0 {
		if _, err := fmt.Fprintf(s.out, "and %d more\n", more); err != nil {
			return err
		}
	}
	if len(r.Shards) > 0 {
		if _, err := fmt.Fprintf(s.out, "missing directories: blobs/%s\n", strings.Join(r.Shards, " blobs/")); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(s.out, "%s: %d of %d items are missing, %s; %d more are marked already\n", shownName(name), r.Items, r.Total, terminal.Bytes(r.Bytes), r.Marked)
	return err
}
