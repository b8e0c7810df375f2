package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"packhouse/api/admin"
	"packhouse/internal/terminal"
)

// rollbackFlags are what `repo rollback` was asked for.
type rollbackFlags struct {
	to, principal        string
	dryRun, partial, yes bool
}

func repoRollback(s streams, f *adminFlags) *cobra.Command {
	var flags rollbackFlags
	cmd := &cobra.Command{
		Use:   "rollback NAME --to TIME",
		Short: "Make all items what they were at a moment",
		Long: `Undoes all changes since a moment, as after an attack with stolen credentials: items that were deleted
come back, overwritten ones are what they were, renamed ones have their old names, and new ones go. What
is there now goes to the trash, so a rollback is undone by another one to the moment before it. Needs a
grace time (setting grace), and reaches back as far as that. Locks stay as they are.

It shows what it will do and asks for confirmation, unless --yes is given. While it runs, clients get
"busy" (503). After a crash the next start completes it.

A TIME is 2026-11-27 03:00 or 2026-11-27 03:00:00 (local time), 2026-11-27T03:00:00Z, or as long ago as
24h or 7d. packhouse repo history shows what was changed when, and by whom.

  packhouse repo rollback laptop --to '2026-11-27 03:00' --dry-run
  packhouse repo rollback laptop --to 7d
  packhouse repo rollback laptop --to 7d --principal mallory

With --principal only what this user changed is undone, where nobody else has changed the item since. If
not all items of the moment can be brought back, nothing is done unless --partial is given.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := flags.request(cmd.Flags().Changed("principal"))
			if err != nil {
				return err
			}
			return withAdminClient(cmd, s, f, func(c *adminClient) error {
				name, err := c.name(args)
				if err != nil {
					return err
				}
				return flags.run(cmd.Context(), s, f, c, name, req)
			})
		},
	}
	cmd.Flags().StringVar(&flags.to, "to", "", "the moment: a `time`, or how long ago it was")
	cmd.Flags().StringVar(&flags.principal, "principal", "", "undo only what this `user` changed")
	cmd.Flags().BoolVar(&flags.dryRun, "dry-run", false, "only show what would be done")
	cmd.Flags().BoolVar(&flags.partial, "partial", false, "leave items as they are that cannot be brought back")
	cmd.Flags().BoolVar(&flags.yes, "yes", false, "do not ask for confirmation")
	return cmd
}

func (flags *rollbackFlags) request(byPrincipal bool) (req admin.RollbackRequest, err error) {
	if flags.to == "" {
		return req, usage("--to TIME is missing: the moment to go back to")
	}
	if req.To, err = timeOrAge("--to", flags.to); err != nil {
		return req, err
	}
	if byPrincipal {
		req.Principal = &flags.principal
	}
	req.Partial = flags.partial
	return req, nil
}

func (flags *rollbackFlags) run(ctx context.Context, s streams, f *adminFlags, c *adminClient, name string, req admin.RollbackRequest) error {
	plan, text, err := c.PlanRollback(ctx, name, req)
	if err != nil {
		return err
	}
	if flags.dryRun && f.json {
		return terminal.JSON(s.out, text)
	}
	what := describeRollback(name, plan)
	if flags.dryRun {
		_, err := fmt.Fprintln(s.out, what)
		return err
	}
	if !flags.yes {
		if err := confirm(s, what, cmp.Or(name, "yes"), "--yes goes back without asking, --dry-run shows what would be done"); err != nil {
			return err
		}
	}
	req.Expect = plan.Last
	steps := terminal.NewSteps(s.err)
	plan, text, err = c.Rollback(ctx, name, req, func(done, total int64) {
		if done < total {
			steps.Set(int(done), int(total), "changes")
		}
	})
	steps.End()
	if err != nil {
		return err
	}
	if f.json {
		return terminal.JSON(s.out, text)
	}
	_, err = fmt.Fprintf(s.out, "%s\nDone.\n", describeRollback(name, plan))
	return err
}

// describeRollback says what a rollback does, in lines.
func describeRollback(name string, p admin.RollbackPlan) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, "\n  "+format, args...) }
	amount := func(a admin.Amount) string { return fmt.Sprintf("%d items, %s", a.Items, terminal.Bytes(a.Bytes)) }
	fmt.Fprintf(&b, "%s, back to %s (%d changes since are undone):", terminal.Printable(shownName(name)), p.To.Local().Format("2006-01-02 15:04:05 -0700 MST"), p.Changes)
	line("%s, that were deleted or renamed come back", amount(p.Returns))
	line("%s, take the place of what is there now", amount(p.Replaces))
	line("%s, are new since then and go to the trash", amount(p.Removes))
	if p.Lost > 0 {
		line("%d items cannot be brought back:", p.Lost)
		for _, lost := range p.LostKeys {
			line("  %s: %s", terminal.Printable(lost.Key), lost.Why)
		}
		for _, near := range []struct {
			which string
			at    *time.Time
		}{{"last moment before it", p.Before}, {"first moment after it", p.After}} {
			if near.at != nil {
				line("the %s of which all can be brought back is %s", near.which, near.at.Local().Format("2006-01-02T15:04:05.000Z07:00"))
			}
		}
	}
	return b.String()
}
