package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

func trashCommand(s streams) *cobra.Command {
	f := &deskFlags{}
	parent := &cobra.Command{
		Use:   "trash",
		Short: "Show and restore removed items within their grace time",
		Long: `Items that clients removed can be restored for the repository's grace time (the setting
grace; 0 by default, and always 0 for locks).

  packhouse trash list laptop
  packhouse trash restore laptop ID`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f.add(parent)
	parent.AddCommand(trashList(s, f), trashRestore(s, f))
	return parent
}

func trashList(s streams, f *deskFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "list NAME",
		Short: "List what can be restored",
		Long:  "Lists what can be restored, the next to expire first. With --json one document per line.",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withDesk(cmd, s, f, func(d *desk) error {
				name, err := d.name(args)
				if err != nil {
					return err
				}
				t := newTable(s.out, "ID", "KEY", "BYTES", "REMOVED", "EXPIRES")
				err = d.lines(cmd.Context(), http.MethodGet, of(name, "trash"), nil, func(line json.RawMessage) error {
					if f.json {
						_, err := fmt.Fprintf(s.out, "%s\n", line)
						return err
					}
					var row struct {
						ID, Key          string
						Size             int64
						Removed, Expires time.Time
					}
					if err := json.Unmarshal(line, &row); err != nil {
						return err
					}
					t.row(row.ID, row.Key, t.size(row.Size), t.time(row.Removed), t.time(row.Expires))
					return nil
				})
				if err != nil || f.json {
					return err
				}
				return t.end()
			})
		},
	}
}

func trashRestore(s streams, f *deskFlags) *cobra.Command {
	as := ""
	cmd := &cobra.Command{
		Use:   "restore NAME ID",
		Short: "Put a removed item back",
		Long: `Puts a removed item back under the key it had, or another with --as. Fails if an item is there.

  packhouse trash restore laptop ID --as archives/rescued`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withDesk(cmd, s, f, func(d *desk) error {
				names, ids := args[:len(args)-1], args[len(args)-1]
				name, err := d.name(names)
				if err != nil {
					return err
				}
				var body any
				if as != "" {
					body = map[string]string{"key": as}
				}
				var item struct {
					Key  string
					Size int64
				}
				text, err := d.ask(cmd.Context(), http.MethodPost, of(name, "trash/"+url.PathEscape(ids)+"/restore"), body, &item)
				if err != nil {
					return err
				}
				if f.json {
					return printJSON(s.out, text)
				}
				_, err = fmt.Fprintf(s.out, "restored %s, %s\n", printable(item.Key), inBytes(item.Size))
				return err
			})
		},
	}
	cmd.Flags().StringVar(&as, "as", "", "`key` to restore it under")
	return cmd
}
