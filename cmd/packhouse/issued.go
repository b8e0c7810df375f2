package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"time"

	"packhouse/api/holder"
	"packhouse/api/tokens"
	"packhouse/repo/layout"
)

// openTokens opens the tokens of a data directory. record: their last uses are written, where that is possible.
func openTokens(claim *holder.Claim, record bool, log *slog.Logger) (*tokens.Store, error) {
	o := tokens.Options{Path: filepath.Join(layout.ServerDir(claim.Dir), "tokens.json"), Logger: log}
	if record && !claim.ReadOnly {
		o.MayRecord = claim.Attached
	}
	return tokens.Open(o)
}

// isUser tells whether a user of the configuration, or of the password file, has a name.
func (sv *service) isUser(name string) bool {
	return sv.current.Load().HasUser(name) || sv.passwords.Load().Has(name)
}

// warnOfNames logs tokens that have the name of a user: the log cannot tell them apart, and each may do only what both may.
func (sv *service) warnOfNames() {
	for _, t := range sv.tokens.List() {
		if sv.isUser(t.Name) {
			sv.log.Warn("a user has the name of a token: each may do only what both may; rename the user, or revoke the token", "name", t.Name)
		}
	}
}

// endJobsPatience is how long the jobs of a token that has ended may take to end.
const endJobsPatience = time.Minute

// endJobs cancels the jobs that the holder of a token has queued or started. In repositories that are not in use, they are
// refused when their time comes.
func (srv *server) endJobs(t tokens.Token) {
	ctx, cancel := context.WithTimeout(context.Background(), endJobsPatience)
	defer cancel()
	engine := srv.components.engine
	for name, r := range srv.components.set.Opened() {
		jobs, err := engine.Jobs(ctx, r)
		for _, job := range jobs {
			if job.Principal != t.Name || job.Trusted || job.State.Ended() {
				continue
			}
			if _, cancelErr := engine.Cancel(ctx, r, job.ID); cancelErr != nil {
				err = cancelErr
			}
		}
		if err != nil {
			srv.o.Log.Warn("jobs of a token that has ended could not be cancelled", "token", t.Name, "repository", name, "error", err)
		}
	}
}
