package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"packhouse/internal/terminal"
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
	as := ""
	cmd := &cobra.Command{
		Use:   "restore NAME|ID",
		Short: "Restore a repository that was destroyed",
		Long: `Restores a repository that was destroyed within its grace time, whole, with its trash and history: by its
former name, or by its ID if several had that name (packhouse repo list --removed). It gets its former
name, or another one with --as. Fails if there is a repository of that name.

  packhouse repo restore laptop
  packhouse repo restore 3f0a11c2d4e5b697 --as laptop-before`,
		Args: exactly(1, "a NAME or an ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAdminClient(cmd, s, f, func(c *adminClient) error {
				r, text, err := c.RestoreRemoved(cmd.Context(), args[0], as)
				if err != nil {
					return err
				}
				return sayRemoved(s, f, "restored", r, text)
			})
		},
	}
	cmd.Flags().StringVar(&as, "as", "", "`name` that it gets")
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
