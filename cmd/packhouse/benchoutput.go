package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"packhouse/bench"
	"packhouse/bench/report"
)

// benchOutput is where a run goes beside the table, and what it is compared with.
type benchOutput struct {
	json, html, compare string
	old                 *bench.Run // from compare; nil: none
}

func (o *benchOutput) add(f *pflag.FlagSet) {
	f.StringVar(&o.json, "json", "", "also write everything that was measured to this `file`")
	f.StringVar(&o.html, "report", "", "also write a page with plots to this `file` (HTML)")
	f.StringVar(&o.compare, "compare", "", "also tell what changed since the run in this `file` (JSON)")
}

// check refuses what would fail after the run only: it may take long.
func (o *benchOutput) check() error {
	for _, path := range []string{o.json, o.html} {
		if path == "" {
			continue
		}
		if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
			return usage("%s: there is no such directory", filepath.Dir(path))
		}
	}
	if o.compare == "" {
		return nil
	}
	var err error
	o.old, err = readRun(o.compare)
	return err
}

func readRun(path string) (*bench.Run, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	run, err := bench.ReadRun(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return run, nil
}

// write prints the run and writes its files.
func (o *benchOutput) write(w io.Writer, run *bench.Run) error {
	err := report.Table(w, run)
	if o.old != nil {
		_, separated := fmt.Fprintln(w)
		err = errors.Join(err, separated, report.Compare(o.old, run).Write(w))
	}
	return errors.Join(err, writeFile(o.json, run.Write), writeFile(o.html, func(w io.Writer) error { return report.HTML(w, run, o.old) }))
}

// writeFile makes a file of what write gives; without a path there is none.
func writeFile(path string, write func(io.Writer) error) error {
	if path == "" {
		return nil
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

func benchShow(s streams) *cobra.Command {
	var o benchOutput
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "Show a stored run as a table or as a page, and compare it with an older one",
		Long: `Prints the tables of a run that "bench store --json FILE" has written.

  packhouse bench show today.json --report today.html
  packhouse bench show today.json --compare last-week.json

Exit codes: 0 shown, 1 failure, 2 wrong command line.`,
		Args: exactly(1, "one file"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			run, err := readRun(args[0])
			if err != nil {
				return err
			}
			return o.write(s.out, run)
		},
	}
	o.add(cmd.Flags())
	if err := cmd.Flags().MarkHidden("json"); err != nil { // it would be a copy
		panic(err) // there is such a flag
	}
	return cmd
}
