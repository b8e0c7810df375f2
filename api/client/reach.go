package client

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"packhouse/api/holder"
	"packhouse/repo/layout"
)

// Session is a client of the process that holds a directory. It can be used until Close.
type Session struct {
	*Client
	Single bool   // it is about one repository
	Only   string // the repository's name, where its server is that of the directory above; else ""
	Own    bool   // this process holds the directory
	Data   string // the data directory; "": the directory is one repository, or elsewhere
	End    func() error
}

// Close releases the directory if this process holds it.
func (s *Session) Close() error {
	if s.End == nil {
		return nil
	}
	return s.End()
}

// Hold makes this process serve a directory that it has claimed, and returns a client of itself. The claim is released when the
// session is closed, or immediately if there is an error.
type Hold func(claim *holder.Claim, single bool) (*Session, error)

// Reach calls do with a session of the process that holds an existing directory. If no process holds it, this one does, by calling
// hold. A holder may be starting or ending, or another process may have claimed the directory first: as long as do got no answer
// and ctx has not ended, it is called again with the process that holds the directory then.
func Reach(ctx context.Context, dir string, hold Hold, do func(*Session) error) error {
	single := layout.HasIndex(dir)
	free := 0 // attempts that were refused because of a holder that was gone a moment later
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		s, err := open(ctx, dir, single, hold)
		if err == nil {
			if !single {
				s.Data = dir
			}
			err = errors.Join(do(s), s.Close())
			if s.Answered {
				return err
			}
		}
		var silent *SilentError
		var held *holder.HeldError
		switch {
		case errors.As(err, &silent):
		case errors.As(err, &held) && (holder.Held(dir) || single && holder.Held(filepath.Dir(dir))):
		case held != nil && free < maxFree:
			free++
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// maxFree bounds the attempts that fail because the directory is locked although it has no holder: short commands may hold it in
// turn; if it goes on, another program has the lock, and Reach returns the error.
const maxFree = 20

// open finds the process that serves a directory: the server of the directory above a single repository, the holder, or this
// process.
func open(ctx context.Context, dir string, single bool, hold Hold) (*Session, error) {
	switch above := filepath.Dir(dir); {
	case single && holder.Held(above):
		return &Session{Client: of(above), Single: true, Only: layout.NameIn(dir)}, nil
	case holder.Held(dir):
		return &Session{Client: of(dir), Single: single}, nil
	}
	if err := holder.CheckOwner(dir, os.Geteuid()); err != nil {
		return nil, err
	}
	claim := holder.ClaimData
	if single {
		claim = func(_ context.Context, dir string) (*holder.Claim, error) { return holder.ClaimRepository(dir) }
	}
	c, err := claim(ctx, dir)
	if err != nil {
		return nil, err
	}
	return hold(c, single)
}

// of returns the client of the process that holds a directory.
func of(dir string) *Client { return &Client{HTTP: holder.Client(dir), Dir: dir} }
