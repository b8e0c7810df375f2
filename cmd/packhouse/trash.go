package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"packhouse/api/admin"
	"packhouse/api/client"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/internal/terminal"
)

func trashCommand(s streams) *cobra.Command {
	f := &adminFlags{}
	parent := &cobra.Command{
		Use:   "trash",
		Short: "Show, restore and delete removed items within their grace time",
		Long: `Items that clients removed can be restored for the repository's grace time (the setting
grace; 0 by default, and always 0 for locks).

Packs that the compaction of a V'Ger client has removed are not in the trash. They are kept separately
(for the time in the setting compact_grace), clients can read them without restoring them, and they are
deleted earlier if disk space is needed. --compactions lists or deletes them.

  packhouse trash list laptop
  packhouse trash restore laptop ID
  packhouse trash empty laptop --older-than 7d
  packhouse trash empty laptop --compactions`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f.add(parent)
	parent.AddCommand(trashList(s, f), trashRestore(s, f), trashEmpty(s, f))
	return parent
}

func trashList(s streams, f *adminFlags) *cobra.Command {
	compactions := false
	cmd := &cobra.Command{
		Use:   "list NAME",
		Short: "List what can be restored",
		Long: `Lists what can be restored, the next to expire first. With --json one document per line.

With --compactions it lists the packs that are kept after compactions instead, and why they were removed:
"replaced" (a completed compaction has copied the parts in use) or "unused" (a client listed them as
unused).`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAdminClient(cmd, s, f, func(c *adminClient) error {
				name, err := c.name(args)
				if err != nil {
					return err
				}
				if compactions {
					return listKept(cmd.Context(), s, f, c, name)
				}
				columns := []string{"ID", "KEY", "BYTES", "REMOVED", "EXPIRES"}
				list := func(each func(admin.Removed, json.RawMessage) error) error { return c.Trash(cmd.Context(), name, each) }
				return printRows(s, f, columns, list, func(t *terminal.Table, row admin.Removed) {
					t.Row(row.ID, row.Key, t.Size(row.Size), t.Time(row.Removed), t.Time(row.Expires))
				})
			})
		},
	}
	cmd.Flags().BoolVar(&compactions, "compactions", false, "list what is kept after compactions, instead of the trash")
	return cmd
}

// listKept lists what is kept after compactions.
func listKept(ctx context.Context, s streams, f *adminFlags, c *adminClient, name string) error {
	columns := []string{"WHY", "KEY", "BYTES", "REMOVED", "EXPIRES"}
	list := func(each func(admin.KeptPack, json.RawMessage) error) error { return c.Kept(ctx, name, each) }
	return printRows(s, f, columns, list, func(t *terminal.Table, row admin.KeptPack) {
		t.Row(row.Why, row.Key, t.Size(row.Size), t.Time(row.Removed), t.Time(row.Expires))
	})
}

func trashRestore(s streams, f *adminFlags) *cobra.Command {
	as := ""
	cmd := &cobra.Command{
		Use:   "restore NAME ID",
		Short: "Restore a removed item",
		Long: `Restores a removed item under its former key, or under another one with --as. Fails if that key exists.

  packhouse trash restore laptop ID --as archives/rescued`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAdminClient(cmd, s, f, func(c *adminClient) error {
				names, id := args[:len(args)-1], args[len(args)-1]
				name, err := c.name(names)
				if err != nil {
					return err
				}
				item, text, err := c.Restore(cmd.Context(), name, id, as)
				if err != nil {
					return err
				}
				if f.json {
					return terminal.JSON(s.out, text)
				}
				_, err = fmt.Fprintf(s.out, "restored %s, %s\n", terminal.Printable(item.Key), terminal.Bytes(item.Size))
				return err
			})
		},
	}
	cmd.Flags().StringVar(&as, "as", "", "`key` to restore it under")
	return cmd
}

// trashEmptying is what `trash empty` was asked for.
type trashEmptying struct {
	olderThan   string
	compactions bool // what is kept after them, instead of the trash
	yes         bool // do not ask
}

func trashEmpty(s streams, f *adminFlags) *cobra.Command {
	var e trashEmptying
	cmd := &cobra.Command{
		Use:   "empty NAME",
		Short: "Delete removed items for good",
		Long: `Deletes the items in the trash for good, before their grace time is over, for example when the disk
is full. They cannot be restored afterwards. With --older-than it deletes only items that were removed
at least that long ago. Asks for confirmation, unless --yes is given.

With --compactions it deletes the packs that are kept after compactions instead. Clients whose index is
older than the compaction can then no longer read these packs; open plans are not affected. Without
--compactions those packs stay; the server deletes them itself when disk space is needed.

  packhouse trash empty laptop --older-than 7d
  packhouse trash empty laptop --compactions`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			before, err := e.before(cmd.Flags().Changed("older-than"))
			if err != nil {
				return err
			}
			return withAdminClient(cmd, s, f, func(c *adminClient) error {
				name, err := c.name(args)
				if err != nil {
					return err
				}
				return e.empty(cmd.Context(), s, f, c, name, before)
			})
		},
	}
	cmd.Flags().StringVar(&e.olderThan, "older-than", "", "delete only what was removed at least this `time` ago, such as 7d")
	cmd.Flags().BoolVar(&e.compactions, "compactions", false, "delete what is kept after compactions, instead of the trash")
	cmd.Flags().BoolVar(&e.yes, "yes", false, "do not ask for confirmation")
	return cmd
}

// before returns the time before which an item must have been removed to be deleted; zero: any time.
func (e *trashEmptying) before(byAge bool) (time.Time, error) {
	switch {
	case e.compactions && byAge:
		return time.Time{}, usage("--older-than cannot be used with --compactions, which deletes everything that is kept after compactions")
	case !byAge:
		return time.Time{}, nil
	}
	age, err := config.ParseDuration(e.olderThan)
	if err != nil {
		return time.Time{}, usage("--older-than: %w", err)
	}
	return time.Now().Add(-age), nil
}

// empty asks whether it is meant, unless told not to, and removes.
func (e *trashEmptying) empty(ctx context.Context, s streams, f *adminFlags, c *adminClient, name string, before time.Time) error {
	r, _, err := c.Repository(ctx, name)
	if err != nil {
		return err
	}
	if !e.yes {
		if err := confirm(s, e.question(&r), cmp.Or(r.Name, r.ID), "--yes empties without asking"); err != nil {
			return err
		}
	}
	said := "removed %d items, %s\n"
	empty := func() (client.Emptied, json.RawMessage, error) { return c.EmptyTrash(ctx, name, before) }
	if e.compactions {
		said = "deleted %d packs kept after compactions, %s\n"
		empty = func() (client.Emptied, json.RawMessage, error) { return c.EmptyKept(ctx, name) }
	}
	emptied, text, err := empty()
	if err != nil {
		return err
	}
	if f.json {
		return terminal.JSON(s.out, text)
	}
	_, err = fmt.Fprintf(s.out, said, emptied.Items, terminal.Bytes(emptied.Bytes))
	return err
}

// question says what will be gone.
func (e *trashEmptying) question(r *client.Repository) string {
	what := fmt.Sprintf("The trash has %d items, %s. This removes for good ", r.Usage.TrashItems, terminal.Bytes(r.Usage.TrashBytes))
	switch {
	case e.compactions:
		return fmt.Sprintf("After compactions %d packs are kept, %s. This removes for good all of them.", r.Usage.KeptItems, terminal.Bytes(r.Usage.KeptBytes))
	case e.olderThan == "":
		return what + "all of them."
	}
	return what + "those that were removed more than " + e.olderThan + " ago."
}
