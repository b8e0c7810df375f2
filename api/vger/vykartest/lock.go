package vykartest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// lock is one that this process holds.
type lock struct {
	key       string // of the object, or of the TTL lock
	refreshed time.Time
}

// lockDocument is the content of an object below locks/.
type lockDocument struct {
	Hostname string `json:"hostname"`
	PID      int    `json:"pid"`
	Time     string `json:"time"`
	BootID   string `json:"boot_id,omitempty"`
}

const (
	staleLock    = 6 * time.Hour
	refreshAfter = 3 * time.Hour
	trustedFor   = staleLock - 30*time.Minute
	staleSession = 45 * time.Minute
	ttlLock      = "locks/repo-lock"
)

// acquire takes the lock: ErrLocked when another has it.
func (c *Client) acquire() (*lock, error) {
	if c.ttl() {
		return c.acquireTTL()
	}
	if err := c.removeStaleLocks(); err != nil {
		return nil, err
	}
	now := c.o.Now()
	key := fmt.Sprintf("locks/%020d-%s.json", now.UnixMicro(), c.hex(16))
	if err := c.putLock(key, now); err != nil {
		return nil, err
	}
	keys, err := c.lockKeys()
	if err != nil {
		return nil, err
	}
	if !slices.Contains(keys, key) {
		err := fmt.Errorf("own lock after PUT: %w", ErrMissing)
		return nil, errors.Join(err, killed(c.remove(key)))
	}
	if keys[0] != key {
		if err := c.remove(key); isKilled(err) {
			return nil, err
		}
		if _, err := c.get(keys[0]); isKilled(err) { // for the message
			return nil, err
		}
		return nil, fmt.Errorf("%s: %w", keys[0], ErrLocked)
	}
	return &lock{key, now}, nil
}

// killed is err if it ends the process, else nil: what the client tries, but does not need.
func killed(err error) error {
	if isKilled(err) {
		return err
	}
	return nil
}

func (c *Client) putLock(key string, now time.Time) error {
	body, err := json.Marshal(lockDocument{c.o.Host, c.o.PID, now.UTC().Format(time.RFC3339Nano), c.o.BootID})
	if err != nil {
		return err
	}
	return c.put(key, body)
}

// lockKeys are the keys of all lock objects, the one that counts first.
func (c *Client) lockKeys() ([]string, error) {
	keys, err := c.list("locks/")
	keys = slices.DeleteFunc(keys, func(key string) bool { return !strings.HasSuffix(key, ".json") })
	slices.Sort(keys)
	return keys, err
}

func (c *Client) removeStaleLocks() error {
	keys, err := c.lockKeys()
	if err != nil {
		return err
	}
	for _, key := range keys {
		body, err := c.get(key)
		if errors.Is(err, ErrMissing) {
			continue
		}
		if err != nil {
			return err
		}
		if c.stale(key, body) {
			if err := c.remove(key); err != nil {
				return err
			}
		}
	}
	return nil
}

// stale tells whether this client takes a lock for one that nobody holds.
func (c *Client) stale(key string, body []byte) bool {
	switch c.o.Locks {
	case StaleNever:
		return false
	case StaleAlways:
		return true
	}
	var d lockDocument
	if json.Unmarshal(body, &d) == nil && d.Hostname == c.o.Host {
		if d.BootID != "" && c.o.BootID != "" && d.BootID != c.o.BootID || !c.o.Alive(d.PID) {
			return true
		}
	}
	at, err := time.Parse(time.RFC3339Nano, d.Time)
	if err != nil {
		digits, _, _ := strings.Cut(strings.TrimPrefix(key, "locks/"), "-")
		micros, err := strconv.ParseInt(digits, 10, 64)
		if err != nil {
			return false
		}
		at = time.UnixMicro(micros)
	}
	return c.o.Now().Sub(at) > staleLock
}

// acquireWithin is acquire, tried again while another has the lock.
func (c *Client) acquireWithin(attempts int, delay time.Duration) (*lock, error) {
	for attempt := 1; ; attempt++ {
		l, err := c.acquire()
		if err == nil || attempt == attempts || !errors.Is(err, ErrLocked) {
			return l, err
		}
		c.o.Sleep(delay)
		delay *= 2
	}
}

// release gives the lock back.
func (c *Client) release(l *lock) error { return c.remove(l.key) }

// fence finds out before a write whether the lock is still held, and renews it after three hours.
func (r *Repository) fence() error {
	if r.held == nil {
		return nil
	}
	there, err := r.c.exists(r.held.key)
	if err != nil {
		return err
	}
	now := r.c.o.Now()
	age := now.Sub(r.held.refreshed)
	if !there || age < 0 || age > trustedFor {
		return fmt.Errorf("%s: %w", r.held.key, ErrLostLock)
	}
	if age >= refreshAfter {
		if err := r.c.putLock(r.held.key, now); err == nil {
			r.held.refreshed = now
		} else if isKilled(err) {
			return err
		}
	}
	return nil
}

