package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"packhouse/api"
	"packhouse/api/alert"
	"packhouse/api/holder"
	"packhouse/api/local"
	"packhouse/api/restic"
	"packhouse/api/tokens"
	"packhouse/api/ui"
	"packhouse/blobstore/vfs"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/compact/maintenance"
	"packhouse/repo"
	"packhouse/repo/policy"
)

// serverOptions describe a server. Claim, Auth and Log are required.
type serverOptions struct {
	Claim  *holder.Claim
	Single bool                            // the claimed directory is one repository
	Policy func(name string) config.Policy // of a repository; a single one has the name ""
	Auth   *api.Auth
	// Authorize narrows a principal that came with credentials, before the policy; nil: as it is.
	Authorize func(repository, dialect string, p repo.Principal) repo.Principal
	// Tokens are those that are issued, and UserName tells which names they cannot have. nil: there are none.
	Tokens   *tokens.Store
	UserName func(name string) bool
	// Metrics admits users to the metrics, see api.Options.
	Metrics func(p repo.Principal) bool
	Root    string
	UI      bool // pages for people are served
	// ProxyHeader is the header in which trusted proxies name users; nil: they do not.
	ProxyHeader func() string
	// Front changes what the server shows over the network; nil: nothing.
	Front func(*api.Options)
	// ResticOnly leaves out the protocols of all other clients.
	ResticOnly    bool
	ResticMetrics *restic.Metrics // nil: they are not kept
	FS            vfs.FS          // of the repositories; nil: the operating system's
	Unchecked     bool            // items are read from files without checks
	Limits        api.Limits
	Proxies       *api.Proxies // nil: those on this machine
	Log           *slog.Logger
	Audit         slog.Handler // nil: no audit log
	// Maintenance are the settings of jobs. With Maintain the server also does its own maintenance, and Tasks with it.
	Maintenance config.Maintenance
	Maintain    bool
	Tasks       []maintenance.Task
	// Alerts tells receivers what is wrong; nil: this process does not.
	Alerts *alert.Options
	// Alone is for a command that holds the directory itself: no client of a server can have been seen.
	Alone bool
	// Stopping is called when the server begins to stop. nil: nobody wants to know.
	Stopping func()
	// Yield lets go of the repository because another process asks for it. nil: refused.
	Yield func()
	// Identity is that of the data directory; "": it has none.
	Identity string
	// Moved is called when the directory is not what lies under its path any more. nil: the server refuses requests until it is,
	// and goes on then.
	Moved func()
	// GaveUp is called after a repository was closed because its directory was moved or replaced. It may be nil.
	GaveUp func()
	// Destroyed is called after a repository was destroyed. It may be nil.
	Destroyed func()

	restic   *restic.Dialect
	detached func() // of the server, like reattach; nil: with Moved
	reattach func() error
}

// settings is what the policy of a repository means to package repo.
func (o *serverOptions) settings(name string) repo.Settings {
	p := o.Policy(name)
	return repo.Settings{
		Quota: p.Quota, TrashQuota: p.TrashQuota, Grace: p.Grace, Restricted: p.AppendOnly || policy.AddsOnly(p.Permissions), Protect: p.Protect, Guard: p.Guard,
		Reserve: p.Reserve, CompactGrace: p.CompactGrace, CompactYoung: p.CompactYoung,
	}
}

// authorize narrows the sender of a request to what it may do in a repository. On the trusted side names are those of the
// system's users, and only the policy counts. d is nil for a request of our own API.
func (o *serverOptions) authorize(repository string, d api.Dialect, p repo.Principal, trusted bool) repo.Principal {
	dialect := ""
	if d != nil {
		dialect = d.Name()
	}
	return o.narrow(repository, dialect, p, trusted)
}

// narrow is authorize by the name of the dialect; "": not known. docs/configuration.md describes the order of all checks.
func (o *serverOptions) narrow(repository, dialect string, p repo.Principal, trusted bool) repo.Principal {
	if o.Authorize != nil && !trusted {
		p = o.Authorize(repository, dialect, p)
	}
	configured := o.Policy(repository)
	p.Permissions = policy.Intersect(p.Permissions, configured.Permissions)
	if configured.AppendOnly {
		p.Permissions = policy.Intersect(p.Permissions, policy.AppendOnly(dialect))
	}
	return p
}

