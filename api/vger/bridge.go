package vger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"packhouse/api"
	"packhouse/index"
	"packhouse/repo"
)

// The bridge lets clients with TTL locks and clients with lock objects see each other in one repository of
// format 1 (contract, 1.5). It knows one lock, the one clients take.
//
// A TTL client takes its lock first and looks for lock objects second; an object
// client stores its object first and lists second. Whichever order these four steps take, at
// least one of the two sees the other: the TTL client then gives its lock back, and the object
// client finds a smaller key in the list, the shadow, and backs off.
const bridgedLock = "repo-lock"

// shadow is the lock object that stands for a held TTL lock.
type shadow struct {
	lock   index.Lock
	random string // 32 hex digits, the same as long as one holder has the lock
}

// bridged tells whether the two worlds can meet: only format 1 has clients of both.
func (x *request) bridged(ctx context.Context, a *repo.Access) (bool, error) {
	config, err := x.d.configs.of(ctx, a.Repository())
	return config.format <= 1, err
}

// heldShadow returns the shadow of the TTL lock if it is held.
func (x *request) heldShadow(a *repo.Access) (shadow, bool, error) {
	locks, err := a.Locks(x.r.Context())
	if err != nil {
		if errors.Is(err, repo.ErrDenied) {
			return shadow{}, false, nil
		}
		return shadow{}, false, err
	}
	for _, lock := range locks {
		if lock.ID != bridgedLock {
			continue
		}
		ok, err := x.bridged(x.r.Context(), a)
		sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", a.Repository().ID(), lock.Since.UnixNano()))
		return shadow{lock, fmt.Sprintf("%x", sum[:16])}, ok, err
	}
	return shadow{}, false, nil
}

// shadow returns the shadow if the request's key is its key. The time in the key is not
// compared: it is chosen for each list.
func (x *request) shadow(a *repo.Access) (shadow, bool, error) {
	name, ok := x.key.within("locks")
	if !ok || !strings.HasSuffix(name, ".json") {
		return shadow{}, false, nil
	}
	s, ok, err := x.heldShadow(a)
	return s, ok && strings.HasSuffix(name, "-"+s.random+".json"), err
}

// key is the shadow's key in a list whose smallest lock object is smallest, or "". Normally it carries
// the time of the acquisition. A client whose clock is behind would make a smaller key than that and
// believe it had won, so the shadow always sorts first.
func (s shadow) key(smallest string) string {
	at := s.lock.Since
	if first, ok := lockKeyTime(smallest); ok && !at.Before(first) {
		at = first.Add(-time.Microsecond)
	}
	return lockKey(at, s.random)
}

// document is what GET of the shadow's key returns at a time. Object clients delete what shows no sign of life
// for 6 hours; a lock that is held is alive however long its TTL is, so the time shown moves on by the hour.
func (s shadow) document(now time.Time) memory {
	by, alive := lockHolder(s.lock), s.lock.Acquired
	if hour := now.Truncate(time.Hour); hour.After(alive) {
		alive = hour
	}
	text, err := json.Marshal(lockDocument{
		Hostname: by.Hostname, PID: by.PID, Time: alive.UTC().Format("2006-01-02T15:04:05.999999999-07:00"),
	})
	if err != nil {
		return memory("{}") // strings and a number always encode
	}
	return memory(text)
}

// memory is a source of bytes that are no object.
type memory []byte

func (m memory) Size() int64  { return int64(len(m)) }
func (m memory) Close() error { return nil }

func (m memory) Section(offset, length int64) (io.Reader, error) {
	return bytes.NewReader(m[offset : offset+length]), nil
}

// acquireBridged takes or renews the TTL lock that object clients see, unless one of them holds the repository.
//
// It is one at a time for a repository: a client that lost its first answer and asks again must not be told
// that it has the lock while the first request is about to give it back.
func (x *request) acquireBridged(ctx context.Context, a *repo.Access, by holder, acquire func() (index.Lock, error)) error {
	defer x.d.gates.enter(a.Repository().ID())()
	renewed, err := heldBy(ctx, a, by)
	if err != nil {
		return err
	}
	lock, err := acquire()
	if err != nil {
		return err
	}
	var before time.Time
	if renewed {
		before = lock.Since // a client whose object came later has seen the shadow
	}
	other, found, err := x.liveLockObject(ctx, a, before)
	if !found && (err == nil || renewed) {
		return err
	}
	released := a.ReleaseLock(ctx, lock.ID, by.id())
	switch {
	case released != nil && !errors.Is(released, repo.ErrNotFound) && !errors.Is(released, repo.ErrLocked):
		return released
	case err != nil:
		return err
	}
	return alreadyHeld(lock.ID, other)
}

// heldBy tells whether a client has the bridged lock now. It looks with the server's own eyes.
func heldBy(ctx context.Context, a *repo.Access, by holder) (bool, error) {
	locks, err := a.Repository().As(repo.Principal{}).Locks(ctx)
	return slices.ContainsFunc(locks, func(l index.Lock) bool { return l.ID == bridgedLock && l.Holder == by.id() }), err
}

// gates let one request at a time acquire the bridged lock of a repository.
type gates struct {
	mu   sync.Mutex             // held for a map access only
	each map[string]*sync.Mutex // by the repository's ID
}

// enter waits for its turn; the returned function ends it.
func (g *gates) enter(id string) (leave func()) {
	g.mu.Lock()
	gate := g.each[id]
	if gate == nil {
		gate = new(sync.Mutex)
		if g.each == nil {
			g.each = make(map[string]*sync.Mutex)
		}
		g.each[id] = gate
	}
	g.mu.Unlock()
	gate.Lock()
	return gate.Unlock
}

// liveLockObject finds a lock object that clients would not call stale, and its host; of those that were
// stored until before, if that is a time.
func (x *request) liveLockObject(ctx context.Context, a *repo.Access, before time.Time) (host string, found bool, err error) {
	if ok, err := x.bridged(ctx, a); !ok || err != nil {
		return "", false, err
	}
	r := a.Repository()
	server := r.As(repo.Principal{}) // what the principal may read does not decide who holds the lock
	stop := errors.New("found")
	err = server.Each(ctx, index.ListOptions{Dir: "locks", Recursive: true}, func(entry index.Entry) error {
		if !strings.HasSuffix(entry.Key, ".json") || !before.IsZero() && entry.Item.Created.After(before) {
			return nil
		}
		text, _, err := readDocument(ctx, server, entry.Key)
		if errors.Is(err, repo.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		document, refreshed := lockRefreshed(entry.Key, text, entry.Item.Modified)
		if r.Now().Sub(refreshed) > LockStale {
			return nil
		}
		host = document.Hostname
		return stop
	})
	switch {
	case errors.Is(err, stop):
		return host, true, nil
	case errors.Is(err, repo.ErrNotFound):
		return "", false, nil
	}
	return "", false, err
}

// readDocument reads a small object, and says which bytes it has read.
func readDocument(ctx context.Context, a api.Opener, key string) ([]byte, index.Item, error) {
	o, err := a.Open(ctx, key)
	if err != nil {
		return nil, index.Item{}, err
	}
	defer o.Close()
	text, err := io.ReadAll(io.NewSectionReader(o, 0, min(o.Size(), maxDocument)))
	return text, o.Item, err
}
