package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"

	"github.com/spf13/cobra"

	"packhouse/api/client"
	"packhouse/compact"
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
				query := url.Values{"when": {when}}
				if keep {
					query.Set("delete", "no")
				}
				if dry {
					return estimatePlan(cmd, s, f, c, client.Path(name, "compactions?dry_run=yes&"+query.Encode()), plan)
				}
				text, err := c.submitFile(cmd.Context(), client.Path(name, "compactions?"+query.Encode()), s.in, plan)
				if err != nil {
					return err
				}
				return f.follow(cmd, s, c, name, text, wait)
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

// submitFile posts a file, "-" being standard input, and returns the answer.
func (c *adminClient) submitFile(ctx context.Context, path string, in io.Reader, file string) (json.RawMessage, error) {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	resp, err := c.Post(ctx, path, in)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

func estimatePlan(cmd *cobra.Command, s streams, f *jobFlags, c *adminClient, path, plan string) error {
	text, err := c.submitFile(cmd.Context(), path, s.in, plan)
	if err != nil {
		return err
	}
	if f.admin.json {
		return printJSON(s.out, text)
	}
	var e compact.Estimate
	if err := json.Unmarshal(text, &e); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	_, err = fmt.Fprintf(s.out, "%d operations make %d items: %s read, %s written, %s freed; the repository shrinks by %s\n",
		e.Operations, e.Outputs, inBytes(e.Read), inBytes(e.Written), inBytes(e.Freed), inBytes(e.Saved))
	return err
}
