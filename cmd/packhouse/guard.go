package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"packhouse/api/admin"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/internal/terminal"
	"packhouse/repo"
)

func guardCommand(s streams) *cobra.Command {
	f := &adminFlags{}
	parent := &cobra.Command{
		Use:   "guard",
		Short: "Show and lift what limits the removal of snapshots",
		Long: `The guard of a repository limits what clients can do to its snapshots (borg's archives), whatever their
permissions, except to users and tokens with the role admin. Its rules are settings of the server or of one
repository (docs/configuration.md):

  min_age      for this long, whatever is removed or replaced can be restored
  guard        "refuse" also refuses the removal of snapshots younger than min_age
  keep_last    so many of the newest snapshots of each user stay restorable
  max_removed  so many snapshots can be removed within a day

  packhouse guard show laptop
  packhouse guard lift laptop --for 1h`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f.add(parent)
	parent.AddCommand(guardShow(s, f), guardLift(s, f))
	return parent
}

func guardShow(s streams, f *adminFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show the rules of a repository, and what they have refused",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAdminClient(cmd, s, f, func(c *adminClient) error {
				name, err := c.name(args)
				if err != nil {
					return err
				}
				g, text, err := c.Guard(cmd.Context(), name)
				if err != nil {
					return err
				}
				return printGuard(s, f, g, text)
			})
		},
	}
}

func guardLift(s streams, f *adminFlags) *cobra.Command {
	span, end := "", false
	cmd := &cobra.Command{
		Use:   "lift NAME --for TIME",
		Short: "Let clients remove snapshots for a time",
		Long: `Lets clients do for a time what the rules of the guard refuse, for example a large honest prune, and lets
go what only keep_last keeps. What min_age keeps can still be restored. It is recorded in the server's log and
in the audit log, and can be done only on the server itself.

  packhouse guard lift laptop --for 1h
  packhouse guard lift laptop --end`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var d time.Duration
			switch given := cmd.Flags().Changed("for"); {
			case given == end:
				return usage("either --for TIME or --end is needed")
			case given:
				var err error
				if d, err = config.ParseDuration(span); err != nil {
					return usage("--for: %w", err)
				}
				if d < time.Second || d > repo.MaxGuardLift {
					return usage("--for: expected a time from 1s to %dd", repo.MaxGuardLift/(24*time.Hour))
				}
			}
			return withAdminClient(cmd, s, f, func(c *adminClient) error {
				name, err := c.name(args)
				if err != nil {
					return err
				}
				g, text, err := c.LiftGuard(cmd.Context(), name, d)
				if err != nil {
					return err
				}
				return printGuard(s, f, g, text)
			})
		},
	}
	cmd.Flags().StringVar(&span, "for", "", "`time` for which nothing is refused, such as 1h, at most 7d")
	cmd.Flags().BoolVar(&end, "end", false, "do not lift it any longer")
	return cmd
}

func printGuard(s streams, f *adminFlags, g admin.Guard, text json.RawMessage) error {
	if f.json {
		return terminal.JSON(s.out, text)
	}
	removed, keep, lifted, held := "any number may be removed within a day", "none", "no", "nothing"
	if g.MaxRemoved != nil {
		removed = fmt.Sprintf("%d snapshots within a day; %d were", *g.MaxRemoved, g.Removed)
	}
	if g.KeepLast > 0 {
		keep = fmt.Sprintf("%d of each user", g.KeepLast)
	}
	if g.Lifted != nil {
		lifted = "until " + g.Lifted.Local().Format(time.RFC3339)
	}
	if g.HeldSince != nil {
		held = "what was removed since " + g.HeldSince.Local().Format(time.RFC3339)
	}
	lines := [][2]string{
		{"min_age", plainTime(g.MinAge)}, {"guard", g.Guard}, {"keep_last", keep}, {"max_removed", removed}, {"lifted", lifted},
		{"held", held}, {"grace", plainTime(g.Grace)}, {"protect", plainTime(g.Protect)},
	}
	rules := make([]string, 0, len(g.Refused))
	for rule := range g.Refused {
		rules = append(rules, rule)
	}
	slices.Sort(rules)
	for _, rule := range rules {
		if n := g.Refused[rule]; n > 0 {
			lines = append(lines, [2]string{"refused", fmt.Sprintf("%d requests by %s since the server opened the repository", n, rule)})
		}
	}
	for _, line := range lines {
		if _, err := fmt.Fprintf(s.out, "%-12s %s\n", line[0], terminal.Printable(line[1])); err != nil {
			return err
		}
	}
	return nil
}

// plainTime is a duration in seconds as people write it: "7d" for 604800.
func plainTime(seconds int64) string {
	switch d := time.Duration(seconds) * time.Second; {
	case d == 0:
		return "none"
	case d%(24*time.Hour) == 0:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	default:
		return d.String()
	}
}
