package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"packhouse/api/client"
	"packhouse/compact"
	"packhouse/internal/terminal"
)

func compactCommand(s streams) *cobra.Command {
	f := &jobFlags{}
	var plan, when string
	var keep, dry, wait bool
	cmd := &cobra.Command{
		Use:   "compact --repo NAME --plan FILE",
		Short: "Rewrite items from the byte ranges that are still in use",
		Long: `Submits a plan: which byte ranges of which items make up new items, and which items to delete
afterwards. A plan is carried out as a whole or not at all; docs/compaction.md explains plans. borg
compact and vykar compact do not need this command: they send plans of their own.

  packhouse compact --repo laptop --plan plan.json --dry-run
  packhouse compact --repo laptop --plan plan.json --wait
  packhouse compact --repo laptop --plan - --when window < plan.json

Prints the job's ID; sending the same plan again returns the same job. If no server runs on the
directory, the command carries out the plan itself before it ends.

Exit codes: 0 accepted (with --wait: done), 1 refused or failed, 2 wrong command line.`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if plan == "" {
				return usage("--plan is missing: give a file, or - for standard input")
			}
			if compact.CheckWhen(when) != nil {
				return usage("--when must be now, window or a time such as 2026-01-31T01:30:00Z, not %q", when)
			}
			return f.with(cmd, s, func(c *adminClient, name string) error {
				in, err := openPlan(s, plan)
				if err != nil {
					return err
				}
				defer in.Close()
				o := client.PlanOptions{When: when, Keep: keep}
				if dry {
					e, text, err := c.Estimate(cmd.Context(), name, in, o)
					if err != nil {
						return err
					}
					return f.estimated(s, e, text)
				}
				job, text, err := c.Compact(cmd.Context(), name, in, o)
				if err != nil {
					return err
				}
				return f.follow(cmd, s, c, name, job, text, wait)
			})
		},
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&plan, "plan", "", "plan as JSON, a `file` or - for standard input")
	flags.StringVar(&when, "when", compact.WhenNow, "now, window (the maintenance window) or a `time` such as 2026-01-31T01:30:00Z")
	flags.BoolVar(&keep, "keep", false, "ignore the deletions in the plan")
	flags.BoolVar(&dry, "dry-run", false, "only check the plan, and print an estimate")
	flags.BoolVar(&wait, "wait", false, "wait until the job has ended")
	return cmd
}

// openPlan opens the file of a plan; "-" is standard input.
func openPlan(s streams, file string) (io.ReadCloser, error) {
	if file == "-" {
		return io.NopCloser(s.in), nil
	}
	return os.Open(file)
}

// estimated prints what a plan would do.
func (f *jobFlags) estimated(s streams, e compact.Estimate, text json.RawMessage) error {
	if f.json {
		return terminal.JSON(s.out, text)
	}
	change, by := "shrinks", e.Saved
	if by < 0 {
		change, by = "grows", -by
	}
	_, err := fmt.Fprintf(s.out, "%d operations make %d items: %s read, %s written, %s freed; the repository %s by %s\n",
		e.Operations, e.Outputs, terminal.Bytes(e.Read), terminal.Bytes(e.Written), terminal.Bytes(e.Freed), change, terminal.Bytes(by))
	return err
}
