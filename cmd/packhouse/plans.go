package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"packhouse/api/admin"
	"packhouse/api/client"
	"packhouse/internal/terminal"
)

// sender is who sent a plan, and from where.
func sender(p *admin.OpenPlan) string {
	if p.Address == "" {
		return p.Principal
	}
	return p.Principal + " at " + p.Address
}

// lockOf is the lock under which a plan was sent.
func lockOf(p *admin.OpenPlan) string {
	switch {
	case p.Lock == "":
		return "without a lock"
	case p.LockSince == nil:
		return "lock " + p.Lock
	}
	return "lock " + p.Lock + " since " + p.LockSince.Local().Format(time.RFC3339)
}

// compactions are the lines of repo info about what compactions have left.
func compactions(r *client.Repository) [][2]string {
	u := &r.Usage
	open := "none"
	if u.OpenPlans > 0 {
		open = fmt.Sprintf("%d, whose sources (%s) stay until their clients have stored their index", u.OpenPlans, terminal.Bytes(u.Open))
	}
	lines := [][2]string{
		{"kept", fmt.Sprintf("%d packs, %s; kept after compaction, deleted when disk space is needed", u.KeptItems, terminal.Bytes(u.KeptBytes))},
		{"returned", fmt.Sprintf("%s; removed by a compaction, and back as a client may need it", terminal.Bytes(u.Returned))},
		{"open plans", open},
	}
	for i := range r.Plans {
		p := &r.Plans[i]
		lines = append(lines, [2]string{"", fmt.Sprintf("since %s by %s: %d packs, %s; %s; job %s",
			p.Since.Local().Format(time.RFC3339), sender(p), p.Packs, terminal.Bytes(p.Bytes), lockOf(p), p.Job)})
	}
	if more := u.OpenPlans - int64(len(r.Plans)); more > 0 {
		lines = append(lines, [2]string{"", fmt.Sprintf("and %d more; packhouse repo plans shows all", more)})
	}
	return lines
}

func repoPlans(s streams, f *adminFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "plans NAME",
		Short: "List the compactions that wait for their client's index",
		Long: `Lists the open plans of a V'Ger repository, oldest first. A plan is open until the client has stored
the index that refers to the new packs. Until then the source packs stay as well, and do not count
against the quota. The open plans of an interrupted client end with its next compaction. With
--json it prints one document per line.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAdminClient(cmd, s, f, func(c *adminClient) error {
				name, err := c.name(args)
				if err != nil {
					return err
				}
				columns := []string{"PLAN", "SINCE", "PRINCIPAL", "ADDRESS", "PACKS", "BYTES", "LOCK", "LOCKED SINCE", "JOB"}
				list := func(each func(admin.OpenPlan, json.RawMessage) error) error {
					return c.Plans(cmd.Context(), name, each)
				}
				return printRows(s, f, columns, list, func(t *terminal.Table, p admin.OpenPlan) {
					locked := time.Time{}
					if p.LockSince != nil {
						locked = *p.LockSince
					}
					t.Row(fmt.Sprint(p.ID), t.Time(p.Since), p.Principal, orNone(p.Address), fmt.Sprint(p.Packs), t.Size(p.Bytes),
						orNone(p.Lock), t.Time(locked), p.Job)
				})
			})
		},
	}
}

// orNone is what a table shows where there is nothing.
func orNone(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
