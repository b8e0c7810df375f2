package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"packhouse/api/alert"
	"packhouse/internal/terminal"
)

func alertCommand(s streams) *cobra.Command {
	f := &adminFlags{}
	parent := &cobra.Command{
		Use:   "alert",
		Short: "Show what is wrong with the server, and test who is told of it",
		Long: `A server tells the receivers of its configuration ([[alert]], see docs/alerts.md) when something is wrong: no
backup for days, damage, a full disk, a failed job and more. It must be running.

  packhouse alert list
  packhouse alert test phone`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f.add(parent)
	parent.AddCommand(alertList(s, f), alertTest(s, f))
	return parent
}

func alertList(s streams, f *adminFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Show what is wrong, and what each receiver has been told",
		Long: `Shows what is wrong with the server and its repositories, and for each receiver when it was last told something,
how many alerts it is still to be told of, and why the last attempt failed. "quiet" are those that wait for the end of its quiet
hours. A mail with several addresses is a receiver for each of them.

  packhouse alert list`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withAdminClient(cmd, s, f, func(c *adminClient) error {
				state, text, err := c.Alerts(cmd.Context())
				if err != nil {
					return err
				}
				if f.json {
					return terminal.JSON(s.out, text)
				}
				return showAlerts(s, state)
			})
		},
	}
}

func showAlerts(s streams, state alert.State) error {
	if !state.Hanging.IsZero() {
		fmt.Fprintf(s.err, "the server waits for the disk of its data directory since %s; what follows is of before\n", state.Hanging.Local().Format(time.RFC3339))
	}
	t := terminal.NewTable(s.out, "LEVEL", "KIND", "REPOSITORY", "SUBJECT", "SINCE", "WHAT")
	for _, a := range state.Alerts {
		t.Row(string(a.Level), string(a.Kind), a.Repository, terminal.Printable(a.Subject), t.Time(a.Since), terminal.Printable(a.Text))
	}
	if err := t.End(); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(s.out); err != nil {
		return err
	}
	t = terminal.NewTable(s.out, "RECEIVER", "TYPE", "TO", "LAST SENT", "WAITING", "QUIET", "NEXT ATTEMPT", "ERROR")
	for _, r := range state.Receivers {
		sent, next := "never", "-"
		if !r.Sent.IsZero() {
			sent = t.Time(r.Sent)
		}
		if !r.Next.IsZero() {
			next = t.Time(r.Next)
		}
		t.Row(r.Name, string(r.Type), terminal.Printable(r.To), sent, strconv.Itoa(r.Waiting), strconv.Itoa(r.Quiet), next, terminal.Printable(r.Error))
	}
	return t.End()
}

func alertTest(s streams, f *adminFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "test [NAME]",
		Short: "Send a test message to a receiver, or to all",
		Long: `Has the server send a test message to the receiver NAME of its configuration, or to all, and prints for each, and
for each address of a mail, whether it was accepted, or why it was not. Where it was, what could not be delivered before is tried
again at once. Exit code 1: one was not accepted.

  packhouse alert test phone`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			return withAdminClient(cmd, s, f, func(c *adminClient) error {
				results, text, err := c.TestAlerts(cmd.Context(), name)
				if err != nil {
					return err
				}
				if f.json {
					err = terminal.JSON(s.out, text)
				}
				failed := 0
				for _, r := range results.Results {
					said, to := "accepted", string(r.Type)
					if r.Type == alert.Mail {
						to += ", " + terminal.Printable(r.To)
					}
					if r.Error != "" {
						failed++
						said = "failed: " + terminal.Printable(r.Error)
					}
					if !f.json && err == nil {
						_, err = fmt.Fprintf(s.out, "%s (%s): %s\n", r.Name, to, said)
					}
				}
				switch {
				case err != nil:
					return err
				case failed > 0:
					return fmt.Errorf("%d of %d test messages could not be delivered", failed, len(results.Results))
				case len(results.Results) == 0:
					return fmt.Errorf("the server's configuration has no [[alert]]; docs/alerts.md describes it")
				}
				return nil
			})
		},
	}
}
