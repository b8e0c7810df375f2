package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"packhouse/api/client"
	"packhouse/api/holder"
	"packhouse/internal/terminal"
	"packhouse/repo/layout"
)

// The exit codes of the command health, besides 0.
const (
	exitDegraded   = 1
	exitNotReached = 2
)

func healthCommand(s streams) *cobra.Command {
	f := &adminFlags{}
	timeout := time.Duration(0)
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask a running server whether all is well, as a health check of a container does",
		Long: `Asks the server that runs on the data directory, or with --server one elsewhere, for its health: whether
all repositories can be used and accept writes, nothing is lost, and the disk has space. It needs no
token. It never opens the data directory itself.

  packhouse health -c /etc/packhouse.toml
  packhouse health --server https://backup.example.org

Exit codes: 0 ok, 1 degraded (the reason is printed), 2 the server was not reached, or wrong command line.`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if timeout <= 0 {
				return usage("--timeout: expected a time above 0")
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return health(ctx, cmd, s, f)
		},
	}
	f.add(cmd)
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Second, "how long to wait for the answer")
	return cmd
}

func health(ctx context.Context, cmd *cobra.Command, s streams, f *adminFlags) error {
	c, err := f.healthClient(cmd)
	if exit, ok := errors.AsType[*exitError](err); ok {
		return exit
	}
	var answer client.Health
	var text []byte
	if err == nil {
		answer, text, err = c.Health(ctx)
	}
	if err != nil {
		return &exitError{exitNotReached, err}
	}
	if f.json {
		err = terminal.JSON(s.out, text)
	} else {
		line := answer.Status
		if answer.Reason != "" {
			line += ": " + answer.Reason
		}
		_, err = fmt.Fprintln(s.out, terminal.Printable(line))
	}
	if err == nil && answer.Status != "ok" {
		err = &exitError{code: exitDegraded}
	}
	return err
}

// healthClient is a client of the server that the flags name. Its requests have no credentials.
func (f *adminFlags) healthClient(cmd *cobra.Command) (*client.Client, error) {
	server, err := f.address(cmd)
	if err != nil {
		return nil, err
	}
	if server != "" {
		c, err := client.Remote(server, "", nil)
		if err != nil {
			return nil, usage("--server: %w", err)
		}
		return c, nil
	}
	dir, err := f.dir(cmd)
	if err != nil {
		return nil, err
	}
	if _, err := os.ReadDir(layout.ServerDir(dir)); errors.Is(err, fs.ErrPermission) {
		return nil, asServer(err)
	}
	if !holder.Held(dir) {
		return nil, fmt.Errorf("no server runs on %s", dir)
	}
	return &client.Client{HTTP: holder.Client(dir)}, nil
}
