package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"packhouse/cmd/packhouse/internal/config"
)

func rootCommand(s streams) *cobra.Command {
	showVersion := false
	root := &cobra.Command{
		Use:   "packhouse",
		Short: "Backup storage server for BorgBackup 2, V'Ger, vykar and restic",
		Long: `Packhouse stores the repositories of backup clients: BorgBackup 2 and other programs built on
BorgStore, V'Ger, vykar and restic. Clients encrypt their data; the server never has a key.

Start a server on this machine, with a new token and the data in ./packhouse-data:

  packhouse serve

Use a repository over ssh, without a server (packhouse must be installed on the remote machine;
with borg up to 2.0.0b23 write rest:// instead of ssh://):

  BORG_REMOTE_PATH=packhouse borg -r ssh://user@host//srv/backup/laptop repo-list

Exit codes: 0 success, 1 failure, 2 wrong command line, 3 damage found (check, scrub, job wait,
repo rebuild), 83 serve --rest: access to this repository is not allowed.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case showVersion:
				return printVersion(s)
			case len(args) == 0:
				return cmd.Help()
			}
			return knownSubcommand(cmd, args)
		},
	}
	root.Flags().BoolVarP(&showVersion, "version", "V", false, "print the version")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if args := cmd.Flags().Args(); cmd.HasSubCommands() && len(args) > 0 {
			return knownSubcommand(cmd, args) // whose flag is unknown because it is a flag of the command that was meant
		}
		return usage("%w%s; see %s --help", err, nearestFlag(cmd, err), cmd.CommandPath())
	})
	root.SetHelpCommand(helpCommand())
	root.AddCommand(serveCommand(s), restCommand(s), resticServerCommand(s), repoCommand(s), lockCommand(s), trashCommand(s), guardCommand(s), checkCommand(s), alertCommand(s),
		configCommand(s), tokenCommand(s), userCommand(s), roleCommand(s), versionCommand(s), holdCommand(s),
		compactCommand(s), jobCommand(s), scrubCommand(s), adoptCommand(s), benchCommand(s),
		completionCommand(s), manCommand(s), healthCommand(s))
	complete(root)
	argumentsAreUsage(root)
	for _, cmd := range root.Commands() {
		tellExitCodes(cmd, "Exit codes: 0 success, 1 failure, 2 wrong command line.")
	}
	return root
}

// helpCommand shows the help of a command, and knows which there are.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND…]",
		Short: "Show the help of a command",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err == nil {
				err = knownSubcommand(about, rest)
			}
			if err != nil {
				return err
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
			if about, rest, err := cmd.Root().Find(args); err == nil && len(rest) == 0 {
				for _, sub := range about.Commands() {
					if sub.IsAvailableCommand() {
						names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

// tellExitCodes gives the help of a command, and of those below it, the exit codes of the command above where its own
// text has none.
func tellExitCodes(cmd *cobra.Command, above string) {
	if cmd.Long == "" {
		cmd.Long = cmd.Short + "."
	}
	if i := strings.Index(cmd.Long, "Exit code"); i >= 0 {
		above = cmd.Long[i:]
	} else {
		cmd.Long += "\n\n" + above
	}
	for _, sub := range cmd.Commands() {
		tellExitCodes(sub, above)
	}
}

// nearestFlag is a hint at the flag that was probably meant by one that a command does not have; "": none.
func nearestFlag(cmd *cobra.Command, err error) string {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return ""
	}
	var names []string
	cmd.Flags().VisitAll(func(flag *pflag.Flag) {
		if !flag.Hidden {
			names = append(names, flag.Name)
		}
	})
	if near := config.Nearest(unknown.GetSpecifiedName(), names); near != "" {
		return "; did you mean --" + near + "?"
	}
	return ""
}

// knownSubcommand refuses arguments of a command that has only others below it, with a hint at the one that was probably meant.
func knownSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, sub := range cmd.Commands() {
		if !sub.Hidden {
			names = append(names, sub.Name())
		}
	}
	hint, above := "", ""
	if cmd.HasParent() {
		above = cmd.CommandPath() + " "
	}
	if near := config.Nearest(args[0], names); near != "" {
		hint = fmt.Sprintf("; did you mean %s%s?", above, near)
	}
	return usage("unknown command %q%s; %s --help lists them", above+args[0], hint, cmd.CommandPath())
}

// argumentsAreUsage makes wrong arguments of any command an error of usage.
func argumentsAreUsage(cmd *cobra.Command) {
	if cmd.HasParent() && cmd.HasSubCommands() {
		cmd.Args = knownSubcommand
	} else if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			var exit *exitError
			if err == nil || errors.As(err, &exit) {
				return err
			}
			return usage("%w; see %s --help", err, cmd.CommandPath())
		}
	}
	for _, sub := range cmd.Commands() {
		argumentsAreUsage(sub)
	}
}

// exactly is cobra.ExactArgs as an error of usage; what names the arguments.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		if n == 0 {
			return usage("%s takes no arguments, got %q", cmd.CommandPath(), args[0])
		}
		return usage("%s needs %s; see %s --help", cmd.CommandPath(), what, cmd.CommandPath())
	}
}
