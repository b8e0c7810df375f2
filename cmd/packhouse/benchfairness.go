package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"packhouse/bench"
	"packhouse/bench/report"
	"packhouse/internal/terminal"
)

// fairnessBench is the command line of `bench fairness`.
type fairnessBench struct {
	bench.Fairness
	phase   time.Duration
	json    string
	trouble string
}

func benchFairness(s streams) *cobra.Command {
	var o fairnessBench
	cmd := &cobra.Command{
		Use:   "fairness",
		Short: "Measure honest clients beside others that take what they can get",
		Long: `Starts a server in a temporary directory, and honest clients of both protocols: small puts, gets,
listings, locks, gets on new connections ("connect"), and first logins of users whose password has
a slow hash. Prints how long their requests take alone, and beside

  silent   connections that never send anything
  uploads  uploads that send one byte a second, of a user who has logged in
  readers  readers of a large item, at 16 KiB a second, of the same user
  logins   wrong passwords, all at once and over and over, each of another name
  all      all of these together

as p50 and p99, and as ratio. Before each phase with trouble is one without, in each round, so that
both see the same of what else the machine does. Nothing is judged: where p99 is more than twice
that without trouble, look why.

  packhouse bench fairness --dir /srv/backup --json fairness.json
  packhouse bench fairness --silent 1000 --uploads 0 --readers 0 --logins 0

The trouble is made by a process of its own, from several addresses of loopback. It shares the
processors with the server and with the honest clients; elsewhere it would have its own. So what
the server spends on the trouble is in the figures, and what the trouble itself costs is, too: the
processor time of all three is printed. If theirs together with the server's is as much as the
machine has, the figures say more of the machine than of the server.

The honest clients send a fixed number of requests a second, and a request that had to wait for
the one before it counts from when it was due.

Exit codes: 0 measured, 1 failure, 2 wrong command line.`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := untilInterrupt(cmd.Context())
			defer stop()
			if o.trouble != "" {
				return bench.MakeTrouble(ctx, o.trouble, os.Stdin, s.out)
			}
			return o.run(ctx, s)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Dir, "dir", os.TempDir(), "`directory` on the disk to measure")
	f.IntVar(&o.Trouble.Silent, "silent", 5000, "`number` of connections that never send anything; 0: none, as with the next three")
	f.IntVar(&o.Trouble.Uploads, "uploads", 700, "`number` of slow uploads")
	f.IntVar(&o.Trouble.Readers, "readers", 64, "`number` of slow readers")
	f.IntVar(&o.Trouble.Logins, "logins", 100, "`number` of wrong logins at once")
	f.IntVar(&o.Addresses, "addresses", 8, "`number` of addresses that the trouble comes from")
	f.IntVar(&o.Connections, "connections", 8, "`number` of connections of the honest clients")
	f.IntVar(&o.Rate, "rate", 200, "`requests` a second that the honest clients send together")
	f.DurationVar(&o.phase, "time", 10*time.Second, "`time` of each phase")
	f.IntVar(&o.Rounds, "rounds", 3, "`number` of rounds")
	f.StringVar(&o.json, "json", "", "also write everything that was measured to this `file`")
	f.StringVar(&o.trouble, "trouble", "", "make the trouble of a run")
	if err := f.MarkHidden("trouble"); err != nil {
		panic(err) // there is such a flag
	}
	return cmd
}

func (o *fairnessBench) run(ctx context.Context, s streams) error {
	if err := o.check(); err != nil {
		return err
	}
	var err error
	if o.Path, err = os.Executable(); err != nil {
		return fmt.Errorf("find the path of this program: %w", err)
	}
	o.Program, o.Seconds = version(), o.phase.Seconds()
	steps := terminal.NewSteps(s.err)
	o.Progress = func(p bench.Progress) { steps.Set(p.Done, p.Total, p.Step) }
	run, err := o.Run(ctx)
	steps.End()
	if ctx.Err() != nil {
		err = errors.New("interrupted; the server and the clients are stopped and the temporary directory is removed")
	}
	if run == nil {
		return err
	}
	return errors.Join(err, report.FairnessTable(s.out, run), writeFile(o.json, run.Write))
}

// check refuses what cannot be measured.
func (o *fairnessBench) check() error {
	t := o.Trouble
	switch {
	case min(t.Silent, t.Uploads, t.Readers, t.Logins) < 0:
		return usage("a number of clients must not be below 0")
	case t.Connections() == 0:
		return usage("there is no trouble to measure beside: --silent, --uploads, --readers and --logins are all 0")
	case min(o.Addresses, o.Connections, o.Rate, o.Rounds) < 1:
		return usage("--addresses, --connections, --rate and --rounds must be at least 1")
	case o.Connections < 2:
		return usage("--connections must be at least 2, one for each protocol")
	case o.phase < time.Second:
		return usage("--time must be at least 1s, not %v", o.phase)
	}
	output := benchOutput{json: o.json}
	if err := output.check(); err != nil {
		return err
	}
	return enoughFiles(t.Connections())
}

// enoughFiles refuses more connections than a process may have. Go has raised the limit to the hard one by now.
func enoughFiles(connections int) error {
	const own = 64 // and what a process has open beside
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	if need := uint64(connections + own); files.Cur < need {
		return usage("%d connections need %d open files, and a process may have %d (ulimit -Hn): raise that, or use less with --silent and --uploads", connections, need, files.Cur)
	}
	return nil
}
