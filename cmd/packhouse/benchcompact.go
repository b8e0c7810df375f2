package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"packhouse/bench/compaction"
	"packhouse/internal/bytesize"
	"packhouse/internal/terminal"
)

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
			n, err := bytesize.Parse(size)
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

// compareCompaction runs each way in a separate process of this program.
func compareCompaction(ctx context.Context, s streams, c compaction.Workload, size string) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the path of this program: %w", err)
	}
	bar := terminal.NewProgress(s.err, "making packs")
	err = c.Prepare(ctx, func(done int64) { bar.Set(done, c.Bytes) })
	bar.End()
	if err != nil {
		return err
	}
	return c.Compare(s.out, func(way string) (f compaction.Figures, err error) {
		out, err := exec.CommandContext(ctx, program, "bench", "compact", "--dir", c.Dir, "--size", size, "--way", way).Output()
		if err != nil {
			return f, fmt.Errorf("in %s: %w", filepath.Base(c.Dir), err)
		}
		if err := json.Unmarshal(out, &f); err != nil {
			return f, fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
		}
		return f, nil
	})
}
