package main

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
)

func checkCommand(s streams) *cobra.Command {
	f := &deskFlags{}
	verify := false
	cmd := &cobra.Command{
		Use:   "check [NAME…]",
		Short: "Check repositories: the index, and with --verify every stored byte",
		Long: `Checks the index of the repositories (all, unless named): records, directories, counters and
references. With --verify reads every item and compares it with the BLAKE3 recorded when it
was stored; damaged items are marked, and not served until they are stored again.
It changes nothing else, and clients may go on working.

  packhouse check
  packhouse check laptop --verify

Exit codes: 0 all is well, 1 the check could not be finished, 2 wrong command line, 3 damage was found.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withDesk(cmd, s, f, func(d *desk) error {
				names, err := d.names(cmd, args)
				if err != nil {
					return err
				}
				damaged := false
				for _, name := range names {
					bad, err := d.check(cmd, s, f, name, verify)
					if err != nil {
						return err
					}
					damaged = damaged || bad
				}
				if damaged {
					return &exitError{exitFound, fmt.Errorf("damage was found")}
				}
				return nil
			})
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&verify, "verify", false, "read and compare every stored byte")
	return cmd
}

// names are the repositories a command is about: those named, else all.
func (d *desk) names(cmd *cobra.Command, args []string) ([]string, error) {
	if d.single {
		name, err := d.name(args)
		return []string{name}, err
	}
	if len(args) > 0 {
		return args, nil
	}
	var answer struct{ Repositories []repositoryInfo }
	if _, err := d.ask(cmd.Context(), http.MethodGet, "/-/repositories", nil, &answer); err != nil {
		return nil, err
	}
	names := make([]string, len(answer.Repositories))
	for i, r := range answer.Repositories {
		names[i] = r.Name
	}
	return names, nil
}

// check has one repository checked; it tells whether damage was found.
func (d *desk) check(cmd *cobra.Command, s streams, f *deskFlags, name string, verify bool) (damaged bool, err error) {
	ended := false
	bar := newProgress(s.err, shownName(name))
	defer bar.end()
	err = d.lines(cmd.Context(), http.MethodPost, pathCheck, localRequest{Name: name, Verify: verify}, func(line json.RawMessage) error {
		var event checkEvent
		if err := json.Unmarshal(line, &event); err != nil {
			return err
		}
		if event.Progress {
			bar.set(event.Bytes, event.Total)
			return nil
		}
		damaged = damaged || event.Problem != ""
		ended = ended || event.Done
		if f.json {
			_, err := fmt.Fprintf(s.out, "%s\n", line)
			return err
		}
		bar.end()
		switch {
		case event.Problem != "":
			_, err = fmt.Fprintf(s.out, "%s: %s\n", shownName(name), printable(event.Problem))
		case event.Done && verify:
			_, err = fmt.Fprintf(s.out, "%s: %d items in the index, %s read, %d problems\n", shownName(name), event.Items, inBytes(event.Bytes), event.Problems)
		case event.Done:
			_, err = fmt.Fprintf(s.out, "%s: %d items in the index, %d problems\n", shownName(name), event.Items, event.Problems)
		}
		return err
	})
	if err == nil && !ended {
		err = fmt.Errorf("the check of %s broke off", shownName(name))
	}
	return damaged, err
}
