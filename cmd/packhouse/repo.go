package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"packhouse/api/client"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/internal/terminal"
	"packhouse/repo/datadir"
	"packhouse/repo/layout"
)

// stateOf describes whether a repository can be used, and if not, why.
func stateOf(r *client.Repository) string {
	switch {
	case r.Error != nil:
		return "unusable: " + r.Error.Detail
	case r.Health.Damaged:
		return "damaged: " + r.Health.Reason
	case !r.Health.Writable:
		return "read-only: " + r.Health.Reason
	case r.Health.Reason != "":
		return "degraded: " + r.Health.Reason
	case len(r.Health.Short) > 0:
		short := r.Health.Short[0]
		return "short of " + short.Of + ": " + short.Help
	}
	return "ok"
}

func repoCommand(s streams) *cobra.Command {
	f := &adminFlags{}
	parent := &cobra.Command{
		Use:   "repo",
		Short: "List, inspect, create and destroy repositories",
		Long: `Sends requests to the server that runs on the data directory. If none runs, the command opens
the directory itself.

  packhouse repo list
  packhouse repo info laptop --json
  packhouse repo plans laptop
  packhouse repo history laptop --since 24h
  packhouse repo rollback laptop --to '2026-11-27 03:00'
  packhouse repo quota laptop 500G
  packhouse repo backup laptop /mnt/usb/laptop
  packhouse repo restore /mnt/usb/laptop --as laptop2
  packhouse repo info -d /srv/backup/laptop
  packhouse repo salvage laptop --for 2h
  packhouse repo accept-loss laptop

Exit codes: 0 success, 1 failure (also: no such repository), 2 wrong command line.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f.add(parent)
	parent.AddCommand(repoList(s, f), repoInfo(s, f), repoPlans(s, f), repoHistory(s, f), repoRollback(s, f), repoExport(s, f), repoBackup(s, f), repoCreate(s, f), repoDestroy(s, f), repoRestore(s, f), repoPurge(s, f), repoQuota(s, f), repoRebuild(s, f), repoSalvage(s, f), repoAcceptLoss(s, f))
	return parent
}

func repoList(s streams, f *adminFlags) *cobra.Command {
	removed := false
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the repositories",
		Long: `Lists the repositories: name, dialect, items, bytes, quota, bytes that can be restored, how many of
them there may be, last backup and state. On a terminal it prints a heading; otherwise it separates
the columns by tabs and prints plain numbers.

With --removed it lists the repositories that were destroyed and can be restored instead: ID, name,
dialect, items, bytes, when they were destroyed and when they go for good.`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withAdminClient(cmd, s, f, func(c *adminClient) error {
				if removed {
					return listRemoved(cmd.Context(), s, f, c)
				}
				repositories, text, err := c.listed(cmd.Context())
				if err != nil {
					return err
				}
				if f.json {
					return terminal.JSON(s.out, text)
				}
				t := terminal.NewTable(s.out, "NAME", "DIALECT", "ITEMS", "BYTES", "QUOTA", "TRASH", "TRASH QUOTA", "LAST BACKUP", "STATE")
				limit := func(n *int64) string {
					if n == nil {
						return "-"
					}
					return t.Size(*n)
				}
				for _, r := range repositories {
					backup := time.Time{}
					if r.Usage.LastBackup != nil {
						backup = *r.Usage.LastBackup
					}
					t.Row(r.Name, r.Dialect, fmt.Sprint(r.Usage.Items), t.Size(r.Usage.Bytes), limit(r.Usage.Quota),
						t.Size(r.Usage.TrashBytes), limit(r.Usage.TrashQuota), t.Time(backup), stateOf(&r))
				}
				return t.End()
			})
		},
	}
	cmd.Flags().BoolVar(&removed, "removed", false, "list the repositories that were destroyed and can be restored")
	return cmd
}

// listed are the repositories that a command line is about: all, or the one in its directory where the server of the directory above has
// more.
func (c *adminClient) listed(ctx context.Context) ([]client.Repository, json.RawMessage, error) {
	if !c.Single || c.Only == "" {
		return c.Repositories(ctx)
	}
	r, text, err := c.Repository(ctx, c.Only)
	if err != nil {
		return nil, nil, err
	}
	text, err = json.Marshal(map[string]any{"repositories": []json.RawMessage{text}})
	return []client.Repository{r}, text, err
}

func repoInfo(s streams, f *adminFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "info NAME",
		Short: "Show one repository",
		Long: `Shows one repository. If -d is the directory of a single repository, leave NAME out.

For V'Ger repositories it also shows the state of compactions: open plans, whose source packs stay until
the client has stored its index (packhouse repo plans shows all of them); packs that are kept after
compactions and deleted when disk space is needed (packhouse trash list --compactions); and
packs that were brought back because a client requested them.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAdminClient(cmd, s, f, func(c *adminClient) error {
				name, err := c.name(args)
				if err != nil {
					return err
				}
				r, text, err := c.Repository(cmd.Context(), name)
				if err != nil {
					return err
				}
				if f.json {
					return terminal.JSON(s.out, text)
				}
				origin, err := c.Origin(cmd.Context(), name, false)
				if err != nil {
					origin = nil // a server of an earlier version does not know
				}
				return showRepository(s, &r, origin)
			})
		},
	}
}

