package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"packhouse/api/admin"
	"packhouse/api/tokens"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/internal/terminal"
)

func tokenCommand(s streams) *cobra.Command {
	f := &adminFlags{}
	parent := &cobra.Command{
		Use:   "token",
		Short: "Create, show and revoke tokens for clients",
		Long: `A token lets a client use repositories in a role (packhouse role list), instead of the server's own token:
clients send it as Bearer token, or as the password with any user name. Its name is what logs and
the history say of who did what. Tokens are created and revoked while the server runs.

  packhouse token create --repo laptop --role backup --expires 90d
  packhouse token list
  packhouse token revoke laptop-backup`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f.add(parent)
	parent.AddCommand(tokenCreate(s, f), tokenList(s, f), tokenRevoke(s, f))
	return parent
}

// withTokens runs do with an admin client of a server that can have tokens.
func (f *adminFlags) withTokens(cmd *cobra.Command, s streams, do func(c *adminClient) error) error {
	return withAdminClient(cmd, s, f, func(c *adminClient) error {
		if c.Single && c.Only == "" {
			return usage("the directory is a single repository, which has no tokens; give the data directory with --data-dir")
		}
		return do(c)
	})
}

// tokenFlags are the flags of token create.
type tokenFlags struct {
	repositories []string
	all          bool
	role         string
	name         string
	expires      string
}

func tokenCreate(s streams, f *adminFlags) *cobra.Command {
	n := &tokenFlags{}
	cmd := &cobra.Command{
		Use:   "create --repo NAME --role ROLE",
		Short: "Create a token, and print its secret",
		Long: `Creates a token and prints its secret, alone, on standard output; all else goes to standard error. The
secret is shown only now: the server keeps a hash of it. The repository must exist.

  packhouse token create --repo laptop --role backup --expires 90d
  packhouse token create --all-repositories --role maintain --name nightly > nightly.token`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			wanted, err := n.parse(cmd)
			if err != nil {
				return err
			}
			return f.withTokens(cmd, s, func(c *adminClient) error {
				made, text, err := c.CreateToken(cmd.Context(), wanted)
				if err != nil {
					return err
				}
				if f.json {
					return terminal.JSON(s.out, text)
				}
				fmt.Fprintf(s.err, "token %s: role %s in %s, %s\n", made.Name, made.Role, repositoriesOf(made), expiryOf(made))
				if _, err = fmt.Fprintln(s.out, made.Secret); err != nil {
					return fmt.Errorf("the token was created, but its secret could not be printed; revoke it with packhouse token revoke %s: %w", made.Name, err)
				}
				return nil
			})
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVarP(&n.repositories, "repo", "r", nil, "`name` of a repository; may be repeated")
	flags.BoolVar(&n.all, "all-repositories", false, "for all repositories, also those that are created later")
	flags.StringVar(&n.role, "role", "", "`role` of the client; packhouse role list shows them")
	flags.StringVar(&n.name, "name", "", "`name` of the token (default: repository and role)")
	flags.StringVar(&n.expires, "expires", "", "`time` after which the token is not accepted any more, such as 90d (default: never)")
	return cmd
}

// parse checks the flags.
func (n *tokenFlags) parse(cmd *cobra.Command) (wanted admin.NewToken, err error) {
	switch {
	case n.all == (len(n.repositories) > 0):
		return wanted, usage("give either --repo NAME or --all-repositories")
	case n.role == "":
		return wanted, usage("--role is missing; packhouse role list shows all roles")
	case n.all:
		n.repositories = []string{tokens.All}
	}
	role, err := config.ParseRole(n.role)
	if err != nil {
		return wanted, usage("--role: %w", err)
	}
	if cmd.Flags().Changed("name") && n.name == "" {
		return wanted, usage("--name: must not be empty")
	}
	wanted = admin.NewToken{Name: n.name, Role: string(role), Repositories: n.repositories}
	if cmd.Flags().Changed("expires") {
		d, err := config.ParseDuration(n.expires)
		if err == nil && d <= 0 {
			err = errors.New("must be more than 0; leave it out for a token that does not expire")
		}
		if err != nil {
			return wanted, usage("--expires: %w", err)
		}
		expires := time.Now().Add(d).Round(time.Second)
		wanted.Expires = &expires
	}
	return wanted, nil
}

func repositoriesOf(t admin.Token) string {
	if t.Repositories[0] == tokens.All {
		return "all repositories"
	}
	return strings.Join(t.Repositories, ", ")
}

func expiryOf(t admin.Token) string {
	switch {
	case t.Expires.IsZero():
		return "does not expire"
	case t.Expired:
		return "expired " + t.Expires.Local().Format(time.RFC3339)
	}
	return "expires " + t.Expires.Local().Format(time.RFC3339)
}

// useOf tells when a token was last used.
func useOf(t admin.Token, table *terminal.Table) string {
	switch {
	case !t.LastUsed.IsZero():
		return table.Time(t.LastUsed)
	case t.UsesKnownSince.IsZero():
		return "not known"
	}
	return "not since " + table.Time(t.UsesKnownSince)
}

func tokenList(s streams, f *adminFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Show all tokens, without their secrets",
		Long: `Shows all tokens, without their secrets. The time of the last use is up to five minutes early. Uses in the last
minutes before a crash of the server may be missing.

  packhouse token list`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.withTokens(cmd, s, func(c *adminClient) error {
				list, text, err := c.Tokens(cmd.Context())
				if err != nil {
					return err
				}
				if f.json {
					return terminal.JSON(s.out, text)
				}
				t := terminal.NewTable(s.out, "NAME", "ROLE", "REPOSITORIES", "CREATED", "BY", "EXPIRES", "LAST USED")
				for _, token := range list {
					t.Row(token.Name, string(token.Role), repositoriesOf(token), t.Time(token.Created), token.CreatedBy, expiryOf(token), useOf(token, t))
				}
				return t.End()
			})
		},
	}
}

func tokenRevoke(s streams, f *adminFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke NAME",
		Short: "End a token at once",
		Long: `Ends a token: it is not accepted any more, requests that were made with it are cut, and compactions that its
client has queued or started are cancelled.

  packhouse token revoke laptop-backup`,
		Args: exactly(1, "a NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.withTokens(cmd, s, func(c *adminClient) error {
				if err := c.RevokeToken(cmd.Context(), args[0]); err != nil {
					return err
				}
				return doneTo(s, f.json, "revoked", args[0])
			})
		},
	}
}
