package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"packhouse/bench/compaction"
	"packhouse/cmd/packhouse/internal/config"
)

func benchCommand(s streams) *cobra.Command {
	parent := &cobra.Command{
		Use:   "bench",
		Short: "Measure the speed of Packhouse on this machine",
		Long: `Measures with servers and data of its own, which are removed afterwards; no repository is touched.

  packhouse bench store --quick --dir /srv/backup
  packhouse bench show today.json --report today.html
  packhouse bench compact --dir /srv/backup --size 4G

Exit codes: 0 measured, 1 failure, 2 wrong command line.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	parent.AddCommand(benchStore(s), benchShow(s), benchCompact(s), benchFloor())
	return parent
}

// untilInterrupt returns a context that ends with SIGINT or SIGTERM, so that a measurement that is broken off takes
// its servers and its scratch directory with it.
func untilInterrupt(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
}

func benchCompact(s streams) *cobra.Command {
	var dir, size, way string
	cmd := &cobra.Command{
		Use:   "compact",
		Short: "Measure compaction, and compare with a plain loop and with a client that does it itself",
		Long: `Creates packs of blobs from 8 KiB to 4 MiB, half of them unused, and compacts them in several
ways: with a plain loop (the floor), with the server's engine and one or two workers, with a
client's repack over loopback, and with a client that downloads and uploads the bytes itself.
Each runs in its own process, on files that are not cached. The directory needs twice the size
in free space; everything is removed afterwards.

  packhouse bench compact --size 4G --dir /srv/backup

Exit codes: 0 measured, 1 failure, 2 wrong command line.`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := config.ParseSize(size)
			if err != nil {
				return usage("--size: %w", err)
			}
			ctx, stop := untilInterrupt(cmd.Context())
			defer stop()
			if way != "" {
				f, err := compaction.Default(dir, n).Run(ctx, way)
				if err != nil {
					return err
				}
				return json.NewEncoder(s.out).Encode(f)
			}
			own, err := os.MkdirTemp(dir, "packhouse-bench-")
			if err != nil {
				return err
			}
			defer os.RemoveAll(own)
			return compareCompaction(ctx, s, compaction.Default(own, n), size)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", os.TempDir(), "`directory` on the disk to measure")
	cmd.Flags().StringVar(&size, "size", "512M", "`bytes` of all packs")
	cmd.Flags().StringVar(&way, "way", "", "carry out one way in a prepared directory")
	if err := cmd.Flags().MarkHidden("way"); err != nil {
		panic(err) // there is such a flag
	}
	return cmd
}

// compareCompaction runs every way and prints a line for each.
func compareCompaction(ctx context.Context, s streams, c compaction.Workload, size string) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the path of this program: %w", err)
	}
	bar := newProgress(s.err, "making packs")
	err = c.Prepare(ctx, func(done int64) { bar.set(done, c.Bytes) })
	bar.end()
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "compaction of %s in packs of %s, blobs %s to %s, %.0f%% dead; %s/%s, %d processors\n\n",
		units.BytesSize(float64(c.Bytes)), units.BytesSize(float64(c.PackBytes)), units.BytesSize(float64(c.MinBlob)),
		units.BytesSize(float64(c.MaxBlob)), 100*c.Dead, runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	fmt.Fprintf(s.out, "%-9s %8s %8s %8s %7s %9s %9s %13s %7s  %s\n", "way", "seconds", "in MB/s", "out MB/s", "CPU s", "idle MiB", "peak MiB", "network bytes", "floor", "what")
	floor := 0.0
	for _, way := range compaction.Ways {
		out, err := exec.CommandContext(ctx, program, "bench", "compact", "--dir", c.Dir, "--size", size, "--way", way).Output()
		if err != nil {
			return fmt.Errorf("%s in %s: %w", way, filepath.Base(c.Dir), err)
		}
		var f compaction.Figures
		if err := json.Unmarshal(out, &f); err != nil {
			return fmt.Errorf("%s: %w: %s", way, err, strings.TrimSpace(string(out)))
		}
		if way == "floor" {
			floor = f.Seconds
		}
		mib := func(n int64) float64 { return float64(n) / (1 << 20) }
		_, err = fmt.Fprintf(s.out, "%-9s %8.2f %8.1f %8.1f %7.2f %9.1f %9.1f %13d %7.2f  %s\n", way, f.Seconds,
			float64(f.In)/1e6/f.Seconds, float64(f.Out)/1e6/f.Seconds, f.CPU, mib(f.Idle), mib(f.Peak), f.Network, floor/f.Seconds, compaction.Describe(way))
		if err != nil {
			return err
		}
	}
	return nil
}