// acquireTTL takes the lock of the first generations. It is told by the answer alone, and a lost answer counts as
// another's lock.
func (c *Client) acquireTTL() (*lock, error) {
	body, err := json.Marshal(map[string]any{"hostname": c.o.Host, "pid": c.o.PID})
	if err != nil {
		return nil, err
	}
	err = c.acknowledged(request{method: "POST", target: "/" + ttlLock, body: body, header: [][2]string{{"Content-Type", "application/json"}}})
	var status *StatusError
	if errors.As(err, &status) && status.Status == http.StatusConflict {
		return nil, fmt.Errorf("%s: %w", status.Text, ErrLocked)
	}
	if err != nil {
		return nil, err
	}
	return &lock{ttlLock, c.o.Now()}, nil
}

// sessionDocument is the content of sessions/{id}.json.
type sessionDocument struct {
	Hostname   string `json:"hostname"`
	PID        int    `json:"pid"`
	Registered string `json:"registered_at"`
	Refreshed  string `json:"last_refresh"`
}

// register announces a session, and finds out by the lock whether maintenance is under way.
func (c *Client) register() (session string, err error) {
	session = c.hex(16)
	now := c.o.Now().UTC().Format(time.RFC3339Nano)
	body, err := json.Marshal(sessionDocument{c.o.Host, c.o.PID, now, now})
	if err != nil {
		return "", err
	}
	if err := c.put(marker(session), body); err != nil {
		return "", err
	}
	l, err := c.acquireWithin(3, 2*time.Second)
	if err == nil {
		err = c.release(l)
	}
	if err != nil {
		return "", errors.Join(err, killed(c.remove(marker(session))))
	}
	return session, nil
}

func marker(session string) string  { return "sessions/" + session + ".json" }
func journal(session string) string { return "sessions/" + session + ".index" }

// leave ends a session.
func (c *Client) leave(session string) {
	for range 3 {
		if err := c.remove(marker(session)); err == nil || isKilled(err) {
			return
		}
		c.o.Sleep(500 * time.Millisecond)
	}
}

// maintain takes the lock for a command that removes things, and wants no session but dead ones to be there.
func (r *Repository) maintain(work func() error) error {
	l, err := r.c.acquire()
	if err != nil {
		return err
	}
	r.held = l
	if !r.c.ttl() {
		err = r.c.noSessions()
	}
	if err == nil {
		err = work()
	}
	r.held = nil
	if releaseErr := r.c.release(l); isKilled(releaseErr) {
		err = errors.Join(err, releaseErr)
	}
	return err
}

// noSessions removes dead sessions, and is ErrSessions while there are others.
func (c *Client) noSessions() error {
	keys, err := c.list("sessions/")
	if err != nil {
		return err
	}
	cleaned, alive := make(map[string]bool), make(map[string]bool)
	for _, key := range keys {
		id, ok := strings.CutSuffix(strings.TrimPrefix(key, "sessions/"), ".json")
		if !ok {
			continue
		}
		body, err := c.get(key)
		if errors.Is(err, ErrMissing) {
			continue
		}
		if err != nil {
			return err
		}
		if !c.deadSession(body) {
			alive[id] = true
			continue
		}
		if err := c.remove(key); err != nil {
			return err
		}
		cleaned[id] = true
	}
	for _, key := range keys {
		// A journal of a session that died before this run: the one of this run the next backup may yet use.
		if id, ok := strings.CutSuffix(strings.TrimPrefix(key, "sessions/"), ".index"); ok && !alive[id] && !cleaned[id] {
			if err := c.remove(key); err != nil {
				return err
			}
		}
	}
	if keys, err = c.list("sessions/"); err != nil {
		return err
	}
	var active []string
	for _, key := range keys {
		if strings.HasSuffix(key, ".json") {
			if _, err := c.get(key); err != nil && !errors.Is(err, ErrMissing) {
				return err
			}
			active = append(active, key)
		}
	}
	if len(active) > 0 {
		return fmt.Errorf("%v: %w", active, ErrSessions)
	}
	return nil
}

// deadSession tells whether nobody keeps a session.
func (c *Client) deadSession(body []byte) bool {
	var d sessionDocument
	if json.Unmarshal(body, &d) != nil {
		return false
	}
	at, err := time.Parse(time.RFC3339Nano, d.Refreshed)
	if err != nil {
		return false
	}
	return c.o.Now().Sub(at) > staleSession || d.Hostname == c.o.Host && !c.o.Alive(d.PID)
}
