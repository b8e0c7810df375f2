package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"

	"packhouse/api"
	"packhouse/api/client"
	"packhouse/api/holder"
	"packhouse/api/tokens"
	"packhouse/blobstore/vfs"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/repo/datadir"
)

// adminFlags say which server an administrative command asks: the one of a data directory, or one elsewhere.
type adminFlags struct {
	config  string
	dataDir string
	json    bool

	server    string // URL of a server elsewhere
	tokenFile string
	cert, key string
}

func (f *adminFlags) add(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.StringVarP(&f.dataDir, "data-dir", "d", config.Defaults().DataDir, "`directory` of the repositories, or of one")
	flags.StringVarP(&f.config, "config", "c", "", "take the directory from this configuration `file` (default: the variable "+configVariable+")")
	flags.BoolVar(&f.json, "json", false, "print JSON, for scripts")
	flags.StringVar(&f.server, "server", "", "send requests to the server at this `URL` instead of the one that runs on the data directory (default: the variable "+serverVariable+")")
	flags.StringVar(&f.tokenFile, "token-file", "", "`file` with the token for --server (default: the variable PACKHOUSE_TOKEN)")
	flags.StringVar(&f.cert, "cert", "", "`file` of a client certificate (PEM) for --server, instead of a token")
	flags.StringVar(&f.key, "key", "", "`file` of the key of --cert (PEM)")
}

// asServer adds to the error of a file that the user may not read, who may.
func asServer(err error) error {
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		return fmt.Errorf("%w; run this as the user of the server, as in sudo -u packhouse packhouse", err)
	}
	return err
}

// dir is the directory, absolute.
func (f *adminFlags) dir(cmd *cobra.Command) (string, error) {
	dir, err := f.namedDir(cmd)
	return dir, asServer(err)
}

func (f *adminFlags) namedDir(cmd *cobra.Command) (string, error) {
	server, err := f.address(cmd)
	if err != nil {
		return "", err
	}
	switch {
	case f.server != "":
		return "", usage("%s works with files on the server's machine: run it there, without --server", cmd.CommandPath())
	case server != "":
		return "", usage("%s works with files on the server's machine: run it there, with --config or --data-dir, which count instead of the variable %s", cmd.CommandPath(), serverVariable)
	}
	dir, id := f.dataDir, ""
	if file := f.configFile(cmd); file != "" && !cmd.Flags().Changed("data-dir") {
		c, err := config.Load(file, nil)
		if err != nil {
			return "", err
		}
		dir, id = c.DataDir, c.DataID
	}
	real, err := datadir.ResolveDir(dir)
	if err == nil {
		_, err = os.Stat(real)
	}
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("there is no directory %s; give the data directory with --data-dir or --config", dir)
	}
	if err == nil && !holder.Held(real) { // else the server has looked
		err = checkDataID(real, id)
	}
	return real, err
}

// adminClient sends the requests of administrative commands to the process that holds the directory, or, when there is
// none, to this one, which then holds it for as long as the command runs.
type adminClient struct{ *client.Session }

// withAdminClient calls do with a client of the server elsewhere that the flags name, or of the process that holds the directory. It
// calls it again if it got no answer because that process was ending.
func withAdminClient(cmd *cobra.Command, s streams, f *adminFlags, do func(*adminClient) error) error {
	server, err := f.address(cmd)
	if err != nil {
		return err
	}
	if server != "" {
		c, err := f.remote(server)
		if err != nil {
			return err
		}
		return errors.Join(do(c), c.Close())
	}
	dir, err := f.dir(cmd)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), claimPatience)
	defer cancel()
	hold := func(claim *holder.Claim, single bool) (*client.Session, error) {
		return holdDirectory(cmd.Context(), s, claim, single)
	}
	return asServer(client.Reach(ctx, dir, hold, func(session *client.Session) error { return do(&adminClient{session}) }))
}

