package restic

import (
	"context"
	"sync"
	"time"

	"packhouse/api"
	"packhouse/repo"
)

// Of two clients that initialize one repository at once the second is refused its config, and deletes the config of the first: restic deletes whatever it
// could not store. Both have stored a key by then, and with the same password in both the config that is left may be read with the wrong one. As a client
// looks for a config, and for keys, once more after its request to create the repository, the second has to wait there until the first has stored its
// config: then it finds it, and stops without having stored anything. Source: restic-rest 4.3, 4.6; seen with restic 0.14.0 and 0.19.1.

// beginnings are the repositories that a client initializes now. It is safe for concurrent use.
type beginnings struct {
	time time.Duration // that a client has, from its request to create the repository to its config

	mu      sync.Mutex            // held for a look at what follows
	of      map[string]*beginning // by the name of the repository; guarded by mu
	waiting int                   // requests, of all repositories; guarded by mu
}

// beginning is one of them.
type beginning struct {
	ends    time.Time
	created bool          // the repository was created, or was there already; guarded by mu of beginnings
	over    chan struct{} // closed when its config was stored, or it has failed
	waiting int           // requests of other clients; guarded by mu of beginnings
}

// progress is how far a repository is initialized.
type progress int

const (
	missing     progress = iota // there is no repository
	created                     // it has no config
	initialized                 // it has a config
)

// maxWaiting is how many requests may wait for one repository, and waitingShare the part of the requests answered at once that may wait for any: who waits
// has a slot among those.
const maxWaiting, waitingShare = 8, 8

// wait returns when the sender of a request is the one that initializes a repository (begun; created must follow, or end), or when look reports that
// the repository has its config. requests are those that the server answers at once. Errors: repo.ErrBusy, also when the server is told to stop, which waits
// for its requests; ctx.Err, and those of look.
func (b *beginnings) wait(ctx context.Context, name string, requests int, look func() (progress, error)) (begun bool, err error) {
	for {
		at, err := look()
		if at == initialized || err != nil {
			return false, err
		}
		other, err := b.begin(name, at, max(1, requests/waitingShare))
		if other == nil || err != nil {
			return err == nil, err
		}
		timer := time.NewTimer(time.Until(other.ends))
		select {
		case <-other.over:
		case <-timer.C:
		case <-ctx.Done():
			err = ctx.Err()
		case <-api.Stopping(ctx):
			err = repo.ErrBusy
		}
		timer.Stop()
		b.mu.Lock()
		other.waiting--
		b.waiting--
		b.mu.Unlock()
		if err != nil {
			return false, err
		}
	}
}

// begin has the repository initialized by the caller, who has seen how far it is, or returns who does that now, for whom the caller is counted to wait,
// unless most requests wait already.
func (b *beginnings) begin(name string, at progress, most int) (other *beginning, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	other = b.of[name]
	destroyed := other != nil && other.created && at == missing
	if other != nil && now.Before(other.ends) && !destroyed {
		if other.waiting >= maxWaiting || b.waiting >= most {
			return nil, repo.ErrBusy
		}
		other.waiting++
		b.waiting++
		return other, nil
	}
	for name, old := range b.of {
		if !now.Before(old.ends) {
			delete(b.of, name)
		}
	}
	if b.of == nil {
		b.of = make(map[string]*beginning)
	}
	b.of[name] = &beginning{ends: now.Add(b.time), over: make(chan struct{})}
	return nil, nil
}

// created is called when the repository is there whose initialization was begun.
func (b *beginnings) created(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if begun := b.of[name]; begun != nil {
		begun.created = true
	}
}

// end is called when the config of a repository was stored, or it could not be created.
func (b *beginnings) end(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if begun := b.of[name]; begun != nil {
		delete(b.of, name)
		close(begun.over)
	}
}
