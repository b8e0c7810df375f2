package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"packhouse/api"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/cmd/packhouse/internal/holder"
	"packhouse/compact/maintenance"
	"packhouse/repo"
)

// houseOptions describe a server. Claim, Auth and Log are required.
type houseOptions struct {
	Claim  *holder.Claim
	Single bool                            // the claimed directory is one repository
	Policy func(name string) config.Policy // of a repository; a single one has the name ""
	Auth   *api.Auth
	// Authorize narrows a principal that came with credentials, before the policy; nil: as it is.
	Authorize func(repository string, p repo.Principal) repo.Principal
	Root      string
	Limits    api.Limits
	Log       *slog.Logger
	// Maintenance are the settings of jobs. With Upkeep the server also does its own maintenance, and Tasks with it.
	Maintenance config.Maintenance
	Upkeep      bool
	Tasks       []maintenance.Task
	// Alone is for a command that holds the directory itself: no client of a server can have been seen.
	Alone bool
	// Stopping is called when the server begins to stop. nil: nobody wants to know.
	Stopping func()
	// Yield lets go of the repository because another process asks for it. nil: refused.
	Yield func()
}

// settings is what the policy of a repository means to package repo.
func (o *houseOptions) settings(name string) repo.Settings {
	p := o.Policy(name)
	return repo.Settings{
		Quota: p.Quota, Grace: p.Grace, Reserve: p.Reserve, CompactGrace: p.CompactGrace, CompactYoung: p.CompactYoung,
	}
}

// authorize narrows a principal to what it may do in a repository. On the trusted side names are those of the system's
// users, and only the policy counts.
func (o *houseOptions) authorize(repository string, d api.Dialect, p repo.Principal, trusted bool) repo.Principal {
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

// house is a server at work: the repositories of a directory and who answers for them. It is what
// serve, borgstore-server-rest and hold have in common.
type house struct {
	o     houseOptions
	rooms rooms
	api   *api.Server
	local *holder.Server
	door  net.Listener // of local
}

// openHouse prepares a server and opens its socket for other processes. It answers from run on.
func openHouse(ctx context.Context, o houseOptions) (*house, error) {
	h := &house{o: o}
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
	if h.rooms, err = openRooms(o, busy, activity); err != nil {
		return nil, err
	}
	h.api, err = api.New(api.Options{
		Set: h.rooms.set, Dialects: h.rooms.dialects, Auth: o.Auth, Admin: h.rooms.admin,
		Local: localHandler(h.rooms.set, o.Yield), Root: o.Root, Authorize: o.authorize, Limits: o.Limits,
		Collectors: []prometheus.Collector{h.rooms.engine.Collector()},
		Logger:     o.Log, Version: version(),
	})
	if err != nil {
		return nil, errors.Join(err, h.rooms.close())
	}
	server.Store(h.api)
	h.local = holder.NewServer(h.api.Trusted())
	if h.door, err = o.Claim.Listen(); err != nil {
		return nil, errors.Join(err, h.rooms.close())
	}
	return h, nil
}

// run answers on listeners until ctx ends or one of them fails; then it finishes what is under
// way, for at most drain, and closes the repositories. The claim stays.
func (h *house) run(ctx context.Context, listeners []net.Listener, drain time.Duration) error {
	failed := make(chan error, len(listeners)+1)
	serve := func(what string, serve func() error) {
		if err := serve(); err != nil && !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("serve %s: %w", what, err)
		}
	}
	go serve("other processes", func() error { return h.local.Serve(h.door) })
	for _, l := range listeners {
		go serve(l.Addr().String(), func() error { return h.api.Serve(api.Listener{Listener: l}) })
	}
	var fault error
	select {
	case <-ctx.Done():
	case fault = <-failed:
	}
	if h.o.Stopping != nil {
		h.o.Stopping()
	}
	return errors.Join(fault, h.close(drain))
}

// close ends a server, whether it has run or not.
func (h *house) close(drain time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	h.rooms.engine.StopWatching()
	left := make(chan error, 1)
	go func() { left <- h.local.Leave(ctx) }()
	if err := errors.Join(h.api.Shutdown(ctx), <-left); err != nil {
		h.o.Log.Warn("stopping: not every request could finish", "error", err)
	}
	_ = h.door.Close() // again, if it was served
	return h.rooms.close()
}
