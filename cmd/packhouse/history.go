package main

import (
	"cmp"
	"encoding/json"
	"time"

	"github.com/spf13/cobra"

	"packhouse/api/admin"
	"packhouse/api/client"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/internal/terminal"
)

func repoHistory(s streams, f *adminFlags) *cobra.Command {
	var filter client.HistoryFilter
	since := ""
	cmd := &cobra.Command{
		Use:   "history NAME [KEY]",
		Short: "Show who changed which items",
		Long: `Shows the changes of items, the oldest first: when, what (store, overwrite, delete, move, restore), the
key, and who asked for it. With KEY only the changes of that item, also under the key that it had before
a move. Changes are recorded in repositories that have a grace time (setting grace), and kept for as
long, or at least 48 hours where very many are made; locks are left out. A change that a compaction made also has the ID of its job.

  packhouse repo history laptop
  packhouse repo history laptop config/manifest
  packhouse repo history laptop --since 24h --principal alice --json

If -d is the directory of a single repository, leave NAME out.`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if since != "" {
				at, err := timeOrAge("--since", since)
				if err != nil {
					return err
				}
				filter.Since = at
			}
			return withAdminClient(cmd, s, f, func(c *adminClient) error {
				name, rest, err := c.nameAndRest(args)
				if err != nil {
					return err
				}
				switch len(rest) {
				case 0:
				case 1:
					filter.Key = rest[0]
				default:
					return usage("the directory is one repository; leave the name out")
				}
				columns := []string{"TIME", "CHANGE", "KEY", "FROM", "PRINCIPAL", "ADDRESS", "JOB"}
				list := func(each func(admin.Change, json.RawMessage) error) error {
					return c.History(cmd.Context(), name, filter, each)
				}
				return printRows(s, f, columns, list, func(t *terminal.Table, row admin.Change) {
					t.Row(t.Time(row.Time), row.Kind, row.Key, cmp.Or(row.From, "-"), cmp.Or(row.Principal, "-"), cmp.Or(row.Address, "-"), cmp.Or(row.Job, "-"))
				})
			})
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "only changes since this `time`: 2026-11-25T18:00:00Z, '2026-11-25 19:00', or as long ago as 24h or 7d")
	cmd.Flags().StringVar(&filter.Principal, "principal", "", "only changes that this `user` asked for")
	return cmd
}

// timeOrAge reads the time of a flag, or how long ago it was.
func timeOrAge(flag, text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if at, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return at, nil
		}
	}
	age, err := config.ParseDuration(text)
	if err != nil {
		return time.Time{}, usage("%s: %q is neither a time such as 2026-11-25T18:00:00Z or '2026-11-25 19:00' nor a duration such as 24h or 7d", flag, text)
	}
	return time.Now().Add(-age), nil
}
