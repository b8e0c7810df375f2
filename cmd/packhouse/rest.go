package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"packhouse/api"
	"packhouse/api/borgstore"
	"packhouse/api/holder"
	"packhouse/api/stdio"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/internal/bytesize"
	"packhouse/repo"
	"packhouse/repo/adopt"
	"packhouse/repo/datadir"
	"packhouse/repo/layout"
	"packhouse/repo/policy"
)

// restName is the program that the verb of the same name replaces; the verb accepts its options.
const restName = stdio.ServerName

// restFlags are the options of borgstore-server-rest, and of `borg serve --rest`.
type restFlags struct {
	backend     string
	permissions string
	quota       string

	host             string // borgstore-server-rest only
	port             int
	username         string
	password         string
	socketActivation bool
	stdio            bool
	adopt            bool

	rest        bool // serve only, like the rest
	appendOnly  bool
	role        string
	restriction stdio.Restriction
}

func restCommand(s streams) *cobra.Command {
	f := &restFlags{}
	cmd := &cobra.Command{
		Use:   restName,
		Short: "Serve one repository, with the options of borgstore's own server",
		Long: `Serves one repository at / for BorgStore clients, with the options of borgstore-server-rest, and
--adopt. A symbolic link of that name to packhouse does the same.

  packhouse borgstore-server-rest --backend file:///srv/backup/laptop --username u --password p
  packhouse borgstore-server-rest --stdio --backend FILE:backup/laptop

The directory that borgstore's own server has served becomes a repository, without copying, and is served at once:

  packhouse borgstore-server-rest --backend file:///srv/backup/laptop --adopt

Any number of --stdio processes can use one repository at the same time, also while packhouse
serve runs on the directory that contains it: all of them use the one process that has it open.

Exit codes: 0 end of input or stopped by a signal, 1 invalid option value or an error, 2 wrong command line.`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return borgstoreServer(cmd, s, f) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.backend, "backend", "", "directory of the repository, `URL` file:///PATH or FILE:path; required")
	flags.StringVar(&f.host, "host", "127.0.0.1", "`address` to listen on")
	flags.IntVar(&f.port, "port", 5618, "`port` to listen on")
	flags.StringVar(&f.username, "username", "", "user `name` that clients must send; needs --password")
	flags.StringVar(&f.password, "password", "", "password that clients must send; the `secret` is visible in the process list")
	flags.StringVar(&f.permissions, "permissions", "", "what clients may do: a `name`, or a JSON object from key prefixes to letters")
	flags.StringVar(&f.quota, "quota", "", "maximum size of the repository, `bytes` or a size such as 10G")
	flags.BoolVar(&f.socketActivation, "socket-activation", false, "listen on the socket that systemd passes")
	flags.BoolVar(&f.stdio, "stdio", false, "serve one client on stdin and stdout")
	addAdopt(flags, &f.adopt, "--backend")
	return cmd
}

// addServe adds what `borg serve` understands to the flags of serve.
func (f *restFlags) addServe(flags *pflag.FlagSet) {
	flags.BoolVar(&f.rest, "rest", false, "serve one repository on stdin and stdout; borg starts this over ssh")
	flags.StringVar(&f.backend, "backend", "", "with --rest: directory of the repository, FILE:`path`")
	flags.StringVar(&f.role, "role", "", "with --rest: `role` of the client; packhouse role list shows them")
	flags.StringArrayVar(&f.restriction.Paths, "restrict-to-path", nil, "with --rest: only repositories at or below `path`; may be repeated")
	flags.StringArrayVar(&f.restriction.Repositories, "restrict-to-repository", nil, "with --rest: only the repository at `path`; may be repeated")
	for _, name := range borgSwitches {
		flags.Bool(name, false, "")
		_ = flags.MarkHidden(name)
	}
	for _, name := range borgOptions {
		flags.StringArray(name, nil, "")
		_ = flags.MarkHidden(name)
	}
}

// borgSwitches and borgOptions are what borg passes along to `serve --rest` and what has no meaning here.
var (
	borgSwitches = []string{"critical", "error", "warning", "info", "verbose"}
	borgOptions  = []string{"lock-wait", "umask", "debug-topic"}
)

// refuseWithoutRest refuses the flags that only `serve --rest` has.
func (f *restFlags) refuseWithoutRest(flags *pflag.FlagSet) error {
	switch {
	case flags.Changed("backend"):
		return usage("--backend can only be used with --rest; without --rest use --data-dir")
	case flags.Changed("role"):
		return usage("--role can only be used with --rest; without --rest roles belong to users and tokens")
	case f.restriction.Restricted():
		return usage("--restrict-to-path and --restrict-to-repository can only be used with --rest; without --rest use --data-dir")
	}
	for _, name := range slices.Concat(borgSwitches, borgOptions) {
		if flags.Changed(name) {
			return usage("--%s is an option of borg and can only be used with --rest", name)
		}
	}
	return nil
}

// parsed is what the options come to.
type parsed struct {
	dir         string // absolute, symbolic links resolved
	source      string // the directory of another server of which the repository is to be made first; "": none
	permissions *policy.Permissions
	quota       *int64 // bytes, negative for none; nil: not given
}

