package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"packhouse/api"
	"packhouse/api/client"
	"packhouse/api/holder"
	"packhouse/blobstore/vfs"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/repo/datadir"
	"packhouse/repo/layout"
)

// adminFlags say which data directory an administrative command is about.
type adminFlags struct {
	config  string
	dataDir string
	json    bool
}

func (f *adminFlags) add(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.StringVarP(&f.dataDir, "data-dir", "d", config.Defaults().DataDir, "`directory` of the repositories, or of one")
	flags.StringVarP(&f.config, "config", "c", "", "take the directory from this configuration `file`")
	flags.BoolVar(&f.json, "json", false, "print JSON, for scripts")
}

// dir is the directory, absolute.
func (f *adminFlags) dir(cmd *cobra.Command) (string, error) {
	dir, id := f.dataDir, ""
	if f.config != "" && !cmd.Flags().Changed("data-dir") {
		c, err := config.Load(f.config, nil)
		if err != nil {
			return "", err
		}
		dir, id = c.DataDir, c.DataID
	}
	real, err := resolve(dir)
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
// none, to this one, which then holds it until close.
type adminClient struct {
	*client.Client
	only   string // the repository when the directory is one: its name where the question goes; else ""
	single bool
	own    bool // this process holds the directory
	end    func() error

	data string // the data directory; "": the directory is one repository, or elsewhere
}

// withAdminClient runs do with a client of the process that answers for the directory. Who holds it may be just beginning or
// ending, or have been a moment faster than we: do runs again, with whoever holds it then, as long as it got no answer at
// all.
func withAdminClient(cmd *cobra.Command, s streams, f *adminFlags, do func(*adminClient) error) error {
	dir, err := f.dir(cmd)
	if err != nil {
		return err
	}
	single := layout.HasIndex(dir)
	ctx, cancel := context.WithTimeout(cmd.Context(), claimPatience)
	defer cancel()
	free := 0 // attempts that were refused because of a holder that was gone a moment later
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		c, err := openAdminClient(ctx, cmd.Context(), s, dir, single)
		if err == nil {
			if !single {
				c.data = dir
			}
			err = errors.Join(do(c), c.close())
			if c.Answered {
				return err
			}
		}
		var silent *client.SilentError
		var held *holder.HeldError
		switch {
		case errors.As(err, &silent):
		case errors.As(err, &held) && (holder.Held(dir) || single && holder.Held(filepath.Dir(dir))):
		case held != nil && free < maxFree:
			free++
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// maxFree bounds the attempts that fail because the directory is held although nobody holds it: by commands that come and
// go, else by something that is none of ours, which is an error at last.
const maxFree = 20

// openAdminClient finds who answers for a directory: the server of the directory above a single repository, the holder, or
// this process. ctx bounds the wait; the client is for the command's life.
func openAdminClient(ctx, life context.Context, s streams, dir string, single bool) (*adminClient, error) {
	switch above := filepath.Dir(dir); {
	case single && holder.Held(above):
		c := connectToHolder(above)
		c.single, c.only = true, filepath.Base(dir)
		return c, nil
	case holder.Held(dir):
		c := connectToHolder(dir)
		c.single = single
		return c, nil
	}
	if err := holder.CheckOwner(dir, os.Geteuid()); err != nil {
		return nil, err
	}
	if single {
		claim, err := holder.ClaimRepository(dir)
		if err != nil {
			return nil, err
		}
		return holdDirectory(life, s, claim, true)
	}
	claim, err := holder.ClaimData(ctx, dir)
	if err != nil {
		return nil, err
	}
	return holdDirectory(life, s, claim, false)
}

// connectToHolder asks the process that holds a directory.
func connectToHolder(dir string) *adminClient {
	return &adminClient{Client: &client.Client{HTTP: holder.Client(dir), Dir: dir}, end: func() error { return nil }}
}

// holdDirectory holds the directory for as long as the command runs. Other processes may use it meanwhile.
func holdDirectory(ctx context.Context, s streams, claim *holder.Claim, single bool) (*adminClient, error) {
	auth, err := api.NewAuth(api.AuthOptions{NoAuth: true})
	policy := func(string) config.Policy { return config.Policy{} }
	if err == nil {
		policy, err = keptPolicy(claim.Dir, single)
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
	srv, err := openServer(ctx, serverOptions{
		Claim: claim, Single: single, Auth: auth, Log: newLogger(s.err, "pretty", slog.LevelWarn), Alone: true,
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
	return &adminClient{Client: asked, single: single, own: true, end: func() error {
		// What this command destroyed is to be gone: nobody may come to finish that for long.
		for srv.components.set.Sweeping() && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		stop()
		err := <-ended
		if claim.Fresh() {
			claim.Tidy(false) // a look into a directory leaves nothing there
		}
		return errors.Join(err, claim.Release())
	}}, nil
}

// keptPolicy is what the server of a directory was told of its repositories.
func keptPolicy(dir string, single bool) (func(string) config.Policy, error) {
	if single {
		policy, err := policyAbove(dir)
		return func(string) config.Policy { return policy }, err
	}
	kept, err := config.KeptPolicies(filepath.Join(dir, layout.OwnDir))
	return kept.Of, err
}

// close lets go of the directory.
func (c *adminClient) close() error { return c.end() }

// name is the repository a command is about: the argument, or the one there is.
func (c *adminClient) name(args []string) (string, error) {
	switch {
	case c.single && len(args) == 0:
		return c.only, nil
	case c.single:
		return "", usage("the directory is one repository; leave the name out")
	case len(args) == 0:
		return "", usage("the name of a repository is missing; packhouse repo list shows them")
	}
	return args[0], datadir.CheckName(args[0])
}

// nameAndRest takes the repository's name off the front of args, where it has one.
func (c *adminClient) nameAndRest(args []string) (name string, rest []string, err error) {
	names := args
	if c.single {
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
