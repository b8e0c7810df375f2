package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"packhouse/api"
	"packhouse/api/holder"
	"packhouse/api/stdio"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/layout"
)

// findPatience is how long a stdio process looks for whoever holds its repository.
const findPatience = 60 * time.Second

// endPatience is how long a stdio process goes on with a request when its client is gone. Clients
// wait 30 s for its end.
const endPatience = 25 * time.Second

// tidyPatience is how long a stdio process waits at its end for a holder whose repository was destroyed, or never created.
const tidyPatience = 10 * time.Second

// stdioProcess is a pipe from stdin and stdout to who holds the repository, which it starts if there is nobody.
type stdioProcess struct {
	parsed
	username, password string
	find, end          time.Duration // findPatience and endPatience
}

func serveStdio(ctx context.Context, s streams, p parsed, username, password string) error {
	process := stdioProcess{parsed: p, username: username, password: password, find: findPatience, end: endPatience}
	return process.run(ctx, s)
}

func (p *stdioProcess) run(ctx context.Context, s streams) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	log := slog.New(slog.NewTextHandler(s.err, nil))
	links := &stdioLinks{process: p, life: ctx, streams: s}
	defer func() {
		cancel(nil)
		links.close()
	}()
	var changing atomic.Bool
	ended := make(chan error, 1)
	go func() { ended <- p.serve(ctx, s, links, log, &changing) }()
	interrupted := make(chan os.Signal, 1)
	if !signal.Ignored(syscall.SIGINT) { // the client ignores it for us
		signal.Notify(interrupted, syscall.SIGINT)
		defer signal.Stop(interrupted)
	}
	signal.Ignore(syscall.SIGPIPE) // a closed stdout is an error like any other
	gone := time.NewTimer(time.Hour)
	gone.Stop()
	hangup, unread := stdio.Hangup(ctx, s.in), stdio.Unread(ctx, s.out)
	for {
		select {
		case err := <-ended:
			return err
		case <-interrupted:
			return nil
		case <-hangup:
			hangup = nil
			gone.Reset(p.end)
		case <-unread:
			if !changing.Load() {
				return nil // such as a hash, which would be computed for nobody
			}
			unread = nil
			gone.Reset(p.end)
		case <-gone.C:
			log.Warn("the client has disconnected, but its last request does not end")
			return nil
		}
	}
}

// serve answers the requests that come on stdin.
func (p *stdioProcess) serve(ctx context.Context, s streams, links *stdioLinks, log *slog.Logger, changing *atomic.Bool) error {
	var first *stdio.Link
	switch absence := p.absence(); {
	case absence == nil: // connected before the first request, so that what is wrong with the repository is told at once
		var err error
		if first, err = links.connect(ctx); err != nil {
			return err
		}
	case absence.Foreign != "":
		log.Warn("not a Packhouse repository: " + absence.Foreign)
	}
	fmt.Fprintln(s.err, "BorgStore REST server listening on stdin/stdout")
	err := stdio.Run(ctx, stdio.Options{
		First: first, Connect: links.connect, Absent: p.absence, Username: p.username, Password: p.password,
		In: s.in, Out: s.out, Log: log, Changing: changing,
	})
	links.awaitTidy(ctx)
	return err
}

// absence is why there is no repository; nil if there is one, or only who opens it can tell.
func (p *stdioProcess) absence() *stdio.Absence {
	err := datadir.Inspect(p.dir)
	foreign, isForeign := errors.AsType[*repo.ForeignError](err)
	if !isForeign && err != repo.ErrNoRepository {
		return nil
	}
	a := &stdio.Absence{}
	info, err := os.Stat(p.dir)
	a.Directory = err == nil && info.IsDir()
	if isForeign {
		a.Foreign = foreign.Found
		info, err := os.Lstat(filepath.Join(p.dir, "config"))
		a.Config = err == nil && info.Mode().IsRegular()
	} else if _, err := os.Lstat(filepath.Join(p.dir, layout.RemovedDir)); err == nil {
		a.Directory = false // to clients a repository that was destroyed is gone, also where it can be restored
	}
	return a
}

// stdioLinks connects to who serves the repository: a holder or a server, which may be another one later; or this process itself,
// where nobody can hold it because its file system takes no writes.
type stdioLinks struct {
	process *stdioProcess
	life    context.Context // of the process
	streams streams
	held    atomic.Bool // a holder of the repository alone has been asked

	mu    sync.Mutex    // held while this process begins, or ends, to serve the repository itself
	alone *holder.Claim // nil: it does not; guarded by mu
	end   func() error  // ends that; guarded by mu
}

// close ends what this process serves itself, also when the client's last request does not end: there is a socket to be
// removed. The life has ended.
func (l *stdioLinks) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.alone != nil {
		_ = l.end() // nothing was written
	}
}

// self is the claim of this process as the one that serves the repository; nil: it does not.
func (l *stdioLinks) self() (*holder.Claim, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.alone != nil || l.life.Err() != nil || !readsAlone(l.process.dir) {
		return l.alone, nil
	}
	var err error
	l.alone, l.end, err = readAlone(l.life, l.streams, l.process.dir)
	return l.alone, err
}

// connect opens a connection for the next requests, and starts a holder where there is none.
func (l *stdioLinks) connect(ctx context.Context) (*stdio.Link, error) {
	p := l.process
	ctx, cancel := context.WithTimeout(ctx, p.find)
	defer cancel()
	claim, err := l.self()
	if err != nil {
		return nil, err
	}
	if claim != nil {
		conn, err := claim.DialSelf(ctx)
		if err != nil {
			return nil, err
		}
		return stdio.NewLink(conn, p.header("")), nil
	}
	found, err := holder.Find(ctx, p.dir, func(ctx context.Context) error { return startHolder(ctx, p.dir) })
	if err != nil {
		return nil, err
	}
	if found.Name == "" {
		l.held.Store(true)
	} else {
		if err := datadir.CheckName(found.Name); err != nil {
			return nil, errors.Join(fmt.Errorf("the directory is inside a data directory that a server has open: %w", err), found.Close())
		}
	}
	return stdio.NewLink(found.Conn, p.header(found.Name)), nil
}

// awaitTidy waits until a holder without a repository has ended and removed what it made, so that nothing of it is there any more
// when the client learns that this process has ended. The connections to it are closed.
func (l *stdioLinks) awaitTidy(ctx context.Context) {
	dir := l.process.dir
	if !l.held.Load() || layout.HasIndex(dir) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, tidyPatience)
	defer cancel()
	gone := func(path string) bool {
		_, err := os.Lstat(path)
		return errors.Is(err, os.ErrNotExist)
	}
	for holder.Held(dir) || !gone(filepath.Join(dir, layout.OwnDir)) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
	for range 10 { // the last of it are directories, which may have been there before
		if gone(dir) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// header says whose requests come through a pipe, and for which repository.
func (p parsed) header(name string) http.Header {
	return api.TrustedHeader(name, repo.Principal{Name: principal(), Permissions: p.permissions, Ceiling: p.quota})
}