func showRepository(s streams, r *client.Repository, origin *layout.Origin) error {
	quota := limitText(r.Usage.Quota)
	if r.Usage.Quota != nil {
		quota += fmt.Sprintf(" (%s counted)", terminal.Bytes(r.Usage.Counted))
	}
	lost := ""
	if r.Usage.Missing > 0 || r.Usage.Damaged > 0 {
		lost = fmt.Sprintf("%d items missing, %s; %d damaged", r.Usage.Missing, terminal.Bytes(r.Usage.Lost), r.Usage.Damaged)
	}
	lines := [][2]string{
		{"name", r.Name}, {"id", r.ID}, {"dialect", r.Dialect}, {"created", r.Created.Local().Format(time.RFC3339)},
		{"items", fmt.Sprint(r.Usage.Items)}, {"bytes", terminal.Bytes(r.Usage.Bytes)}, {"quota", quota},
		{"trash", fmt.Sprintf("%d items, %s of %s", r.Usage.TrashItems, terminal.Bytes(r.Usage.TrashBytes), limitText(r.Usage.TrashQuota))},
		{"grace", plainTime(r.Grace)},
		{"history", changes(r)},
		{"adopted", adopted(origin)},
		{"shared with", sharedWith(origin)},
		{"unverified", unverified(r)},
		{"scrubbed", scrubbed(r)},
		{"last backup", lastBackup(r)},
		{"log", fmt.Sprintf("%d segments, %s; %d items in it, %s; %d rows not in the index file yet",
			r.Log.Segments, terminal.Bytes(r.Log.Bytes), r.Log.Items, terminal.Bytes(r.Log.Live), r.Log.PendingRows)},
	}
	if r.Dialect == "vger" {
		lines = append(lines, compactions(r)...)
	}
	for _, line := range append(lines, [2]string{"lost", lost}, [2]string{"state", stateOf(r)}) {
		if line[1] == "" {
			continue // a single repository has no name, and most have lost nothing
		}
		if _, err := fmt.Fprintf(s.out, "%-12s %s\n", line[0], terminal.Printable(line[1])); err != nil {
			return err
		}
	}
	return nil
}

func lastBackup(r *client.Repository) string {
	if r.Usage.LastBackup == nil {
		return "never"
	}
	return r.Usage.LastBackup.Local().Format(time.RFC3339)
}

// changes says how many changes are recorded.
func changes(r *client.Repository) string {
	if r.History == nil {
		return "none is recorded: that needs a grace time"
	}
	return fmt.Sprintf("%d changes since %s; packhouse repo history shows them, packhouse repo rollback undoes them",
		r.Usage.Changes, r.History.Local().Format(time.RFC3339))
}

// adopted says where a repository comes from.
func adopted(o *layout.Origin) string {
	if o == nil {
		return ""
	}
	return fmt.Sprintf("%s from %s, a directory of %s", o.At.Local().Format(time.RFC3339), o.Source, o.Layout)
}

// sharedWith says whose files those of the repository are, too.
func sharedWith(o *layout.Origin) string {
	if o == nil || !o.Shared() {
		return ""
	}
	if _, err := os.Stat(o.Source); errors.Is(err, os.ErrNotExist) {
		return ""
	}
	return o.Source + ": removing items frees nothing as long as it has them; packhouse adopt --finish removes them there"
}

