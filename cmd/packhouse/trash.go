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

// trashRestoring is what `trash restore` was asked for.
type trashRestoring struct {
	as, prefix, since, principal string
	replace                      bool
}

func trashRestore(s streams, f *adminFlags) *cobra.Command {
	var r trashRestoring
	cmd := &cobra.Command{
		Use:   "restore NAME [ID…]",
		Short: "Restore removed items",
		Long: `Restores removed items under their former keys: those of the IDs, or all with a prefix, that were removed
since a time, or that a user had stored. Of several versions of a key it takes the last. Where something
has the key now, the item is skipped, or with --replace takes its place, and that goes to the trash. One
item can be restored under another key with --as.

  packhouse trash restore laptop ID --as archives/rescued
  packhouse trash restore laptop ID1 ID2 ID3
  packhouse trash restore laptop --prefix packs/ --since 24h
  packhouse trash restore laptop --prefix index/ --replace

packhouse repo rollback brings back the state of a moment instead, renamed and replaced items included.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := r.request(cmd.Flags().Changed("principal"))
			if err != nil {
				return err
			}
			return withAdminClient(cmd, s, f, func(c *adminClient) error {
				name, ids, err := c.nameAndRest(args)
				if err != nil {
					return err
				}
				return r.run(cmd.Context(), s, f, c, name, ids, req)
			})
		},
	}
	cmd.Flags().StringVar(&r.as, "as", "", "`key` to restore one item under")
	cmd.Flags().StringVar(&r.prefix, "prefix", "", "items whose key begins with this `text`")
	cmd.Flags().StringVar(&r.since, "since", "", "items that were removed since this `time`, or as long ago as 24h or 7d")
	cmd.Flags().StringVar(&r.principal, "principal", "", "items that this `user` had stored")
	cmd.Flags().BoolVar(&r.replace, "replace", false, "also where something has the key now")
	return cmd
}

func (r *trashRestoring) request(byPrincipal bool) (req admin.RestoreRequest, err error) {
	req.Prefix, req.Replace = r.prefix, r.replace
	if r.since != "" {
		if req.Since, err = timeOrAge("--since", r.since); err != nil {
			return req, err
		}
	}
	if byPrincipal {
		req.Principal = &r.principal
	}
	return req, nil
}

func (r *trashRestoring) run(ctx context.Context, s streams, f *adminFlags, c *adminClient, name string, ids []string, req admin.RestoreRequest) error {
	selects := req.Prefix != "" || !req.Since.IsZero() || req.Principal != nil
	switch {
	case len(ids) == 0 && !selects:
		return usage("which items: give IDs (packhouse trash list shows them), --prefix, --since or --principal")
	case r.as != "" && (len(ids) != 1 || selects || req.Replace):
		return usage("--as is for one ID")
	case len(ids) == 1 && !selects && !req.Replace:
		item, text, err := c.Restore(ctx, name, ids[0], r.as)
		switch {
		case err != nil:
			return err
		case f.json:
			return terminal.JSON(s.out, text)
		}
		_, err = fmt.Fprintf(s.out, "restored %s, %s\n", terminal.Printable(item.Key), terminal.Bytes(item.Size))
		return err
	}
	req.IDs = ids
	done, text, err := c.RestoreMany(ctx, name, req)
	switch {
	case err != nil:
		return err
	case f.json:
		return terminal.JSON(s.out, text)
	}
	for _, failed := range done.Failed {
		fmt.Fprintf(s.err, "not restored: %s\n", terminal.Printable(failed))
	}
	_, err = fmt.Fprintf(s.out, "restored %d items, %s; %d skipped, as something has their keys; %d failed\n",
		done.Items, terminal.Bytes(done.Bytes), done.Skipped, len(done.Failed))
	return err
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
