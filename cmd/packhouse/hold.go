package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"packhouse/api"
	"packhouse/api/holder"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/compact"
	"packhouse/repo"
	"packhouse/repo/layout"
)

// idleVariable sets how long a background holder stays without requests.
const idleVariable = "PACKHOUSE_HOLD_IDLE"

const (
	defaultIdle = time.Minute
	emptyIdle   = 2 * time.Second // when there is no repository to hold, but a client
)

// startHolder starts `packhouse hold` for a repository.
func startHolder(ctx context.Context, dir string) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the path of this program: %w", err)
	}
	if _, err := os.Stat(program); err != nil {
		program = "/proc/self/exe" // replaced by an upgrade while we run
	}
	return holder.Start(ctx, program, "hold", "--dir", dir)
}

// holdCommand is the process in the background that stdio processes share. It is started by them.
func holdCommand(streams) *cobra.Command {
	var dir, idle string
	cmd := &cobra.Command{
		Use:    "hold",
		Short:  "Open one repository for stdio processes, which start this command themselves",
		Hidden: true,
		Args:   exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			report := holder.OpenReport()
			err := hold(cmd.Context(), dir, idle, report)
			report.Done(err)
			var held *holder.HeldError
			if errors.As(err, &held) {
				return nil // another was first, and will do
			}
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "`directory` of the repository")
	cmd.Flags().StringVar(&idle, "idle", os.Getenv(idleVariable), "`time` without requests after which the process ends")
	return cmd
}

func hold(ctx context.Context, dir, idleText string, report *holder.Report) (err error) {
	if !filepath.IsAbs(dir) {
		return usage("--dir: must be an absolute path")
	}
	idle := defaultIdle
	if idleText != "" {
		if idle, err = config.ParseDuration(idleText); err != nil {
			return usage("--idle or %s: %w", idleVariable, err)
		}
	}
	claim, err := holder.ClaimRepository(dir)
	if err != nil {
		return public(err)
	}
	defer func() { err = errors.Join(err, claim.Release()) }()
	var destroyed atomic.Bool // the repository was, and was none that others had taken away
	var srv *server
	defer func() {
		if srv == nil || srv.empty() {
			claim.Tidy(destroyed.Load())
		}
	}()
	file, err := claim.OpenLog()
	if err != nil {
		return public(err)
	}
	defer file.Close()
	log := newLogger(file, "json", slog.LevelInfo)
	ctx, stop := untilSignal(ctx, log, func() {})
	defer stop()
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	auth, err := api.NewAuth(api.AuthOptions{NoAuth: true})
	if err != nil {
		return err
	}
	policy, err := policyAbove(dir)
	if err != nil {
		return public(err)
	}
	srv, err = openServer(ctx, serverOptions{
		Claim: claim, Single: true, Auth: auth, Log: log, Audit: log.Handler(), Yield: leave, Moved: leave,
		Destroyed: func() { destroyed.Store(true) },
		GaveUp:    func() { destroyed.Store(false) },
		Policy:    func(string) config.Policy { return policy },
	})
	if err != nil {
		return public(err)
	}
	if err := srv.checkRepository(ctx, nil); err != nil {
		return errors.Join(err, srv.close(0))
	}
	log.Info("opened the repository for stdio clients", "pid", os.Getpid(), "version", version())
	report.Done(nil)
	go func() {
		defer leave()
		srv.awaitIdle(ctx, idle)
	}()
	err = srv.run(ctx, nil, config.Defaults().Drain)
	log.Info("closed the repository", "error", err)
	return err
}

// awaitIdle returns when there was nothing to do for a time, or ctx has ended.
func (srv *server) awaitIdle(ctx context.Context, idle time.Duration) {
	vacuumed := false
	for ctx.Err() == nil {
		limit := idle
		switch {
		case !srv.empty():
		case srv.local.Deserted(): // who asked for a repository that is not there has gone, or has destroyed it
			limit = 0
		default:
			limit = min(idle, emptyIdle)
		}
		rest := limit - time.Since(srv.api.LastActive())
		// A compaction goes on although its client has left: the next one asks for its result.
		// So does the removal of what it destroyed, which nobody would finish.
		if rest <= 0 && srv.api.Active() == 0 && srv.components.engine.Active() == 0 && !srv.components.set.Sweeping() {
			if vacuumed || !srv.vacuum(ctx) {
				return
			}
			vacuumed = true // and goes on as long as the engine is active
		}
		select {
		case <-ctx.Done():
		case <-srv.local.Left():
		case <-time.After(max(rest, 50*time.Millisecond)):
		}
	}
}

// vacuum begins one where small items that were removed take more of the log than those that are there: a process that comes
// and goes does no maintenance otherwise, and where no server runs nobody would ever do this. It returns whether one has begun.
func (srv *server) vacuum(ctx context.Context) (begun bool) {
	for name, r := range srv.components.set.Opened() {
		job, err := srv.components.engine.SubmitVacuum(ctx, r, "maintenance", compact.WhenNow)
		if err != nil && ctx.Err() == nil {
			srv.o.Log.Warn("the log could not be emptied of what is not needed", "repository", name, "error", err)
		}
		begun = begun || err == nil && job.ID != ""
	}
	return begun
}

// policyAbove is what the server of the data directory around a repository, running or not, was told of it.
func policyAbove(dir string) (config.Policy, error) {
	p, err := config.KeptPolicies(filepath.Dir(dir))
	if errors.Is(err, os.ErrPermission) {
		return config.DefaultPolicy(), nil // the directory of another user's server
	}
	return p.Of(layout.NameIn(dir)), err
}

// empty tells whether a single server has no repository: there is nothing, or something that is not ours.
func (srv *server) empty() bool {
	_, err := srv.components.set.Names()
	return errors.Is(err, repo.ErrNoRepository) || errors.Is(err, repo.ErrForeign)
}

// public takes the path out of an error that a client of a stdio process will see.
func public(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return fmt.Errorf("look for the repository: %s: %w", path.Op, path.Err)
	}
	return err
}
