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

	"github.com/prometheus/client_golang/prometheus"

	"packhouse/api"
	"packhouse/api/holder"
	"packhouse/api/local"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/compact/maintenance"
	"packhouse/repo"
)

// serverOptions describe a server. Claim, Auth and Log are required.
type serverOptions struct {
	Claim  *holder.Claim
	Single bool                            // the claimed directory is one repository
	Policy func(name string) config.Policy // of a repository; a single one has the name ""
	Auth   *api.Auth
	// Authorize narrows a principal that came with credentials, before the policy; nil: as it is.
	Authorize func(repository string, p repo.Principal) repo.Principal
	Root      string
	Limits    api.Limits
	Log       *slog.Logger
	// Maintenance are the settings of jobs. With Maintain the server also does its own maintenance, and Tasks with it.
	Maintenance config.Maintenance
	Maintain    bool
	Tasks       []maintenance.Task
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
	// GaveUp is called when a repository has been given up that is not in its place. nil: nobody wants to know.
	GaveUp func()

	detached func() // of the server, like reattach; nil: with Moved
	reattach func() error
}

// settings is what the policy of a repository means to package repo.
func (o *serverOptions) settings(name string) repo.Settings {
	p := o.Policy(name)
	return repo.Settings{
		Quota: p.Quota, Grace: p.Grace, Reserve: p.Reserve, CompactGrace: p.CompactGrace, CompactYoung: p.CompactYoung,
	}
}

// authorize narrows a principal to what it may do in a repository. On the trusted side names are those of the system's
// users, and only the policy counts.
func (o *serverOptions) authorize(repository string, d api.Dialect, p repo.Principal, trusted bool) repo.Principal {
	if o.Authorize != nil && !trusted {
		p = o.Authorize(repository, p)
	}
	policy := o.Policy(repository)
	p.Permissions = config.Intersect(p.Permissions, policy.Permissions)
	if policy.AppendOnly {
		p.Permissions = config.Intersect(p.Permissions, appendOnly(d))
	}
	return p
}

// server is a server at work: the repositories of a directory and who answers for them. It is what
// serve, borgstore-server-rest and hold have in common.
type server struct {
	o          serverOptions
	components components
	api        *api.Server
	local      *holder.Server

	mu        sync.Mutex         // held while the claim is given up or taken again
	socket    net.Listener       // of local; nil: the directory was never in its place. Guarded by mu
	serve     func(net.Listener) // has local answer; nil: run has not begun. Guarded by mu
	suspended bool               // the claim is given up; guarded by mu
	ended     bool               // close has begun; guarded by mu
}

// openServer prepares a server and opens its socket for other processes. It answers from run on.
func openServer(ctx context.Context, o serverOptions) (*server, error) {
	h := &server{o: o}
	if o.Moved == nil {
		h.o.detached, h.o.reattach = h.letGo, h.reattach
	}
	var server atomic.Pointer[api.Server] // nil until there is one
	busy := func() int {
		if s := server.Load(); s != nil {
			return int(s.Active())
		}
		return 0
	}
	activity := func(repository, principal, address string) api.Activity {
		return server.Load().Activity(repository, principal, address) // it is asked by requests to the server
	}
	if o.Alone {
		activity = nil
	}
	var err error
	if h.components, err = openComponents(h.o, busy, activity); err != nil {
		return nil, err
	}
	h.api, err = api.New(api.Options{
		Set: h.components.set, Dialects: h.components.dialects, Auth: o.Auth, Admin: h.components.admin,
		Local: local.NewHandler(h.components.set, o.Yield), Root: o.Root, Authorize: o.authorize, Limits: o.Limits,
		Collectors: []prometheus.Collector{h.components.engine.Collector()},
		Logger:     o.Log, Version: version(),
	})
	if err != nil {
		return nil, errors.Join(err, h.components.close())
	}
	server.Store(h.api)
	var inPlace func() error
	if o.Moved != nil {
		inPlace = func() error {
			err := o.Claim.InPlace()
			if err != nil {
				o.Moved()
			}
			return err
		}
	}
	h.local = holder.NewServer(h.api.Trusted(), inPlace)
	if err := h.listen(); err != nil {
		return nil, errors.Join(err, h.components.close())
	}
	return h, nil
}

