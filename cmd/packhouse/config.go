package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

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
		Long: `Reads a configuration file as serve does, and looks at what a server would open: certificates and keys, the
data directory, the token, the directory of the audit log, what alerts need. It creates nothing and takes no lock, so the
server may run. Each error is printed on one line with the name of the file, the line number and what is
expected. Warnings are about what a server would accept although it is hardly meant: a token that can be
guessed, plain HTTP on a public address, a certificate that ends soon, users of repositories that do not
exist. Hints suggest roles and documented permissions. If the data directory exists, its identity is
printed, for the key data_id; if the file has a data_id that differs, this is reported as an error.

  packhouse config check /etc/packhouse.toml`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if file := os.Getenv(configVariable); len(args) == 0 && file != "" {
				args = []string{file}
			}
			if len(args) == 0 {
				return usage("%s needs a FILE, or the variable %s; see %s --help", cmd.CommandPath(), configVariable, cmd.CommandPath())
			}
			return checkConfiguration(s, args[0])
		},
	})
	return parent
}

// checkConfiguration prints what there is to say of a configuration. Its error is what keeps a server from starting with it.
func checkConfiguration(s streams, file string) (faults error) {
	c, err := config.Load(file, nil)
	if err != nil {
		return asServer(err)
	}
	found := inspect(&c, file)
	for _, warning := range slices.Concat(c.Warnings, found.warnings) {
		fmt.Fprintf(s.out, "%s: warning: %s\n", file, warning)
	}
	for _, hint := range slices.Concat(c.Hints(), tableHints(&c)) {
		fmt.Fprintf(s.out, "%s: hint: %s\n", file, hint)
	}
	lines, err := describeDataDir(&c)
	for _, line := range lines {
		fmt.Fprintf(s.out, "%s: %s\n", file, line)
	}
	passwords, passwordsErr := describePasswords(&c)
	for _, line := range passwords {
		fmt.Fprintf(s.out, "%s: %s\n", file, line)
	}
	for _, fault := range append(found.faults, err, passwordsErr) {
		if fault != nil {
			faults = errors.Join(faults, fmt.Errorf("%s: %w", file, fault))
		}
	}
	if faults != nil {
		return faults
	}
	_, err = fmt.Fprintf(s.out, "%s: fine\n", file)
	return err
}
