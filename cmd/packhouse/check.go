package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/spf13/cobra"

	"packhouse/api/client"
	"packhouse/api/local"
	"packhouse/internal/terminal"
	"packhouse/repo/datadir"
)

func checkCommand(s streams) *cobra.Command {
	f := &adminFlags{}
	verify := false
	cmd := &cobra.Command{
		Use:   "check [NAME…]",
		Short: "Check the indexes of repositories, and with --verify every stored byte",
		Long: `Checks the index of the named repositories (default: all): every page of its file, then records,
directories, counters and references; and whether every item has its file. It names the items that are
missing or known to be damaged, and repositories that were here and are missing. With --verify it also reads every item and compares it with the BLAKE3
checksum from when it was stored. Missing and damaged items are marked, and not served until they are
repaired; nothing else is changed, and clients can continue to work. For a damaged index it prints the
command that repairs it. docs/trouble.md says what to do.

  packhouse check
  packhouse check laptop --verify

Exit codes: 0 no problem found, 1 the check could not be finished, 2 wrong command line, 3 damage was found.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAdminClient(cmd, s, f, func(c *adminClient) error {
				names, err := c.names(cmd, args)
				if err != nil {
					return err
				}
				damaged := false
				for _, name := range c.lost(args) {
					damaged = true
					names = slices.DeleteFunc(names, func(n string) bool { return n == name })
					event := local.CheckEvent{Problem: "the index is lost; packhouse repo rebuild " + name + " builds a new one", Problems: 1}
					if err := showProblem(s, f, name, event); err != nil {
						return err
					}
				}
				err = c.each(cmd.Context(), names, func(name string) error {
					bad, err := c.check(cmd, s, f, name, verify)
					switch {
					case client.Refused(err, http.StatusConflict):
						bad, err = true, showProblem(s, f, name, local.CheckEvent{Problem: "unusable: " + err.Error(), Problems: 1})
					case client.Refused(err, http.StatusGone):
						bad, err = true, showProblem(s, f, name, local.CheckEvent{Problem: err.Error(), Problems: 1})
					}
					damaged = damaged || bad
					return err
				})
				if damaged {
					return errors.Join(err, &exitError{exitFound, fmt.Errorf("damage was found")})
				}
				return err
			})
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&verify, "verify", false, "read every item and verify its checksum")
	return cmd
}

// lost are repositories whose index is gone, which nobody can open for a check. names: look at these alone.
func (c *adminClient) lost(names []string) []string {
	if c.Data == "" {
		return nil
	}
	return datadir.LostIndexes(c.Data, names...)
}

// showProblem prints what is wrong with a repository, in the form of adminClient.check.
func showProblem(s streams, f *adminFlags, name string, event local.CheckEvent) error {
	if f.json {
		event.Repository = name
		return json.NewEncoder(s.out).Encode(event)
	}
	_, err := fmt.Fprintf(s.out, "%s: %s\n", shownName(name), terminal.Printable(event.Problem))
	return err
}

// names are the repositories a command is about: those named, else all.
func (c *adminClient) names(cmd *cobra.Command, args []string) ([]string, error) {
	if c.Single {
		name, err := c.name(args)
		return []string{name}, err
	}
	if len(args) > 0 {
		return args, nil
	}
	all, _, err := c.Repositories(cmd.Context())
	names := make([]string, len(all))
	for i, r := range all {
		names[i] = r.Name
	}
	return names, err
}

// check has one repository checked; it tells whether damage was found. One that cannot be opened is refused with
// http.StatusConflict, and one that is missing with http.StatusGone.
func (c *adminClient) check(cmd *cobra.Command, s streams, f *adminFlags, name string, verify bool) (damaged bool, err error) {
	bar := terminal.NewProgress(s.err, shownName(name))
	defer bar.End()
	err = c.Check(cmd.Context(), name, verify, func(event local.CheckEvent) error {
		if event.Progress {
			bar.Set(event.Bytes, event.Total)
			return nil
		}
		damaged = damaged || event.Problem != ""
		if f.json {
			event.Repository = name
			return json.NewEncoder(s.out).Encode(event)
		}
		bar.End()
		switch {
		case event.Problem != "":
			_, err = fmt.Fprintf(s.out, "%s: %s\n", shownName(name), terminal.Printable(event.Problem))
		case event.Advice != "":
			_, err = fmt.Fprintf(s.out, "%s: %s\n", shownName(name), event.Advice)
		case event.Done && verify:
			_, err = fmt.Fprintf(s.out, "%s: %d items in the index, %s read, %d problems\n", shownName(name), event.Items, terminal.Bytes(event.Bytes), event.Problems)
		case event.Done:
			_, err = fmt.Fprintf(s.out, "%s: %d items in the index, %d problems\n", shownName(name), event.Items, event.Problems)
		}
		return err
	})
	return damaged, err
}