// holdDirectory holds the directory for as long as the command runs. Other processes may use it meanwhile.
func holdDirectory(ctx context.Context, s streams, claim *holder.Claim, single bool) (*client.Session, error) {
	auth, err := api.NewAuth(api.AuthOptions{NoAuth: true})
	policy, auditFile := func(string) config.Policy { return config.Policy{} }, ""
	if err == nil {
		policy, auditFile, err = keptPolicy(claim.Dir, single)
	}
	if err != nil {
		return nil, errors.Join(err, claim.Release())
	}
	id := ""
	if !single {
		if id, err = datadir.Identity(vfs.OS(), claim.Dir); err != nil && !errors.Is(err, datadir.ErrNoIdentity) {
			return nil, errors.Join(err, claim.Release())
		}
	}
	var issued *tokens.Store // a single repository has none
	if !single {
		if issued, err = openTokens(claim, false, newLogger(s.err, "pretty", slog.LevelWarn)); err != nil {
			return nil, errors.Join(err, claim.Release())
		}
	}
	audit, closeAudit, err := openAuditFile(auditFile)
	if err != nil {
		return nil, errors.Join(err, claim.Release())
	}
	srv, err := openServer(ctx, serverOptions{
		Claim: claim, Single: single, Auth: auth, Audit: audit, Tokens: issued, Log: newLogger(s.err, "pretty", slog.LevelWarn), Alone: true,
		Policy: policy, Identity: id,
		Yield: func() {}, // when the command is done, which needs no telling
	})
	if err != nil {
		return nil, errors.Join(err, claim.Release())
	}
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- srv.run(ctx, nil, time.Minute) }()
	asked := &client.Client{HTTP: claim.Client(), ReadOnly: claim.ReadOnly}
	return &client.Session{Client: asked, Single: single, Own: true, End: func() error {
		// What this command destroyed is to be gone: nobody may come to finish that for long.
		for srv.components.set.Sweeping() && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		stop()
		err := <-ended
		closeAudit()
		if claim.Fresh() {
			claim.Tidy(false) // a look into a directory leaves nothing there
		}
		return errors.Join(err, claim.Release())
	}}, nil
}

// keptPolicy is what the server of a directory was told of its repositories, and the file of its audit log.
func keptPolicy(dir string, single bool) (of func(string) config.Policy, auditFile string, err error) {
	if single {
		policy, err := policyAbove(dir)
		return func(string) config.Policy { return policy }, "", err
	}
	kept, err := config.KeptPolicies(dir)
	return kept.Of, kept.AuditFile, err
}

// name is the repository a command is about: the argument, or the one there is.
func (c *adminClient) name(args []string) (string, error) {
	switch {
	case c.Single && len(args) == 0:
		return c.Only, nil
	case c.Single:
		return "", usage("the directory is one repository; leave the name out")
	case len(args) == 0:
		return "", usage("the name of a repository is missing; packhouse repo list shows them")
	}
	return args[0], datadir.CheckName(args[0])
}

// nameAndRest takes the repository's name off the front of args, where it has one.
func (c *adminClient) nameAndRest(args []string) (name string, rest []string, err error) {
	names := args
	if c.Single {
		names, rest = nil, args
	} else if len(args) > 0 {
		names, rest = args[:1], args[1:]
	}
	name, err = c.name(names)
	return name, rest, err
}

// each runs do for every repository. What is wrong with one does not keep the others from their turn: the error is that
// of each that failed, with its name. When nobody answers any more, or the command is to end, the rest is left.
func (c *adminClient) each(ctx context.Context, names []string, do func(name string) error) error {
	var all error
	for _, name := range names {
		err := do(name)
		if err != nil {
			all = errors.Join(all, fmt.Errorf("%s: %w", shownName(name), err))
		}
		var op *net.OpError
		if !c.Answered || ctx.Err() != nil || errors.As(err, &op) && op.Op == "dial" {
			break
		}
	}
	return all
}
