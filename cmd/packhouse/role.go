package main

import (
	"encoding/json"
	"errors"

	"github.com/spf13/cobra"

	"packhouse/api/borgstore"
	"packhouse/api/restic"
	"packhouse/api/vger"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/internal/terminal"
	"packhouse/repo/policy"
)

// roleCommand is the verb `role`. It asks no server: roles are the same everywhere.
func roleCommand(s streams) *cobra.Command {
	asJSON := false
	parent := &cobra.Command{
		Use:   "role",
		Short: "Show what the roles of users and tokens allow",
		Long: `Shows the roles that a token, a user or an ssh key can have, and what each allows the clients of a
protocol to do.

  packhouse role list
  packhouse role show backup --dialect borgstore`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	parent.PersistentFlags().BoolVar(&asJSON, "json", false, "print JSON, for scripts")
	parent.AddCommand(roleList(s, &asJSON), roleShow(s, &asJSON))
	return parent
}

func roleList(s streams, asJSON *bool) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Show all roles",
		Args:  exactly(0, ""),
		RunE: func(*cobra.Command, []string) error {
			type row struct {
				Role    policy.Role `json:"role"`
				Purpose string      `json:"purpose"`
			}
			var rows []row
			t := terminal.NewTable(s.out, "ROLE", "FOR")
			for _, role := range policy.Roles() {
				rows = append(rows, row{role, role.Purpose()})
				if !*asJSON {
					t.Row(string(role), role.Purpose())
				}
			}
			if *asJSON {
				return printJSON(s, map[string]any{"roles": rows})
			}
			return t.End()
		},
	}
}

func roleShow(s streams, asJSON *bool) *cobra.Command {
	dialect := ""
	cmd := &cobra.Command{
		Use:   "show ROLE --dialect borgstore|restic|vger",
		Short: "Show the permissions of a role",
		Long: `Shows the table of a role for the clients of one protocol: for each key prefix the letters l (list names
and sizes), r (read), w (store new items), W (overwrite items) and D (delete items). Only the longest
prefix that matches a key counts; "" is for all other keys.

  packhouse role show backup --dialect borgstore`,
		Args: exactly(1, "a ROLE"),
		RunE: func(_ *cobra.Command, args []string) error {
			if !knownDialect(dialect) {
				return errDialect
			}
			role, err := config.ParseRole(args[0])
			if err != nil {
				return usage("%w", err)
			}
			rows := role.Permissions(dialect).Rows()
			if *asJSON {
				return printJSON(s, map[string]any{"role": role, "dialect": dialect, "permissions": rows})
			}
			t := terminal.NewTable(s.out, "PREFIX", "LETTERS")
			for _, row := range rows {
				prefix := row.Prefix
				if prefix == "" {
					prefix = `""`
				}
				t.Row(prefix, row.Letters)
			}
			return t.End()
		},
	}
	cmd.Flags().StringVar(&dialect, "dialect", "", "protocol of the clients: borgstore, restic or vger")
	return cmd
}

// errDialect is about a --dialect that is missing or unknown.
var errDialect = &exitError{exitUsage, errors.New("--dialect must be borgstore (for borg), restic (for restic and rustic) or vger (for V'Ger and vykar)")}

func knownDialect(name string) bool {
	return name == borgstore.Name || name == restic.Name || name == vger.Name
}

// printJSON prints a value as a JSON document.
func printJSON(s streams, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return terminal.JSON(s.out, text)
}
