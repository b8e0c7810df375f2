package main

import (
	"github.com/spf13/cobra"

	"packhouse/compact"
)

func scrubCommand(s streams) *cobra.Command {
	f := &jobFlags{}
	var when string
	var share float64
	var wait bool
	cmd := &cobra.Command{
		Use:   "scrub --repo NAME",
		Short: "Read stored bytes again and compare them with their digests",
		Long: `Queues a job that reads items and compares them with the size and BLAKE3 recorded when they were
stored. A damaged item is marked: it is not served from then on, never deleted by the server,
and whole again when a client stores the same bytes. A server does this by itself, a part
a day (see [maintenance] in docs/configuration.md).

  packhouse scrub --repo laptop --wait
  packhouse scrub --repo laptop --share 0.1 --when window

Exit codes: 0 accepted (with --wait: no damage), 1 failure, 2 wrong command line, 3 damage was found.`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if compact.CheckWhen(when) != nil {
				return usage("--when is now, window or a time such as 2026-01-31T01:30:00Z, not %q", when)
			}
			if !(share > 0 && share <= 1) {
				return usage("--share is a number above 0, at most 1")
			}
			return f.with(cmd, s, func(c *adminClient, name string) error {
				job, text, err := c.Scrub(cmd.Context(), name, when, share)
				if err != nil {
					return err
				}
				return f.follow(cmd, s, c, name, job, text, wait)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&when, "when", compact.WhenNow, "now, window (the maintenance window) or a `time` such as 2026-01-31T01:30:00Z")
	cmd.Flags().Float64Var(&share, "share", 1, "`part` of the repository's bytes to read, going on where the last part ended")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the job has ended")
	return cmd
}
