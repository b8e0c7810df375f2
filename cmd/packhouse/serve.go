package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"packhouse/api"
	"packhouse/api/holder"
	"packhouse/bench/profile"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/policy"
)

// serveCommand is the verb `serve`: a server of many repositories, or, with --rest, what borg starts over ssh.
func serveCommand(s streams) *cobra.Command {
	f := &serveFlags{}
	r := &restFlags{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the repositories of a data directory",
		Long: `Serves all repositories of a data directory over HTTP, each at /NAME. A repository comes
into being when a client creates it.

Without any configuration the data directory is ./packhouse-data, the address is
127.0.0.1:8484, and a random token is made and printed:

  packhouse serve

On all addresses, with TLS and at most 500 GiB a repository:

  packhouse serve -l :8484 --tls-cert cert.pem --tls-key key.pem --quota 500G

With a configuration file (docs/configuration.md lists its keys; flags win over the
environment, the environment over the file):

  packhouse serve --config /etc/packhouse.toml

The token comes from --token-file, else from PACKHOUSE_TOKEN, VYKAR_TOKEN or VGER_TOKEN, else
from the configuration file, else from .packhouse/token in the data directory.

SIGHUP reads the configuration again. SIGINT or SIGTERM finishes running requests and stops;
a second one stops at once. Exit code 0: stopped on request.

With --rest it speaks on stdin and stdout for one repository, as borg wants it over ssh;
--permissions, --append-only and --quota then hold for this client:

  packhouse serve --rest --backend FILE:/srv/backup/laptop`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if r.rest {
				if err := f.refuseWithRest(cmd.Flags()); err != nil {
					return err
				}
				r.quota, r.appendOnly, r.permissions = f.quota, f.appendOnly, f.permissions
				return serveRest(cmd, s, r)
			}
			if err := r.refuseWithoutRest(cmd.Flags()); err != nil {
				return err
			}
			return serve(cmd, s, f)
		},
	}
	f.add(cmd.Flags())
	r.addServe(cmd.Flags())
	return cmd
}

// serve runs a server of many repositories until a signal or the end of the command's context.
func serve(cmd *cobra.Command, s streams, f *serveFlags) error {
	overrides, err := f.overrides(cmd.Flags())
	if err != nil {
		return err
	}
	c, err := config.Load(f.config, overrides)
	if err != nil {
		return err
	}
	level := new(slog.LevelVar)
	setLevel(level, c.LogLevel)
	log := newLogger(s.err, c.LogFormat, level)
	for _, warning := range append(c.Warnings, f.warnings(cmd.Flags())...) {
		log.Warn(warning)
	}
	ctx, stop := untilSignal(cmd.Context(), log)
	defer stop()
	defer profile.OnSignal(f.profile, log)()
	sv := &service{c: c, file: f.config, overrides: overrides, level: level, log: log}
	return sv.run(ctx, s)
}

// service is `packhouse serve` at work.
type service struct {
	c         config.Config // as it was at the start
	file      string
	overrides func(*config.Config)
	level     *slog.LevelVar
	log       *slog.Logger

	current atomic.Pointer[config.Config] // replaced by a reload, never modified
	cert    *api.Certificate              // nil: no TLS
	server  *server

	readOnly bool   // the data directory's file system was, at the start
	unkept   string // the token of this run, which could not be kept; "": there is none
}

// run serves until ctx ends. The order of a start: what can be refused is refused before anything is made, and clients are
// answered only when everything else is ready.
func (sv *service) run(ctx context.Context, s streams) (err error) {
	sv.current.Store(&sv.c)
	dir, err := sv.examine()
	if err != nil {
		return err
	}
	claimCtx, cancel := context.WithTimeout(ctx, claimPatience)
	claim, err := holder.ClaimData(claimCtx, dir)
	cancel()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, claim.Release()) }()
	id, made, err := sv.prepare(claim)
	if err != nil {
		return err
	}
	token, where, err := sv.token()
	if err != nil {
		return err
	}
	auth, err := authOf(&sv.c, token)
	if err != nil {
		return err
	}
	listeners, passed, err := api.OpenListeners(ctx, sv.c.Listen)
	if err != nil {
		return err
	}
	sv.server, err = openServer(ctx, serverOptions{
		Claim: claim, Auth: auth, Policy: sv.policy, Authorize: sv.authorize, Root: sv.c.Mounted(),
		Limits: api.Limits{ItemBytes: sv.c.MaxBody, PlanBytes: sv.c.Maintenance.PlanBytes}, Log: sv.log,
		Stopping:    func() { sv.notify(daemon.SdNotifyStopping) },
		Maintenance: sv.c.Maintenance, Maintain: true, Tasks: sv.tasks(), Identity: id,
	})
	if err != nil {
		return errors.Join(err, api.CloseAll(listeners))
	}
	newID := ""
	if made {
		newID = id
	}
	if err := printBanner(s.out, sv, listeners, token, where, newID); err != nil {
		return errors.Join(err, api.CloseAll(listeners), sv.server.close(0))
	}
	for i, l := range listeners {
		sv.log.Info("packhouse listening on "+l.Addr().String(), "version", version(), "passed", passed)
		if sv.cert != nil {
			listeners[i] = sv.cert.Wrap(l)
		}
	}
	stopReloading := sv.reloadOnHangup()
	defer stopReloading()
	sv.notify(daemon.SdNotifyReady)
	return sv.server.run(ctx, listeners, sv.c.Drain)
}