// server is the repositories of a directory and who answers for them. It is what
// serve, borgstore-server-rest and hold have in common.
type server struct {
	o          serverOptions
	components components
	api        *api.Server
	local      *holder.Server
	ui         *ui.Handler // nil: there are none

	mu        sync.Mutex         // held while the claim is given up or taken again
	socket    net.Listener       // of local; nil: the directory was never there. Guarded by mu
	serve     func(net.Listener) // has local answer; nil: run has not begun. Guarded by mu
	suspended bool               // the claim is given up; guarded by mu
	ended     bool               // close has begun; guarded by mu
}

// openServer prepares a server and opens its socket for other processes. It answers from run on.
func openServer(ctx context.Context, o serverOptions) (*server, error) {
	srv := &server{o: o}
	if o.Moved == nil {
		srv.o.detached, srv.o.reattach = srv.letGo, srv.reattach
	}
	var answers atomic.Pointer[api.Server] // nil until there is one
	busy := func() int {
		if s := answers.Load(); s != nil {
			return int(s.Active())
		}
		return 0
	}
	activity := func(repository, principal, address string) api.Activity {
		return answers.Load().Activity(repository, principal, address) // it is asked by requests to the server
	}
	if o.Alone {
		activity = nil
	}
	srv.countLogins(&answers)
	var err error
	if srv.components, err = openComponents(srv.o, busy, activity); err != nil {
		return nil, err
	}
	var pages http.Handler
	if o.UI {
		// It asks by requests, which come through the server that is made below.
		if srv.ui, err = ui.New(ui.Options{Server: func() http.Handler { return answers.Load() }, Logger: o.Log, ProxyHeader: o.ProxyHeader}); err != nil {
			return nil, errors.Join(err, srv.components.close())
		}
		pages = srv.ui
	}
	options := api.Options{
		Set: srv.components.set, Dialects: srv.components.dialects, Auth: o.Auth, Admin: srv.components.admin, UI: pages,
		Local: local.NewHandler(srv.components.set, o.Yield, srv.components.engine.Background), Root: o.Root, Authorize: o.authorize, Limits: o.Limits, Proxies: o.Proxies, Metrics: o.Metrics,
		Collectors: srv.components.collectors(),
		Logger:     o.Log, Audit: o.Audit, Version: version(),
	}
	if o.Front != nil {
		o.Front(&options)
	}
	if srv.api, err = api.New(options); err != nil {
		return nil, errors.Join(err, srv.components.close())
	}
	answers.Store(srv.api)
	if o.Tokens != nil {
		o.Tokens.OnEnd(srv.endJobs)
	}
	srv.local = holder.NewServer(srv.api.Trusted(), srv.attached())
	if err := srv.listen(); err != nil {
		return nil, errors.Join(err, srv.components.close())
	}
	return srv, nil
}

// attached looks whether the claim is still on the directory, for a server that ends otherwise; nil: it goes on then.
func (srv *server) attached() func() error {
	if srv.o.Moved == nil {
		return nil
	}
	return func() error {
		err := srv.o.Claim.Attached()
		if err != nil {
			srv.o.Moved()
		}
		return err
	}
}

// countLogins has alerts know how many logins have failed.
func (srv *server) countLogins(answers *atomic.Pointer[api.Server]) {
	if srv.o.Alerts == nil {
		return
	}
	o := *srv.o.Alerts
	o.FailedLogins = func() int64 {
		if s := answers.Load(); s != nil {
			return s.FailedLogins()
		}
		return 0
	}
	srv.o.Alerts = &o
}

// listen opens the socket. Maintenance is running by now: it may have found that the directory is not the one that was claimed.
func (srv *server) listen() (err error) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.socket == nil && !srv.suspended {
		srv.socket, err = srv.o.Claim.Listen()
	}
	srv.ended = err != nil
	return err
}

