package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

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
