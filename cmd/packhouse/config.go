package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"packhouse/cmd/packhouse/internal/config"
)

func configCommand(s streams) *cobra.Command {
	parent := &cobra.Command{
		Use:   "config",
		Short: "Check a configuration file",
		Long: `Checks a configuration file before a server reads it, for example before systemctl reload packhouse.

  packhouse config check /etc/packhouse.toml

Exit codes: 0 the file can be used, 1 something is wrong with it, 2 wrong command line.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	parent.AddCommand(&cobra.Command{
		Use:   "check [FILE]",
		Short: "Check whether a configuration file is valid",
		Long: `Reads a configuration file as serve does. Each error is printed on one line with the name of the file,
the line number and what is expected. For users who may do everything it suggests a role. If the data directory exists, its identity is printed, for the key
data_id; if the file has a data_id that differs, this is reported as an error.

  packhouse config check /etc/packhouse.toml`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if file := os.Getenv(configVariable); len(args) == 0 && file != "" {
				args = []string{file}
			}
			if len(args) == 0 {
				return usage("%s needs a FILE, or the variable %s; see %s --help", cmd.CommandPath(), configVariable, cmd.CommandPath())
			}
			c, err := config.Load(args[0], nil)
			if err != nil {
				return err
			}
			for _, warning := range c.Warnings {
				fmt.Fprintf(s.out, "%s: warning: %s\n", args[0], warning)
			}
			for _, hint := range c.Hints() {
				fmt.Fprintf(s.out, "%s: hint: %s\n", args[0], hint)
			}
			lines, err := describeDataDir(&c)
			for _, line := range lines {
				fmt.Fprintf(s.out, "%s: %s\n", args[0], line)
			}
			if err == nil {
				err = checkAuditOf(&c)
			}
			if err == nil {
				lines, err = describePasswords(&c)
			}
			for _, line := range lines {
				fmt.Fprintf(s.out, "%s: %s\n", args[0], line)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			_, err = fmt.Fprintf(s.out, "%s: fine\n", args[0])
			return err
		},
	})
	return parent
}
