package main

import (
	"context"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func benchCommand(s streams) *cobra.Command {
	parent := &cobra.Command{
		Use:   "bench",
		Short: "Measure the speed of Packhouse on this machine",
		Long: `Measures with servers and data of its own, which are removed afterwards; no repository is touched.

  packhouse bench store --quick --dir /srv/backup
  packhouse bench show today.json --report today.html
  packhouse bench compact --dir /srv/backup --size 4G
  packhouse bench adopt --dir /srv/backup --files 640000
  packhouse bench fairness --dir /srv/backup

Exit codes: 0 measured, 1 failure, 2 wrong command line.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	parent.AddCommand(benchStore(s), benchShow(s), benchCompact(s), benchAdopt(s), benchFairness(s), benchFloor())
	return parent
}

// untilInterrupt returns a context that ends with SIGINT or SIGTERM, so that a measurement that is broken off takes
// its servers and its scratch directory with it.
func untilInterrupt(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
}
