package compaction

import (
	"fmt"
	"io"
	"runtime"

	"packhouse/internal/bytesize"
)

// Compare calls run for every way, which carries it out in its own process, and prints a line for each, compared with the floor.
// The packs must be prepared.
func (c Workload) Compare(w io.Writer, run func(way string) (Figures, error)) error {
	_, err := fmt.Fprintf(w, "compaction of %s in packs of %s, blobs %s to %s, %.0f%% dead; %s/%s, %d processors\n\n",
		bytesize.Text(c.Bytes), bytesize.Text(c.PackBytes), bytesize.Text(c.MinBlob), bytesize.Text(c.MaxBlob), 100*c.Dead, runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%-9s %8s %8s %9s %7s %9s %9s %13s %7s  %s\n",
		"way", "seconds", "in MiB/s", "out MiB/s", "CPU s", "idle MiB", "peak MiB", "network bytes", "floor", "what")
	if err != nil {
		return err
	}
	floor := 0.0
	for _, way := range Ways {
		f, err := run(way)
		if err != nil {
			return fmt.Errorf("%s: %w", way, err)
		}
		if way == "floor" {
			floor = f.Seconds
		}
		mib := func(n int64) float64 { return float64(n) / (1 << 20) }
		_, err = fmt.Fprintf(w, "%-9s %8.2f %8.1f %9.1f %7.2f %9.1f %9.1f %13d %7.2f  %s\n", way, f.Seconds,
			mib(f.In)/f.Seconds, mib(f.Out)/f.Seconds, f.CPU, mib(f.Idle), mib(f.Peak), f.Network, floor/f.Seconds, Describe(way))
		if err != nil {
			return err
		}
	}
	return nil
}