// unverified says of how many items nothing is known against which their bytes could be held.
func unverified(r *client.Repository) string {
	if r.Usage.Unverified == 0 {
		return ""
	}
	return fmt.Sprintf("%d items, %s; the next scrub reads them", r.Usage.Unverified, terminal.Bytes(r.Usage.UnverifiedBytes))
}

// scrubbed says what was read, and since when nothing may have been.
func scrubbed(r *client.Repository) string {
	c := r.Scrubs
	if c.Oldest == nil {
		return ""
	}
	oldest := c.Oldest.Local().Format(time.RFC3339)
	if c.Since == nil {
		return "nothing yet; oldest unverified byte: from " + oldest
	}
	return fmt.Sprintf("%d of %d items, %s of %s, since %s; oldest unverified byte: from %s", c.Items, r.Usage.Items,
		terminal.Bytes(c.Bytes), terminal.Bytes(r.Usage.Bytes), c.Since.Local().Format(time.RFC3339), oldest)
}

func repoCreate(s streams, f *adminFlags) *cobra.Command {
	dialect := ""
	cmd := &cobra.Command{
		Use:   "create NAME --dialect borgstore|restic|vger",
		Short: "Create a repository",
		Long: `Creates an empty repository for clients of one protocol. Clients with write permission create
repositories themselves (borg repo-create, vykar init); this command is for clients without.

  packhouse repo create laptop --dialect borgstore`,
		Args: exactly(1, "a NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !knownDialect(dialect) {
				return errDialect
			}
			if err := datadir.CheckName(args[0]); err != nil {
				return usage("%w", err)
			}
			return withAdminClient(cmd, s, f, func(c *adminClient) error {
				if c.Single {
					return usage("the directory is a single repository; give the data directory with --data-dir")
				}
				if err := c.Create(cmd.Context(), args[0], dialect); err != nil {
					return err
				}
				warnUnreachable(s, args[0], dialect)
				return doneTo(s, f.json, "created", args[0])
			})
		},
	}
	cmd.Flags().StringVar(&dialect, "dialect", "", "protocol of the repository: borgstore, restic or vger")
	return cmd
}

