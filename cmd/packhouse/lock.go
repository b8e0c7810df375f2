package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"packhouse/api"
	"packhouse/internal/terminal"
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

// where are the options that a command needs to be about the same directory.
func (f *adminFlags) where(cmd *cobra.Command) (options []string) {
	if f.config != "" {
		options = append(options, "-c", f.config)
	}
	if cmd.Flags().Changed("data-dir") {
		options = append(options, "-d", f.dataDir)
	}
	if f.server != "" {
		options = append(options, "--server", f.server)
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
				locks, err := c.Locks(cmd.Context(), name)
				if err != nil {
					return err
				}
				argument := name
				if c.Single {
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
					return terminal.JSON(s.out, text)
				}
				t := terminal.NewTable(s.out, "ID", "KIND", "HOST", "PROCESS", "SINCE", "REFRESHED", "STATE", "WHY", "BY", "REQUESTS", "BREAK")
				for _, l := range locks {
					state := "held"
					if l.Stale {
						state = "stale"
					}
					by := strings.TrimSpace(l.Principal + " " + l.Address)
					t.Row(l.ID, l.Kind, l.Host, fmt.Sprint(l.Process), t.Time(l.Since), t.Time(l.Refreshed), state, l.Why,
						by, l.Silence, l.Break)
				}
				return t.End()
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
				locks, err := c.Locks(cmd.Context(), name)
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
				broken := []string{}
				for _, id := range args {
					if !known[id] {
						err = errors.Join(err, fmt.Errorf("there is no lock %s", id))
						continue
					}
					if breakErr := c.BreakLock(cmd.Context(), name, id); breakErr != nil {
						err = errors.Join(err, fmt.Errorf("break %s: %w", id, breakErr))
						continue
					}
					broken = append(broken, id)
					if !f.json {
						fmt.Fprintf(s.out, "broke %s\n", terminal.Printable(id))
					}
				}
				if f.json {
					err = errors.Join(err, printJSON(s, map[string]any{"broken": broken}))
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&stale, "stale", false, "break all locks that are stale by the client's own rule")
	return cmd
}