// examine refuses what can be refused without a claim on the data directory, which need not exist, and returns its path.
func (sv *service) examine() (dir string, err error) {
	if dir, err = datadir.ResolveDir(sv.c.DataDir); err != nil {
		return "", fmt.Errorf("data directory: %w", err)
	}
	if err := checkDataID(dir, sv.c.DataID); err != nil {
		return "", err
	}
	if err := checkDataDir(dir, sv.log); err != nil {
		return "", err
	}
	if sv.c.TLSCert != "" {
		if sv.cert, err = api.LoadCertificate(sv.c.TLSCert, sv.c.TLSKey); err != nil {
			return "", err
		}
	}
	if sv.c.Token == "" && sv.c.TokenFile != "" {
		err = checkTokenFile(sv.c.TokenFile)
	}
	return dir, err
}

// prepare makes what a server keeps in its data directory, as far as that takes writes, and returns the directory's identity;
// "": it has none. made: this start has given it one.
func (sv *service) prepare(claim *holder.Claim) (id string, made bool, err error) {
	sv.readOnly = claim.ReadOnly
	if id, made, err = identify(claim, sv.c.DataID); err != nil {
		return "", false, err
	}
	if missing := missingRepositories(claim.Dir, &sv.c); len(missing) > 0 {
		sv.log.Warn("the configuration names repositories that are not in the data directory; is this the right one?",
			"path", claim.Dir, "repositories", strings.Join(missing, ", "))
	}
	if claim.ReadOnly {
		sv.log.Warn("the file system of the data directory is read-only: clients can read, and nothing is written; their locks are kept in memory", "path", claim.Dir)
		return id, made, nil
	}
	return id, made, sv.c.Policies().Keep(claim.Dir)
}

// claimPatience is how long a start waits for holders of single repositories to let go.
const claimPatience = 60 * time.Second

// tokenSource is where the token came from.
type tokenSource struct {
	path string // of the file it is kept in; empty: configured, or not kept
	made bool   // just now
}

// token returns the server's token.
func (sv *service) token() (string, tokenSource, error) {
	c := sv.current.Load()
	if c.Token != "" {
		return c.Token, tokenSource{}, nil
	}
	path := tokenPath(c)
	token, made, err := keptToken(path)
	if sv.readOnly && (errors.Is(err, syscall.EROFS) || errors.Is(err, os.ErrNotExist)) {
		first := sv.unkept == ""
		if first {
			sv.unkept, err = newToken()
		} else {
			err = nil
		}
		return sv.unkept, tokenSource{made: first}, err
	}
	if info, statErr := os.Stat(path); err == nil && statErr == nil && info.Mode().Perm()&0o077 != 0 {
		sv.log.Warn("others can read the file of the token; make its mode 0600", "mode", fmt.Sprintf("%04o", info.Mode().Perm()))
	}
	return token, tokenSource{path, made}, err
}

// authOf is who may use a server.
func authOf(c *config.Config, token string) (*api.Auth, error) {
	o := api.AuthOptions{Tokens: []api.Token{{Name: config.TokenName, Secret: token}}}
	for _, u := range c.Users {
		o.Users = append(o.Users, api.User{Name: u.Name, Hash: u.PasswordHash, Permissions: u.Permissions})
	}
	return api.NewAuth(o)
}

// policy is what the configuration says of a repository.
func (sv *service) policy(name string) config.Policy { return sv.current.Load().PolicyOf(name) }

// authorize keeps users out of repositories that are not theirs, and from what the configuration does not grant them any
// more: it is replaced a moment before the users are, or without them when the token cannot be read; and their queued
// jobs have the permissions of when they were submitted.
func (sv *service) authorize(repository string, p repo.Principal) repo.Principal {
	if p.Name == config.TokenName {
		return p
	}
	if now := sv.current.Load().Grants(p.Name, repository); now != p.Permissions {
		p.Permissions = policy.Intersect(p.Permissions, now)
	}
	return p
}

// notify tells the service manager, if there is one.
func (sv *service) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		sv.log.Warn("tell the service manager", "error", err)
	}
}
