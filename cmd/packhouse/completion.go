package main

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"packhouse/api/borgstore"
	"packhouse/api/restic"
	"packhouse/api/vger"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/repo/datadir"
	"packhouse/repo/layout"
	"packhouse/repo/policy"
)

// shells are those that a completion can be printed for, and how.
var shells = []struct {
	name  string
	print func(root *cobra.Command, s streams) error
}{
	{"bash", func(root *cobra.Command, s streams) error { return root.GenBashCompletionV2(s.out, true) }},
	{"fish", func(root *cobra.Command, s streams) error { return root.GenFishCompletion(s.out, true) }},
	{"zsh", func(root *cobra.Command, s streams) error { return root.GenZshCompletion(s.out) }},
}

func completionCommand(s streams) *cobra.Command {
	names := make([]string, len(shells))
	for i, shell := range shells {
		names[i] = shell.name
	}
	return &cobra.Command{
		Use:   "completion bash|fish|zsh",
		Short: "Print the completion of commands, flags and repositories for a shell",
		Long: `Prints a script that completes the command line in a shell: commands, flags, roles, and the names of
repositories, as far as the user may read the data directory, or with --server by asking the server.
The deb and rpm packages install it. Without them:

  packhouse completion bash > /etc/bash_completion.d/packhouse
  packhouse completion fish > ~/.config/fish/completions/packhouse.fish
  packhouse completion zsh > "${fpath[1]}/_packhouse"`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := exactly(1, "the name of a shell")(cmd, args); err != nil {
				return err
			}
			if !slices.Contains(names, args[0]) {
				return usage("%q is not one of %s", args[0], strings.Join(names, ", "))
			}
			return nil
		},
		ValidArgs: names,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, shell := range shells {
				if shell.name == args[0] {
					return shell.print(cmd.Root(), s)
				}
			}
			return nil
		},
	}
}

// completionPatience is how long somebody who has pressed a key is kept waiting for an answer of a server.
const completionPatience = 2 * time.Second

// complete has arguments completed for a command and those below it: the names of repositories where its form begins with NAME, and
// those and roles as values of flags. Files are offered only where an argument is one.
func complete(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		complete(sub)
	}
	_, form, _ := strings.Cut(cmd.Use, " ")
	many := strings.HasPrefix(form, "[NAME…]")
	switch {
	case cmd.ValidArgsFunction != nil || len(cmd.ValidArgs) > 0:
	case cmd.Flag("data-dir") == nil:
		if form == "" {
			cmd.ValidArgsFunction = cobra.NoFileCompletions
		}
	case cmd.Name() == "create", cmd.Name() == "revoke", cmd.CommandPath() == "packhouse alert test", strings.HasPrefix(form, "NAME|"):
		// The name is of one that is not there, or of something else.
		if !strings.Contains(form, "DIR") {
			cmd.ValidArgsFunction = cobra.NoFileCompletions
		}
	case many || strings.HasPrefix(strings.TrimPrefix(form, "["), "NAME"):
		cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 && !many {
				return nil, cobra.ShellCompDirectiveDefault // what follows the name may be a file
			}
			names := repositoryNames(cmd)
			return slices.DeleteFunc(names, func(name string) bool { return slices.Contains(args, name) }), cobra.ShellCompDirectiveNoFileComp
		}
	}
	for name, values := range map[string]func(*cobra.Command) []string{"repo": repositoryNames, "role": roleNames, "dialect": dialectNames} {
		if cmd.LocalFlags().Lookup(name) == nil {
			continue
		}
		_ = cmd.RegisterFlagCompletionFunc(name, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			return values(cmd), cobra.ShellCompDirectiveNoFileComp
		})
	}
	if cmd.Name() == "export" {
		_ = cmd.RegisterFlagCompletionFunc("as", cobra.FixedCompletions([]string{"borgstore", "restic", "vykar"}, cobra.ShellCompDirectiveNoFileComp))
	}
	if cmd.LocalFlags().Lookup("layout") != nil {
		_ = cmd.RegisterFlagCompletionFunc("layout", cobra.FixedCompletions(dialectNames(cmd), cobra.ShellCompDirectiveNoFileComp))
	}
}

// repositoryNames are the repositories of the server that a command line is about, or none where they are not to be had: a
// completion reports no errors. Of a data directory it reads only the names of the entries; it opens nothing.
func repositoryNames(cmd *cobra.Command) (names []string) {
	value := func(name string) string {
		if flag := cmd.Flags().Lookup(name); flag != nil {
			return flag.Value.String()
		}
		return ""
	}
	f := &adminFlags{
		config: value("config"), dataDir: value("data-dir"),
		server: value("server"), tokenFile: value("token-file"), cert: value("cert"), key: value("key"),
	}
	server, err := f.address(cmd)
	if err != nil {
		return nil
	}
	if server != "" {
		c, err := f.remote(server)
		if err != nil {
			return nil
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionPatience)
		defer cancel()
		repositories, _, err := c.Repositories(ctx)
		if err != nil {
			return nil
		}
		for _, r := range repositories {
			names = append(names, r.Name)
		}
		return names
	}
	dir := f.dataDir
	if file := f.configFile(cmd); file != "" && !cmd.Flags().Changed("data-dir") {
		c, err := config.Load(file, nil)
		if err != nil {
			return nil
		}
		dir = c.DataDir
	}
	entries, err := os.ReadDir(dir)
	if err != nil || layout.HasIndex(dir) {
		return nil
	}
	for _, entry := range entries {
		if name, ok := datadir.NameOf(entry.Name()); ok {
			names = append(names, name)
		}
	}
	return names
}

func roleNames(*cobra.Command) (names []string) {
	for _, role := range policy.Roles() {
		names = append(names, string(role)+"\t"+role.Purpose())
	}
	return names
}

func dialectNames(*cobra.Command) []string { return []string{borgstore.Name, restic.Name, vger.Name} }
