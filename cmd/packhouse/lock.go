package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"packhouse/api"
	"packhouse/api/client"
)

func lockCommand(s streams) *cobra.Command {
	f := &adminFlags{}
	parent := &cobra.Command{
		Use:   "lock",
		Short: "Show and break the locks and sessions of clients",
		Long: `Shows the locks and sessions of all clients: who took each and when, whether it is stale by the
client's own rule, how long ago its principal and address last sent a request to the
repository, and the command that breaks it.

  packhouse lock list laptop
  packhouse lock break laptop --stale`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f.add(parent)
	parent.AddCommand(lockList(s, f), lockBreak(s, f))
	return parent
}

// locksOf asks what is held in a repository.
func (c *adminClient) locksOf(cmd *cobra.Command, name string) ([]api.LockInfo, error) {
	var answer api.LockList
	_, err := c.Request(cmd.Context(), http.MethodGet, client.Path(name, "locks"), nil, &answer)
	return answer.Locks, err
}

// where are the options that a command needs to be about the same directory.
func (f *adminFlags) where(cmd *cobra.Command) (options []string) {
	if f.config != "" {
		options = append(options, "-c", f.config)
	}
	if cmd.Flags().Changed("data-dir") {
		options = append(options, "-d", f.dataDir)
	}
	return options
}

func lockList(s streams, f *adminFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "list NAME",
		Short: "Show the locks and sessions of a repository",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAdminClient(cmd, s, f, func(c *adminClient) error {
				name, err := c.name(args)
				if err != nil {
					return err
				}
				locks, err := c.locksOf(cmd, name)
				if err != nil {
					return err
				}
				argument := name
				if c.single {
					argument = ""
				}
				for i, l := range locks {
					locks[i].Break = api.BreakCommand(argument, l.ID, f.where(cmd)...)
					if l.Silence == "" {
						locks[i].Silence = "no server is running"
					}
				}
				if f.json {
					text, err := json.Marshal(api.LockList{Locks: locks})
					if err != nil {
						return err
					}
					return printJSON(s.out, text)
				}
				t := newTable(s.out, "ID", "KIND", "HOST", "PROCESS", "SINCE", "REFRESHED", "STATE", "WHY", "BY", "REQUESTS", "BREAK")
				for _, l := range locks {
					state := "held"
					if l.Stale {
						state = "stale"
					}
					by := strings.TrimSpace(l.Principal + " " + l.Address)
					t.row(l.ID, l.Kind, l.Host, fmt.Sprint(l.Process), t.time(l.Since), t.time(l.Refreshed), state, l.Why,
						by, l.Silence, l.Break)
				}
				return t.end()
			})
		},
	}
}

func lockBreak(s streams, f *adminFlags) *cobra.Command {
	stale := false
	cmd := &cobra.Command{
		Use:   "break NAME (ID… | --stale)",
		Short: "Break locks, whose clients must no longer be running",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAdminClient(cmd, s, f, func(c *adminClient) error {
				name, args, err := c.nameAndRest(args)
				if err != nil {
					return err
				}
				if stale == (len(args) > 0) {
					return usage("give either the IDs of locks (packhouse lock list shows them) or --stale")
				}
				locks, err := c.locksOf(cmd, name)
				if err != nil {
					return err
				}
				known := make(map[string]bool)
				for _, l := range locks {
					known[l.ID] = true
					if stale && l.Stale {
						args = append(args, l.ID)
					}
				}
				for _, id := range args {
					if !known[id] {
						err = errors.Join(err, fmt.Errorf("there is no lock %s", id))
						continue
					}
					_, breakErr := c.Request(cmd.Context(), http.MethodPost, client.Path(name, "locks/break"), map[string]string{"id": id}, nil)
					if breakErr != nil && !client.Refused(breakErr, http.StatusNotFound) { // it was released meanwhile
						err = errors.Join(err, fmt.Errorf("break %s: %w", id, breakErr))
						continue
					}
					fmt.Fprintf(s.out, "broke %s\n", printable(id))
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&stale, "stale", false, "break all locks that are stale by the client's own rule")
	return cmd
}