// listen opens the socket. Maintenance is at work by now: it may have found that the directory is not in its place.
func (h *server) listen() (err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.socket == nil && !h.suspended {
		h.socket, err = h.o.Claim.Listen()
	}
	h.ended = err != nil
	return err
}

// run answers on listeners until ctx ends or one of them fails; then it finishes what is under
// way, for at most drain, and closes the repositories. The claim stays.
func (h *server) run(ctx context.Context, listeners []net.Listener, drain time.Duration) error {
	failed := make(chan error, len(listeners)+1)
	serve := func(what string, serve func() error) {
		if err := serve(); err != nil && !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("serve %s: %w", what, err)
		}
	}
	h.mu.Lock()
	h.serve = func(l net.Listener) {
		go serve("other processes", func() error {
			err := h.local.Serve(l)
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.suspended || h.socket != l {
				return nil // closed by reattach
			}
			return err
		})
	}
	if h.socket != nil {
		h.serve(h.socket)
	}
	h.mu.Unlock()
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { h.watch(watching) })
	for _, l := range listeners {
		go serve(l.Addr().String(), func() error { return h.api.Serve(api.Listener{Listener: l}) })
	}
	var fault error
	select {
	case <-ctx.Done():
	case fault = <-failed:
	}
	stop()
	watch.Wait()
	if h.o.Stopping != nil {
		h.o.Stopping()
	}
	return errors.Join(fault, h.close(drain))
}

// watchInterval is how often a server looks whether its directory and its repositories are in their place, when nobody asks
// for them.
const watchInterval = time.Second

// watch looks until ctx ends.
func (h *server) watch(ctx context.Context) {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := h.components.set.Refresh(); err != nil && h.o.Moved != nil {
			h.o.Log.Warn("the directory is not in its place any more", "error", err)
			h.o.Moved()
			return
		}
	}
}

// reattachPatience is how long an attempt to take the directory again waits for processes that have it.
const reattachPatience = 2 * time.Second

// letGo gives up the claim of a directory that is not in its place, with the socket in it, so that its volume is free.
func (h *server) letGo() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended || h.suspended {
		return
	}
	h.suspended = true
	var err error
	if h.socket != nil {
		err = h.socket.Close()
	}
	if err := errors.Join(err, h.o.Claim.Suspend()); err != nil {
		h.o.Log.Warn("letting go of the directory", "error", err)
	}
}

// reattach claims what lies in the directory's place now, after letGo.
func (h *server) reattach() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return fmt.Errorf("%w: the server is stopping", repo.ErrBusy)
	}
	ctx, cancel := context.WithTimeout(context.Background(), reattachPatience)
	defer cancel()
	if err := h.o.Claim.Resume(ctx); err != nil {
		return err
	}
	socket, err := h.o.Claim.Listen()
	if err != nil {
		return errors.Join(err, h.o.Claim.Suspend())
	}
	h.socket, h.suspended = socket, false
	if h.serve != nil {
		h.serve(socket)
	}
	return nil
}

// close ends a server, whether it has run or not.
func (h *server) close(drain time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	h.components.engine.StopWatching()
	left := make(chan error, 1)
	go func() { left <- h.local.Leave(ctx) }()
	if err := errors.Join(h.api.Shutdown(ctx), <-left); err != nil {
		h.o.Log.Warn("stopping: not every request could finish", "error", err)
	}
	h.mu.Lock()
	h.ended = true
	if h.socket != nil {
		_ = h.socket.Close() // again, if it was served
	}
	h.mu.Unlock()
	return h.components.close()
}
