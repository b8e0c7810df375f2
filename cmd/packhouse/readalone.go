package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"packhouse/api"
	"packhouse/api/holder"
	"packhouse/blobstore/vfs"
	"packhouse/cmd/packhouse/internal/config"
)

// On a read-only file system a holder could not tell where it is, and need not: any number of processes may read. There each
// stdio process serves its client itself. What that stores of locks is seen by no other; nor can any other change anything.

// readsAlone tells whether a repository is on a read-only file system, and no server that writes there has it.
func readsAlone(dir string) bool {
	readOnly, err := vfs.OS().(vfs.ReadOnlyTeller).ReadOnly(dir)
	return err == nil && readOnly && !holder.Held(dir)
}

// readAlone opens a repository for this process. end lets go of it.
func readAlone(ctx context.Context, s streams, dir string) (claim *holder.Claim, end func() error, err error) {
	if claim, err = holder.ClaimRepository(dir); err != nil {
		return nil, nil, public(err)
	}
	auth, err := api.NewAuth(api.AuthOptions{NoAuth: true})
	var policy config.Policy
	if err == nil {
		policy, err = policyAbove(dir)
	}
	if err != nil {
		return nil, nil, errors.Join(public(err), claim.Release())
	}
	srv, err := openServer(ctx, serverOptions{
		Claim: claim, Single: true, Auth: auth, Log: newLogger(s.err, "pretty", slog.LevelError),
		Policy: func(string) config.Policy { return policy },
	})
	if err != nil {
		return nil, nil, errors.Join(public(err), claim.Release())
	}
	if err := srv.checkRepository(ctx, nil); err != nil {
		return nil, nil, errors.Join(public(err), srv.close(0), claim.Release())
	}
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- srv.run(ctx, nil, time.Second) }() // reading may be broken off
	return claim, func() error {
		stop()
		return errors.Join(<-ended, claim.Release())
	}, nil
}