func (f *restFlags) parse() (parsed, error) {
	var p parsed
	if f.backend == "" {
		return p, usage("--backend is required, such as --backend FILE:/srv/backup/laptop")
	}
	path, err := stdio.BackendPath(f.backend)
	if err == nil {
		p.dir, err = datadir.ResolveDir(path)
	}
	if err != nil {
		return p, public(err)
	}
	if p.permissions, err = config.ParsePermissions(f.permissions); err != nil {
		return p, fmt.Errorf("--permissions: %w", err)
	}
	if f.role != "" {
		role, err := config.ParseRole(f.role)
		if err != nil {
			return p, fmt.Errorf("--role: %w", err)
		}
		p.permissions = policy.Intersect(p.permissions, role.Permissions(borgstore.Name))
	}
	if f.appendOnly {
		p.permissions = policy.Intersect(p.permissions, policy.AppendOnly(borgstore.Name))
	}
	if f.quota != "" {
		parse := bytesize.Parse // 0 is a limit here: empty objects only
		if f.rest {
			parse = config.ParseQuota // as for the rest of serve: 0 is none
		}
		limit, err := parse(f.quota)
		if err != nil {
			return p, fmt.Errorf("--quota: %w", err)
		}
		p.quota = &limit
	}
	return p, nil
}

func borgstoreServer(cmd *cobra.Command, s streams, f *restFlags) error {
	if flags := cmd.Flags(); (flags.Changed("username") || flags.Changed("password")) && (f.username == "" || f.password == "") {
		return errors.New("--username and --password must be given together and must not be empty, or the server would be open to everyone")
	}
	if f.adopt && f.stdio {
		return usage("--adopt cannot be used with --stdio: packhouse adopt makes the repository")
	}
	p, err := f.parse()
	if err == nil {
		err = datadir.CheckApart(p.dir)
	}
	if err == nil && f.adopt {
		p.dir, p.source, err = placeOneBeside(p.dir)
	} else if err == nil && !f.stdio {
		err = notOurs(p.dir)
	}
	if err != nil {
		return err
	}
	if f.stdio {
		return serveStdio(cmd.Context(), s, p, f.username, f.password)
	}
	log, flush := queuedLogger(s.err, "pretty", slog.LevelInfo)
	defer flush()
	ctx, stop := untilSignal(cmd.Context(), log, flush)
	defer stop()
	return serveOne(ctx, s, f, p, log)
}

// serveOne serves one repository over TCP or a passed socket.
func serveOne(ctx context.Context, s streams, f *restFlags, p parsed, log *slog.Logger) (err error) {
	claim, err := holder.ClaimFromHolder(ctx, p.dir, claimPatience)
	if err != nil {
		return err
	}
	var srv *server
	defer func() {
		if srv == nil || srv.empty() {
			claim.Tidy(false)
		}
		err = errors.Join(err, claim.Release())
	}()
	if p.source != "" {
		o := adopt.Options{Source: p.source, Into: filepath.Dir(p.dir), Name: layout.NameIn(p.dir), Dir: p.dir}
		if stopped, err := takeIn(ctx, log, nil, o); stopped || err != nil {
			return err
		}
	}
	o := api.AuthOptions{NoAuth: true, Permissions: p.permissions}
	if f.username != "" {
		o = api.AuthOptions{Users: []api.User{{Name: f.username, Password: f.password, Permissions: p.permissions}}}
	}
	auth, err := api.NewAuth(o)
	if err != nil {
		return err
	}
	policy, err := policyAbove(p.dir)
	if err != nil {
		return err
	}
	if p.quota != nil {
		policy.Quota = *p.quota
	}
	srv, err = openServer(ctx, serverOptions{
		Claim: claim, Single: true, Auth: auth, Log: log, Audit: log.Handler(),
		Policy: func(string) config.Policy { return policy },
	})
	if err != nil {
		return err
	}
	listeners, err := f.listen(ctx)
	if err == nil {
		err = srv.checkRepository(ctx, p.quota)
	}
	if err != nil {
		return errors.Join(err, api.CloseAll(listeners), srv.close(0))
	}
	for _, l := range listeners {
		what := "on " + l.Addr().String()
		if f.socketActivation {
			what = "using systemd-activated socket on " + l.Addr().String()
		}
		fmt.Fprintf(s.err, "BorgStore REST server listening %s\n", what)
	}
	return srv.run(ctx, listeners, config.Defaults().Drain)
}

// listen opens the address, or returns the only socket that was passed.
func (f *restFlags) listen(ctx context.Context) ([]net.Listener, error) {
	if !f.socketActivation {
		if f.port < 0 || f.port > 65535 {
			return nil, fmt.Errorf("--port: %d is not a port number (0 to 65535)", f.port)
		}
		l, err := api.Listen(ctx, net.JoinHostPort(f.host, strconv.Itoa(f.port)))
		if err != nil {
			return nil, err
		}
		return []net.Listener{l}, nil
	}
	l, err := api.PassedListener()
	if err != nil {
		return nil, fmt.Errorf("--socket-activation: %w", err)
	}
	return []net.Listener{l}, nil
}

// checkRepository opens the repository of a single server if there is one, so that a foreign directory
// is refused at the start, and stores a quota that was asked for.
func (srv *server) checkRepository(ctx context.Context, quota *int64) error {
	r, err := srv.components.set.Get(ctx, "")
	if errors.Is(err, repo.ErrNoRepository) {
		return nil
	}
	if err != nil || quota == nil || r.Usage().Limit == *quota {
		return err
	}
	return r.SetQuota(ctx, *quota)
}

// principal names the user of this process in the log and as writer.
func principal() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "uid-" + strconv.Itoa(os.Getuid())
}
