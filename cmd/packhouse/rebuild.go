package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"packhouse/api/holder"
	"packhouse/internal/terminal"
	"packhouse/repo/datadir"
	"packhouse/repo/layout"
	"packhouse/repo/recovery"
)

// repoRebuild makes an index anew, offline.
func repoRebuild(s streams, f *adminFlags) *cobra.Command {
	var replace bool
	cmd := &cobra.Command{
		Use:   "rebuild [NAME]",
		Short: "Build a new index for a repository from a snapshot and the blobs",
		Long: `Builds a new index for a repository whose index (index.db) is lost or damaged, from the newest
readable index snapshot, the log, and the labels of the stored blobs. No acknowledged item is lost,
unless only a damaged part of the log names it. If parts of the log since the snapshot are missing,
damaged, or were removed because no item in them was needed, items that were deleted or moved since
then may come back under their former names; a client's compact removes them. The server must not run. With --replace an existing index is renamed
to index.db.lost.

  packhouse repo rebuild laptop
  packhouse repo rebuild -d /srv/backup/laptop --replace

Exit codes: 0 rebuilt, 1 failure, 2 wrong command line, 3 rebuilt, but some blobs or parts of the log could
not be read.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			dir, err := f.dir(cmd)
			if err != nil {
				return err
			}
			top := dir
			if len(args) == 1 {
				if err := datadir.CheckName(args[0]); err != nil {
					return usage("%w", err)
				}
				dir = filepath.Join(dir, layout.DirName(args[0]))
			}
			if !layout.HasBlobs(dir) {
				return usage("there is no repository in %s; give the name of a repository, or its directory with -d", dir)
			}
			if err := holder.CheckOwner(dir, os.Geteuid()); err != nil {
				return err
			}
			release, err := claimOffline(cmd.Context(), top, dir)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, release()) }()
			return rebuild(cmd, s, f, dir, replace)
		},
	}
	cmd.Flags().BoolVar(&replace, "replace", false, "rename an existing index to index.db.lost")
	return cmd
}

// claimOffline makes sure that no other process has the repository.
func claimOffline(ctx context.Context, top, dir string) (release func() error, err error) {
	ctx, cancel := context.WithTimeout(ctx, claimPatience)
	defer cancel()
	var claim *holder.Claim
	if top != dir {
		claim, err = holder.ClaimData(ctx, top)
	} else {
		claim, err = holder.ClaimFromHolder(ctx, dir, claimPatience)
	}
	if err != nil {
		return nil, err
	}
	return claim.Release, nil
}

func rebuild(cmd *cobra.Command, s streams, f *adminFlags, dir string, replace bool) error {
	if layout.HasIndex(dir) && !replace {
		return errors.New("the repository has an index; use --replace to rename it to index.db.lost and build a new one")
	}
	blobs := int64(0)
	report, err := recovery.Rebuild(cmd.Context(), dir, recovery.RebuildOptions{
		Replace: replace,
		Progress: func(n int64) {
			if n/10_000 > blobs/10_000 || terminal.Is(s.err) {
				fmt.Fprintf(s.err, "%d blobs%s", n, map[bool]string{true: "\r", false: "\n"}[terminal.Is(s.err)])
			}
			blobs = n
		},
	})
	if err != nil {
		return err
	}
	if f.json {
		var text []byte
		if text, err = json.Marshal(map[string]any{
			"snapshot": report.Snapshot, "items": report.Items, "bytes": report.Bytes, "recovered": report.Recovered,
			"missing": report.Missing, "superseded": report.Superseded, "unreadable": report.Unreadable,
			"replayed": report.Replayed, "damaged": report.Damaged, "log_damaged": report.LogDamaged,
		}); err == nil {
			err = terminal.JSON(s.out, text)
		}
	} else {
		err = showRebuilt(s, report)
	}
	if err == nil && report.Damaged+report.LogDamaged > 0 {
		err = &exitError{exitFound, fmt.Errorf("the log is damaged: %d items have wrong bytes, and %d places could not be read", report.Damaged, report.LogDamaged)}
	}
	if err == nil && report.Unreadable > 0 {
		err = &exitError{exitFound, fmt.Errorf("%d blobs could not be read; their files stay where they are", report.Unreadable)}
	}
	return err
}

func showRebuilt(s streams, report recovery.RebuildReport) error {
	from := "no snapshot"
	if report.Snapshot != "" {
		from = "snapshot " + report.Snapshot
	}
	_, err := fmt.Fprintf(s.out, "rebuilt from %s: %d items, %s; %d recovered from blobs, %d missing, %d blobs superseded, %d unreadable\n",
		from, report.Items, terminal.Bytes(report.Bytes), report.Recovered, report.Missing, report.Superseded, report.Unreadable)
	if err == nil && report.Replayed {
		_, err = fmt.Fprintln(s.out, "the log contains all changes since the snapshot: items are as they were")
	}
	if err == nil && report.LogDamaged > 0 {
		_, err = fmt.Fprintf(s.out, "the log is damaged in %d places; the segments with these places are kept as log/*.lost\n", report.LogDamaged)
	}
	if err == nil && report.Damaged > 0 {
		_, err = fmt.Fprintf(s.out, "%d items in the log have wrong bytes: packhouse check names them\n", report.Damaged)
	}
	if err == nil && report.Missing > 0 {
		_, err = fmt.Fprintln(s.out, "missing items were deleted since the snapshot, or are lost: packhouse check names them, packhouse repo accept-loss --forget removes them")
	}
	if err == nil && report.Superseded > 0 {
		_, err = fmt.Fprintln(s.out, "superseded blobs have the same names as newer items; they can be restored for 30 days: packhouse trash list")
	}
	return err
}
