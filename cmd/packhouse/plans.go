package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"packhouse/api/client"
)

// planInfo is what the server tells of an open plan; see docs/api.md.
type planInfo struct {
	ID                 uint64
	Since              time.Time
	Principal, Address string
	Lock               string
	LockSince          time.Time `json:"lock_since"`
	Job                string
	Packs, Bytes       int64
}

// who is the plan's sender.
func (p *planInfo) who() string {
	if p.Address == "" {
		return p.Principal
	}
	return p.Principal + " at " + p.Address
}

func (p *planInfo) lock() string {
	switch {
	case p.Lock == "":
		return "without a lock"
	case p.LockSince.IsZero():
		return "lock " + p.Lock
	}
	return "lock " + p.Lock + " since " + p.LockSince.Local().Format(time.RFC3339)
}

// compactions are the lines of repo info about what compactions have left.
func (r *repositoryInfo) compactions() [][2]string {
	u := &r.Usage
	open := "none"
	if u.OpenPlans > 0 {
		open = fmt.Sprintf("%d, whose sources (%s) stay until their clients have stored their index", u.OpenPlans, inBytes(u.Open))
	}
	lines := [][2]string{
		{"kept", fmt.Sprintf("%d packs, %s; kept after compaction, deleted when disk space is needed", u.KeptItems, inBytes(u.KeptBytes))},
		{"returned", fmt.Sprintf("%s; removed by a compaction, and back as a client may need it", inBytes(u.Returned))},
		{"open plans", open},
	}
	for i := range r.Plans {
		p := &r.Plans[i]
		lines = append(lines, [2]string{"", fmt.Sprintf("since %s by %s: %d packs, %s; %s; job %s",
			p.Since.Local().Format(time.RFC3339), p.who(), p.Packs, inBytes(p.Bytes), p.lock(), p.Job)})
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
				t := newTable(s.out, "PLAN", "SINCE", "PRINCIPAL", "ADDRESS", "PACKS", "BYTES", "LOCK", "LOCKED SINCE", "JOB")
				err = c.Lines(cmd.Context(), http.MethodGet, client.Path(name, "plans"), nil, func(line json.RawMessage) error {
					if f.json {
						_, err := fmt.Fprintf(s.out, "%s\n", line)
						return err
					}
					var p planInfo
					if err := json.Unmarshal(line, &p); err != nil {
						return err
					}
					t.row(fmt.Sprint(p.ID), t.time(p.Since), p.Principal, orNone(p.Address), fmt.Sprint(p.Packs), t.size(p.Bytes),
						orNone(p.Lock), t.time(p.LockSince), p.Job)
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

// orNone is what a table shows where there is nothing.
func orNone(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
