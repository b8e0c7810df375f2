package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"

	"github.com/spf13/cobra"

	"packhouse/bench/adoption"
	"packhouse/internal/bytesize"
	"packhouse/internal/terminal"
)

func benchAdopt(s streams) *cobra.Command {
	var w adoption.Workload
	var size string
	var rounds int
	cmd := &cobra.Command{
		Use:   "adopt",
		Short: "Measure how fast the directory of another server is adopted, and compare with a plain loop",
		Long: `Makes a directory of borg's packs, sparse files that take no space, and adopts it. In turns with that a plain
loop looks at each file, gives it a second name in one of 256 directories and syncs these, which is the least that
must be done: the ratio of both says more than the rates on a machine that does other things as well. Everything is
removed afterwards.

  packhouse bench adopt --files 640000 --dir /srv/backup

Exit codes: 0 measured, 1 failure, 2 wrong command line.`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if w.Size, err = bytesize.Parse(size); err != nil {
				return usage("--size: %w", err)
			}
			if w.Files < 1 || rounds < 1 {
				return usage("--files and --rounds must be positive")
			}
			ctx, stop := untilInterrupt(cmd.Context())
			defer stop()
			if w.Dir, err = os.MkdirTemp(w.Dir, "packhouse-bench-"); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, os.RemoveAll(w.Dir)) }()
			return measureAdoption(ctx, s, w, rounds)
		},
	}
	cmd.Flags().StringVar(&w.Dir, "dir", os.TempDir(), "`directory` on the disk to measure")
	cmd.Flags().IntVar(&w.Files, "files", 100_000, "`number` of files")
	cmd.Flags().StringVar(&size, "size", "16M", "`bytes` that each file seems to have")
	cmd.Flags().IntVar(&rounds, "rounds", 3, "`number` of rounds")
	return cmd
}

func measureAdoption(ctx context.Context, s streams, w adoption.Workload, rounds int) error {
	bar := terminal.NewProgress(s.err, "making sparse files")
	err := w.Prepare(ctx, func(done int64) { bar.Set(done*w.Size, int64(w.Files)*w.Size) })
	bar.End()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(s.out, "adoption of %d files of %s, durably; %s/%s, %d processors\n\n%12s %12s %6s %9s\n", w.Files, terminal.Bytes(w.Size),
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), "plain loop/s", "adopt/s", "ratio", "peak MiB"); err != nil {
		return err
	}
	var ratios []float64
	err = w.Rounds(ctx, rounds, func(plain, adopted adoption.Figures) error {
		ratios = append(ratios, adopted.Rate()/plain.Rate())
		if _, err := fmt.Fprintf(s.out, "%12.0f %12.0f %6.2f %9.1f ", plain.Rate(), adopted.Rate(), adopted.Rate()/plain.Rate(), float64(adopted.Memory)/(1<<20)); err != nil {
			return err
		}
		for _, step := range adopted.Steps {
			if _, err := fmt.Fprintf(s.out, " %s %.2f s;", step.Name, step.Took); err != nil {
				return err
			}
		}
		_, err := fmt.Fprintln(s.out)
		return err
	})
	if err != nil {
		return err
	}
	slices.SortFunc(ratios, cmp.Compare[float64])
	_, err = fmt.Fprintf(s.out, "\nmedian of the ratios: %.2f\n", ratios[len(ratios)/2])
	return err
}