func repoDestroy(s streams, f *adminFlags) *cobra.Command {
	yes, now := false, false
	cmd := &cobra.Command{
		Use:   "destroy NAME",
		Short: "Remove a repository and all its backups",
		Long: `Removes a repository. If its removed items have a grace time (setting grace), it is set aside for as long
and can be restored (packhouse repo restore); otherwise, or with --now, nothing of it can be. Its name is
free immediately. Asks for the repository's name as confirmation, unless --yes is given.

Of a repository that is missing, because its directory was moved or removed, the server forgets that it was
there: until then it answers restic's clients with an error, which would take it for an empty one.

  packhouse repo destroy old-laptop`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAdminClient(cmd, s, f, func(c *adminClient) error {
				name, err := c.name(args)
				if err != nil {
					return err
				}
				r, _, err := c.Repository(cmd.Context(), name)
				if client.Refused(err, http.StatusGone) {
					return forgetVanished(cmd, s, f, c, name, yes)
				}
				if err != nil {
					return err
				}
				if !yes {
					what := fmt.Sprintf("This destroys %d items, %s. Last backup: %s.", r.Usage.Items, terminal.Bytes(r.Usage.Bytes), lastBackup(&r))
					if err := confirm(s, what, cmp.Or(r.Name, r.ID), "--yes destroys without asking"); err != nil {
						return err
					}
				}
				if err := c.Destroy(cmd.Context(), name, now); err != nil {
					return err
				}
				return doneTo(s, f.json, "destroyed", shownName(name))
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask for confirmation")
	cmd.Flags().BoolVar(&now, "now", false, "without grace time: nothing can be restored, and the disk space is free soon")
	return cmd
}

// forgetVanished has the server forget a repository that is missing.
func forgetVanished(cmd *cobra.Command, s streams, f *adminFlags, c *adminClient, name string, yes bool) error {
	if !yes {
		what := fmt.Sprintf("%s was here and is missing. If it is on a volume that is not mounted, mount that. This has the server forget it: for restic's clients there is no repository then.", name)
		if err := confirm(s, what, name, "--yes forgets without asking"); err != nil {
			return err
		}
	}
	if err := c.Destroy(cmd.Context(), name, false); err != nil {
		return err
	}
	if f.json {
		return doneTo(s, true, "forgot", name)
	}
	_, err := fmt.Fprintf(s.out, "forgot %s, which is missing\n", name)
	return err
}

// doneTo says what a command without another answer has done, and to what. As JSON that is {"created": NAME} and the like.
func doneTo(s streams, asJSON bool, what, name string) error {
	if asJSON {
		return printJSON(s, map[string]string{what: name})
	}
	_, err := fmt.Fprintf(s.out, "%s %s\n", what, name)
	return err
}

func shownName(name string) string {
	if name == "" {
		return "the repository"
	}
	return name
}

// confirm says what will happen, and asks for the name of what it happens to.
func confirm(s streams, what, name, otherwise string) error {
	if f, ok := s.in.(*os.File); !ok || !terminal.Is(f) {
		return usage("standard input is not a terminal, so nobody can confirm this; %s", otherwise)
	}
	fmt.Fprintf(s.err, "%s\nType %s to continue: ", what, name)
	answer, err := bufio.NewReader(s.in).ReadString('\n')
	if err != nil {
		return err
	}
	if strings.TrimSpace(answer) != name {
		return errors.New("not confirmed; nothing was changed")
	}
	return nil
}

func repoQuota(s streams, f *adminFlags) *cobra.Command {
	trash := ""
	cmd := &cobra.Command{
		Use:   "quota NAME [SIZE|none|default]",
		Short: "Show or set the quota of a repository",
		Long: `Without SIZE it shows quota and usage. With SIZE it stores a quota in the repository, which overrides
the configuration; "none" means no limit, and "default" goes back to the configuration. --trash
stores a trash_quota in the same way.

  packhouse repo quota laptop 500G
  packhouse repo quota laptop --trash 100G
  packhouse repo quota laptop default`,
		Args: cobra.RangeArgs(0, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAdminClient(cmd, s, f, func(c *adminClient) error {
				name, args, err := c.nameAndRest(args)
				if err != nil {
					return err
				}
				if len(args) > 1 {
					return usage("too many arguments")
				}
				limits := map[string]any{}
				if len(args) == 1 {
					if limits["quota"], err = quotaArgument(args[0]); err != nil {
						return usage("%w", err)
					}
				}
				if cmd.Flags().Changed("trash") {
					if limits["trash_quota"], err = quotaArgument(trash); err != nil {
						return usage("--trash: %w", err)
					}
				}
				return setQuota(cmd, s, f, c, name, limits)
			})
		},
	}
	cmd.Flags().StringVar(&trash, "trash", "", "`size` of what can be restored of the repository when clients add to it, none or default")
	return cmd
}

// setQuota sets limits, if there are any, and shows those that hold then.
func setQuota(cmd *cobra.Command, s streams, f *adminFlags, c *adminClient, name string, limits map[string]any) (err error) {
	var r client.Repository
	var text json.RawMessage
	if len(limits) == 0 {
		r, text, err = c.Repository(cmd.Context(), name)
	} else {
		r, text, err = c.SetQuota(cmd.Context(), name, limits)
	}
	if err != nil {
		return err
	}
	if f.json {
		return terminal.JSON(s.out, text)
	}
	_, err = fmt.Fprintf(s.out, "quota %s, used %s\ntrash quota %s, used %s\n", limitText(r.Usage.Quota), terminal.Bytes(r.Usage.Counted),
		limitText(r.Usage.TrashQuota), terminal.Bytes(r.Usage.TrashBytes))
	return err
}

// limitText is a limit as the API has it.
func limitText(limit *int64) string {
	if limit == nil {
		return "none"
	}
	return terminal.Bytes(*limit)
}

// quotaArgument is what the API takes for SIZE, none or default.
func quotaArgument(text string) (any, error) {
	if text == "default" {
		return text, nil
	}
	n, err := config.ParseQuota(text)
	if err != nil || n < 0 {
		return nil, err
	}
	return n, nil
}