// run answers on listeners until ctx ends or one of them fails; then it finishes what is under
// way, for at most drain, and closes the repositories. The claim stays.
func (srv *server) run(ctx context.Context, listeners []net.Listener, drain time.Duration) error {
	failed := make(chan error, len(listeners)+1)
	serve := func(what string, serve func() error) {
		if err := serve(); err != nil && !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("serve %s: %w", what, err)
		}
	}
	srv.mu.Lock()
	srv.serve = func(l net.Listener) {
		go serve("other processes", func() error {
			err := srv.local.Serve(l)
			srv.mu.Lock()
			defer srv.mu.Unlock()
			if srv.suspended || srv.socket != l {
				return nil // closed by reattach
			}
			return err
		})
	}
	if srv.socket != nil {
		srv.serve(srv.socket)
	}
	srv.mu.Unlock()
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { srv.watch(watching) })
	for _, l := range listeners {
		go serve(l.Addr().String(), func() error { return srv.api.Serve(api.Listener{Listener: l}) })
	}
	var fault error
	select {
	case <-ctx.Done():
	case fault = <-failed:
	}
	stop()
	watch.Wait()
	if srv.o.Stopping != nil {
		srv.o.Stopping()
	}
	return errors.Join(fault, srv.close(drain))
}

// watchInterval is how often a server checks, without a request, that its directory and its repositories are the ones that were
// opened.
const watchInterval = time.Second

// watch looks until ctx ends.
func (srv *server) watch(ctx context.Context) {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := srv.components.set.Refresh(); err != nil && srv.o.Moved != nil {
			srv.o.Log.Warn("the directory is missing or not the one that was opened; this process ends", "error", err)
			srv.o.Moved()
			return
		}
	}
}

// reattachPatience is how long an attempt to take the directory again waits for processes that have it.
const reattachPatience = 2 * time.Second

// letGo releases the claim of a directory that is not the one that was opened, with the socket in it, so that its volume can be
// unmounted.
func (srv *server) letGo() {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.ended || srv.suspended {
		return
	}
	srv.suspended = true
	var err error
	if srv.socket != nil {
		err = srv.socket.Close()
	}
	if err := errors.Join(err, srv.o.Claim.Suspend()); err != nil {
		srv.o.Log.Warn("could not release the data directory", "error", err)
	}
}

// reattach claims the directory that is at the path now, after letGo.
func (srv *server) reattach() error {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.ended {
		return fmt.Errorf("%w: the server is stopping", repo.ErrBusy)
	}
	if !srv.suspended {
		return nil // it was claimed by an attempt that failed behind this, or is about to be let go
	}
	ctx, cancel := context.WithTimeout(context.Background(), reattachPatience)
	defer cancel()
	if err := srv.o.Claim.Resume(ctx); err != nil {
		return err
	}
	socket, err := srv.o.Claim.Listen()
	if err != nil {
		return errors.Join(err, srv.o.Claim.Suspend())
	}
	if srv.o.Tokens != nil {
		if err := srv.o.Tokens.Reload(); err != nil { // which commands may have changed meanwhile
			srv.o.Log.Error("the tokens could not be read again; those that were known are still accepted", "error", err)
		}
	}
	srv.socket, srv.suspended = socket, false
	if srv.serve != nil {
		srv.serve(socket)
	}
	return nil
}

// lastLines is how long the end waits for a log that is read slowly.
const lastLines = 2 * time.Second

// close ends a server, whether it has run or not.
func (srv *server) close(drain time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	srv.components.engine.StopWatching()
	if srv.components.alerts != nil {
		srv.components.alerts.StopTests()
	}
	left := make(chan error, 1)
	go func() { left <- srv.local.Leave(ctx) }()
	if err := errors.Join(srv.api.Shutdown(ctx), <-left); err != nil {
		srv.o.Log.Warn("stopping: some requests did not finish in time", "error", err)
	}
	if srv.ui != nil {
		if err := srv.ui.Close(ctx); err != nil {
			srv.o.Log.Warn("stopping", "error", err)
		}
	}
	lines, stop := context.WithTimeout(context.Background(), lastLines)
	defer stop()
	_ = srv.api.FlushLog(lines) // a log that takes no lines need not be told so
	srv.mu.Lock()
	srv.ended = true
	if srv.socket != nil {
		_ = srv.socket.Close() // again, if it was served
	}
	srv.mu.Unlock()
	if srv.o.Tokens != nil {
		srv.o.Tokens.Close()
	}
	return srv.components.close()
}
