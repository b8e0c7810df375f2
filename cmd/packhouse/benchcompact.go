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
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/internal/terminal"
)

func benchCompact(s streams) *cobra.Command {
	var dir, size, way string
	cmd := &cobra.Command{
		Use:   "compact",
		Short: "Compaction, beside the least that must be done and beside a client without help",
		Long: `Makes packs of blobs from 8 KiB to 4 MiB of which half are dead, and compacts them: with a
plain loop (the floor), with the engine and one or two workers, by a client's repack over
loopback, and by a client that fetches and stores everything itself. Each runs in a process
of its own, on cold files. The directory needs twice the size, and is left as it was.

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

// compareCompaction runs every way in a process of this program.
func compareCompaction(ctx context.Context, s streams, c compaction.Workload, size string) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find our own program: %w", err)
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
