package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"packhouse/bench"
	"packhouse/internal/bytesize"
	"packhouse/internal/terminal"
)

// storeBench is the command line of `bench store`.
type storeBench struct {
	dir         string
	profiles    string
	output      benchOutput
	quick, long bool
	only, peers []string
	rounds      int
	scale       float64
}

func benchStore(s streams) *cobra.Command {
	var o storeBench
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Measure requests, and compare with a minimal server and with other servers",
		Long: `Starts servers in a temporary directory and measures them over HTTP on loopback: durable
puts, gets, ranges, deletes, listings, compaction, a mixed load during scrubs and snapshots,
and how speed changes with the number of items. It also measures the floor (a minimal server
without index, permissions and limits, for comparison) and each --peer. The servers are
measured in turn within a round; figures are medians of at least three rounds.

  packhouse bench store --quick
  packhouse bench store --dir /srv/backup --json today.json --report today.html
  packhouse bench store --compare yesterday.json
  packhouse bench store --only put8k,list --peer rest-server=$HOME/go/bin/rest-server

Possible peers: ` + strings.Join(bench.PeerNames(), ", ") + `; give the path of the program. docs/benchmarks.md says how
to read the table.

Exit codes: 0 measured, 1 failure, 2 wrong command line.`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := untilInterrupt(cmd.Context())
			defer stop()
			return o.run(ctx, s)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.dir, "dir", os.TempDir(), "`directory` on the disk to measure")
	f.BoolVar(&o.quick, "quick", false, "a short run: few workloads, under two minutes on two cores")
	f.BoolVar(&o.long, "long", false, "takes hours: ten million items, an hour of mixed load, every workload on the peers")
	f.StringSliceVar(&o.only, "only", nil, "`names` or kinds of workloads, such as put8k,list")
	f.StringArrayVar(&o.peers, "peer", nil, "another server to measure, `name=path`; may be repeated")
	o.output.add(f)
	f.StringVar(&o.profiles, "profiles", "", "write profiles of our servers below this `directory`; figures are then lower")
	f.IntVar(&o.rounds, "rounds", 3, "`number` of rounds, at least 3")
	f.Float64Var(&o.scale, "scale", 1, "`factor` for times and numbers of items")
	if err := f.MarkHidden("scale"); err != nil { // for tests and profiles: figures of different factors cannot be compared
		panic(err) // there is such a flag
	}
	return cmd
}

func (o *storeBench) run(ctx context.Context, s streams) error {
	b, err := o.bench(ctx)
	if err != nil {
		return err
	}
	if err := o.output.check(); err != nil {
		return err
	}
	bytes, _ := b.Need()
	fmt.Fprintf(s.err, "%d workloads on %d servers, in %s; takes up to %s of disk meanwhile\n", len(b.Workloads), len(b.Servers), o.dir, bytesize.Text(bytes))
	steps := terminal.NewSteps(s.err)
	b.Progress = func(p bench.Progress) { steps.Set(p.Done, p.Total, p.Step) }
	run, err := b.Run(ctx)
	steps.End()
	if run == nil {
		return err
	}
	if ctx.Err() != nil {
		err = errors.New("interrupted; the servers are stopped and the temporary directory is removed")
	}
	if len(run.Workloads) == 0 {
		return err
	}
	return errors.Join(err, o.output.write(s.out, run))
}

// bench is the run that the command line asks for.
func (o *storeBench) bench(ctx context.Context) (*bench.Bench, error) {
	if o.rounds < 3 {
		return nil, usage("--rounds must be at least 3, not %d", o.rounds)
	}
	if o.scale <= 0 {
		return nil, usage("--scale must be above 0, not %v", o.scale)
	}
	mode := bench.Default
	switch {
	case o.quick && o.long:
		return nil, usage("--quick and --long cannot be used together")
	case o.quick:
		mode = bench.Quick
	case o.long:
		mode = bench.Long
	}
	workloads, err := bench.Select(bench.Suite(mode, o.scale), o.only)
	if err != nil {
		return nil, usage("--only: %w", err)
	}
	if o.profiles != "" {
		if o.profiles, err = filepath.Abs(o.profiles); err != nil {
			return nil, err
		}
		if entries, err := os.ReadDir(o.profiles); err != nil && !errors.Is(err, fs.ErrNotExist) || len(entries) > 0 {
			return nil, usage("--profiles must be empty or missing: %s", o.profiles)
		}
	}
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the path of this program: %w", err)
	}
	b := &bench.Bench{
		Dir: o.dir, Workloads: workloads, Program: version(), Profiles: o.profiles,
		Servers:  append(bench.Packhouse(program, version()), bench.FloorServer(program)),
		Settings: bench.Settings{Mode: mode, Rounds: o.rounds, Only: o.only, Scale: o.scale},
	}
	for _, text := range o.peers {
		name, path, ok := strings.Cut(text, "=")
		if !ok || !slices.Contains(bench.PeerNames(), name) {
			return nil, usage("--peer must be NAME=PATH with a NAME out of %s, not %q", strings.Join(bench.PeerNames(), ", "), text)
		}
		peer, err := bench.Peer(ctx, name, path)
		if err != nil {
			return nil, usage("--peer: %w", err)
		}
		if slices.ContainsFunc(b.Servers, func(s bench.Server) bool { return s.Info.Name == name }) {
			return nil, usage("--peer %s is given twice", name)
		}
		b.Servers = append(b.Servers, peer)
	}
	return b, nil
}
