package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"packhouse/api"
	"packhouse/api/holder"
	"packhouse/api/tokens"
	"packhouse/bench/profile"
	"packhouse/cmd/packhouse/internal/acme"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/repo"
	"packhouse/repo/adopt"
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
		Long: `Serves all repositories of a data directory over HTTP, each at /NAME. Clients create
repositories.

Without any configuration the data directory is ./packhouse-data, the address is
127.0.0.1:8484, and a random token is generated and printed:

  packhouse serve

Listen on all addresses, with TLS, and allow each repository 500 GiB:

  packhouse serve -l :8484 --tls-cert cert.pem --tls-key key.pem --quota 500G
  packhouse serve -l :8484 --tls-self-signed

The same with a certificate of Let's Encrypt, to whose terms you agree:

  packhouse serve -l :443 --acme-domain backup.example.org --acme-agree

Use a configuration file, of --config or the variable PACKHOUSE_CONFIG (docs/configuration.md lists
its keys; flags override the environment, and the environment overrides the file):

  packhouse serve --config /etc/packhouse.toml

Take over the directory of vger-server, vykar-server or borg, without copying: its repositories are made in
DIR.packhouse before the first client is answered, and clients keep their URL. DIR stays as it is.

  packhouse serve --data-dir /var/lib/vykar --adopt

The token comes from --token-file, else from PACKHOUSE_TOKEN, VYKAR_TOKEN or VGER_TOKEN, else
from the configuration file, else from .packhouse/token in the data directory.

On SIGHUP the server reads the configuration again. On SIGINT or SIGTERM it finishes running
requests and stops; on a second signal it stops immediately. Exit code 0: stopped by a signal.

With --rest it serves one repository on stdin and stdout, which is what borg uses over ssh;
--role, --permissions, --append-only and --quota then apply to this client:

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
	if !cmd.Flags().Changed("config") {
		f.config = os.Getenv(configVariable)
	}
	c, err := config.Load(f.config, overrides)
	if err != nil {
		return err
	}
	var place placement
	if f.adopt {
		if place, err = placeBeside(c.DataDir, c.Mounted()); err != nil {
			return err
		}
		overrides = place.over(overrides)
		if c, err = config.Load(f.config, overrides); err != nil {
			return err
		}
	}
	level := new(slog.LevelVar)
	setLevel(level, c.LogLevel)
	log, flush := queuedLogger(s.err, c.LogFormat, level)
	defer flush()
	for _, warning := range append(c.Warnings, f.warnings(cmd.Flags())...) {
		log.Warn(warning)
	}
	ctx, stop := untilSignal(cmd.Context(), log, flush)
	defer stop()
	defer profile.OnSignal(f.profile, log)()
	sv := &service{c: c, file: f.config, overrides: overrides, place: place, level: level, log: log}
	return sv.run(ctx, s)
}

// service is `packhouse serve` at work.
type service struct {
	c         config.Config // as it was at the start
	file      string
	overrides func(*config.Config)
	place     placement // with --adopt
	level     *slog.LevelVar
	log       *slog.Logger
	rest      *resticServer // nil: it is not started as rest-server

	reloading sync.Mutex // held over a reload of the configuration, or of the password file

	current   atomic.Pointer[config.Config]    // replaced by a reload, never modified
	passwords atomic.Pointer[api.PasswordFile] // nil: there is none
	cert      *api.Certificate                 // in files; nil: there is none
	acme      *acme.Manager                    // nil: the certificate is in files, or there is no TLS
	clients   *api.ClientCAs                   // nil: clients are not asked for certificates
	server    *server
	tokens    *tokens.Store

	challenges net.Listener // to which the authority of ACME connects: of clients, or one of its own; nil: there is none yet

	certificateFile string // of a certificate that the server has made for itself, for clients; "": there is none

	readOnly bool   // the data directory's file system was, at the start
	unkept   string // the token of this run, which could not be kept; "": there is none
}

// run serves until ctx ends. The order of a start: all checks that can fail come before anything is created, and clients get
// answers only when everything else is ready.
func (sv *service) run(ctx context.Context, s streams) (err error) {
	sv.current.Store(&sv.c)
	dir, err := sv.examine()
	if err != nil {
		return err
	}
	claim, err := sv.claim(ctx, dir)
	if claim == nil {
		return err
	}
	defer func() { err = errors.Join(err, claim.Release()) }()
	defer sv.closeTLS()
	id, made, err := sv.prepare(claim)
	if err != nil {
		return err
	}
	token, where, err := sv.token()
	if err != nil {
		return err
	}
	auth, err := sv.firstAuth(claim, token)
	if err != nil {
		return err
	}
	defer sv.tokens.Close()
	proxies, err := api.ParseProxies(sv.c.Proxies)
	if err != nil {
		return err
	}
	alerts, err := sv.alertOptions(claim)
	if err != nil {
		return err
	}
	audit, closeAudit, err := sv.openAudit()
	if err != nil {
		return err
	}
	defer closeAudit()
	listeners, passed, err := sv.listen(ctx)
	if err != nil {
		return err
	}
	o := sv.options()
	o.Claim, o.Auth, o.Proxies, o.Audit, o.Identity, o.Alerts = claim, auth, &proxies, audit, id, alerts
	if err := sv.open(ctx, o); err != nil {
		return errors.Join(err, api.CloseAll(listeners))
	}
	stopReloading := sv.reloadOnHangup() // before anybody is told that the server runs: the signal would end it
	defer stopReloading()
	newID := ""
	if made {
		newID = id
	}
	if err := sv.banner(s, listeners, token, where, newID); err != nil {
		return errors.Join(err, api.CloseAll(listeners), sv.server.close(0))
	}
	sv.secure(listeners, passed)
	sv.notify(daemon.SdNotifyReady)
	return sv.server.run(ctx, listeners, sv.c.Drain)
}

// claim takes the data directory for this process, and makes the repositories that are to be made of directories of another server. A claim of nil without an
// error: ctx has ended meanwhile.
func (sv *service) claim(ctx context.Context, dir string) (*holder.Claim, error) {
	if err := sv.rest.prepare(dir); err != nil {
		return nil, err
	}
	claimCtx, cancel := context.WithTimeout(ctx, claimPatience)
	claim, err := holder.ClaimData(claimCtx, dir)
	cancel()
	if err != nil {
		return nil, hintOfBeside(err, sv.place)
	}
	if stopped, err := sv.takeInAll(ctx, claim); stopped || err != nil {
		return nil, errors.Join(err, claim.Release())
	}
	return claim, nil
}

// takeInAll makes the repositories that are to be made of directories of another server. stopped: ctx has ended.
func (sv *service) takeInAll(ctx context.Context, claim *holder.Claim) (stopped bool, err error) {
	for _, source := range sv.place.sources {
		o := adopt.Options{Source: source.dir, Into: claim.Dir, Name: source.name}
		if stopped, err = takeIn(ctx, sv.log, sv.notify, o); stopped || err != nil {
			break
		}
	}
	if err != nil && claim.Fresh() {
		claim.Tidy(false) // what was refused leaves nothing
	}
	return stopped, err
}

// open opens the server with the settings that a reload can change.
func (sv *service) open(ctx context.Context, o serverOptions) (err error) {
	if sv.server, err = openServer(ctx, o); err == nil {
		sv.server.components.set.SetTotalQuota(sv.c.TotalQuota)
	}
	return err
}

// secure adds TLS to the listeners, if it is configured, logs each, and begins to obtain certificates. passed: they come from the service manager.
func (sv *service) secure(listeners []net.Listener, passed bool) {
	for i, l := range listeners {
		if !sv.c.TLS() && exposed(l.Addr().String()) && slices.Equal(sv.c.Proxies, api.DefaultProxies) {
			sv.log.Warn(plainText(l.Addr().String()))
		}
		sv.log.Info("packhouse listening on "+l.Addr().String(), "version", version(), "passed", passed)
		if sv.c.TLS() {
			listeners[i] = sv.tls().Wrap(l)
		}
	}
	sv.startACME()
}

// options are those of the server that the configuration decides alone.
func (sv *service) options() serverOptions {
	o := serverOptions{
		Policy: sv.policy, Authorize: sv.authorize, Metrics: sv.mayScrape, Tokens: sv.tokens, UserName: sv.isUser,
		Root: sv.c.Mounted(), UI: sv.c.UI && sv.rest == nil, ProxyHeader: func() string { return sv.current.Load().ProxyUserHeader },
		Unchecked: sv.c.VerifyReads == "never", Limits: sv.limits(), Log: sv.log,
		Stopping:    func() { sv.notify(daemon.SdNotifyStopping) },
		Maintenance: sv.c.Maintenance, Maintain: true, Tasks: sv.tasks(),
	}
	sv.rest.options(&o)
	return o
}

// examine makes the checks that need no claim on the data directory, which need not exist, and returns its path.
func (sv *service) examine() (dir string, err error) {
	if dir, err = datadir.ResolveDir(sv.c.DataDir); err != nil {
		return "", fmt.Errorf("data directory: %w", err)
	}
	if err := checkDataID(dir, sv.c.DataID); err != nil {
		return "", err
	}
	if err := sv.rest.examine(dir); err != nil {
		return "", err
	}
	if err := checkDataDir(dir, sv.log, sv.rest.ignores); err != nil {
		return "", err
	}
	if err := checkAuditFile(sv.c.AuditFile(), dir); err != nil {
		return "", err
	}
	if err := sv.examineTLS(); err != nil {
		return "", err
	}
	if err := sv.loadPasswords(&sv.c); err != nil {
		return "", sv.rest.explain(err)
	}
	if sv.c.Token == "" && sv.c.TokenFile != "" {
		err = checkTokenFile(sv.c.TokenFile)
	}
	return dir, err
}

// prepare creates the server's files in its data directory, if that is writable, and returns the directory's identity; "": it has
// none. made: this start created the identity.
func (sv *service) prepare(claim *holder.Claim) (id string, made bool, err error) {
	sv.readOnly = claim.ReadOnly
	if id, made, err = identify(claim, sv.c.DataID); err != nil {
		return "", false, err
	}
	if err := sv.prepareTLS(claim); err != nil {
		return "", false, err
	}
	if missing := missingRepositories(claim.Dir, &sv.c); len(missing) > 0 {
		sv.log.Warn("repositories in the configuration do not exist in the data directory; check that it is the right one",
			"path", claim.Dir, "repositories", strings.Join(missing, ", "))
	}
	sv.warnOfVanished(claim.Dir)
	if claim.ReadOnly {
		sv.log.Warn("the file system of the data directory is read-only: clients can only read, and their locks are kept in memory", "path", claim.Dir)
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

// token returns the server's token; "": rest-server has none.
func (sv *service) token() (string, tokenSource, error) {
	c := sv.current.Load()
	if sv.rest != nil {
		return "", tokenSource{}, nil
	}
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
		sv.log.Warn("other users can read the token file; set its mode to 0600", "mode", fmt.Sprintf("%04o", info.Mode().Perm()))
	}
	return token, tokenSource{path, made}, err
}

// firstAuth opens the issued tokens, and returns who may use the server.
func (sv *service) firstAuth(claim *holder.Claim, token string) (*api.Auth, error) {
	var err error
	if sv.tokens, err = openTokens(claim, true, sv.log); err != nil {
		return nil, err
	}
	sv.warnOfNames()
	auth, err := sv.auth(&sv.c, token)
	if err != nil {
		sv.tokens.Close()
	}
	return auth, err
}

// auth is who may use the server.
func (sv *service) auth(c *config.Config, token string) (*api.Auth, error) {
	if sv.rest.open() {
		return api.NewAuth(api.AuthOptions{NoAuth: true})
	}
	o := api.AuthOptions{
		Issued: sv.tokens, Clients: sv.clients, ProxyHeader: c.ProxyUserHeader,
		Users: sv.passwordUsers(c),
	}
	if token != "" {
		o.Tokens = []api.Token{{Name: config.TokenName, Secret: token}}
	}
	for _, u := range c.Users {
		o.Users = append(o.Users, api.User{Name: u.Name, Hash: u.PasswordHash, Permissions: u.Permissions})
	}
	return api.NewAuth(o)
}

// policy is what the configuration says of a repository.
func (sv *service) policy(name string) config.Policy { return sv.current.Load().PolicyOf(name) }

// authorize keeps users and holders of issued tokens out of repositories that are not theirs, and from what is not granted to
// them any more: the configuration is replaced a moment before the users are, or without them when the token cannot be read;
// and their queued jobs have the permissions of when they were submitted. A name of both has what both grant.
func (sv *service) authorize(repository, dialect string, p repo.Principal) repo.Principal {
	if p.Name == config.TokenName && sv.rest == nil || sv.rest.open() {
		return p
	}
	c := sv.current.Load()
	token, issued := sv.tokens.Named(p.Name)
	p.Unguarded = true
	if issued {
		p.Permissions = policy.Intersect(p.Permissions, token.Permissions(repository, dialect))
		p.Unguarded = token.Role == policy.Admin
	}
	if issued && !sv.isUser(p.Name) && !p.ClientOnly {
		return p
	}
	p.ClientOnly = p.ClientOnly || !c.HasUser(p.Name)
	p.Unguarded = p.Unguarded && c.RoleOf(p.Name) == policy.Admin
	if now := sv.grants(c, p.Name, repository, dialect); now != p.Permissions {
		p.Permissions = policy.Intersect(p.Permissions, now)
	}
	return p
}

// notify tells the service manager, if there is one.
func (sv *service) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		sv.log.Warn("could not notify the service manager", "error", err)
	}
}

// limits are those of the configuration; what it says nothing of has its default.
func (sv *service) limits() api.Limits {
	l := api.Limits{ItemBytes: sv.c.MaxBody, PlanBytes: sv.c.Maintenance.PlanBytes, MinRate: sv.c.MinRate}
	if l.MinRate == 0 {
		l.MinRate = -1 // any; to api 0 is the default
	}
	return l
}
