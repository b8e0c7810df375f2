package tokens

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/repo"
	"packhouse/repo/layout"
)

// Why a secret is not accepted.
var (
	ErrUnknown   = errors.New("the token is unknown, or was revoked")
	ErrExpired   = errors.New("the token has expired")
	ErrMalformed = fmt.Errorf("the token is malformed: one that this server has issued has %d characters; was it copied as a whole?", secretLength)
)

// errRevoked is why the life of a token has ended, if not by ErrExpired.
var errRevoked = errors.New("the token was revoked")

// maxTokens bounds the memory that tokens take.
const maxTokens = 10_000

// Options of Open. Path is required.
type Options struct {
	Path string           // of the file; it need not exist
	FS   vfs.FS           // nil means the operating system's
	Now  func() time.Time // nil means time.Now
	// MayRecord is asked whenever the last uses of tokens are to be written: after an error they are not, and it is asked again
	// later. If it is nil, they are only read.
	MayRecord func() error
	// Logger gets why a file could not be written; nil means silence.
	Logger *slog.Logger
}

// Store is the tokens of a server. It is safe for concurrent use. Only one process at a time may use a file.
type Store struct {
	o     Options
	timer *time.Timer // ends tokens that have expired
	ends  sync.WaitGroup
	uses  uses

	change  sync.Mutex      // held over one change, including that of the file; before mu
	unsaved map[string]bool // IDs of revoked tokens that the file may still have; guarded by change

	mu     sync.RWMutex // held over one look at what follows, or a change of it; never while the file is written
	byID   map[string]*known
	byName map[string]*known
	ended  func(Token) // see OnEnd
	closed bool
}

// known is a token with what is needed to check its secret.
type known struct {
	Token
	sum  [sha256.Size]byte
	life context.Context
	end  context.CancelCauseFunc
	used atomic.Int64 // Unix seconds; 0: not since uses are recorded
}

// Session is a token that was accepted.
type Session struct {
	Token
	Life context.Context // ends when the token is revoked or expires
}

// Open reads the file. Close must follow.
func Open(o Options) (*Store, error) {
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Store{o: o, unsaved: make(map[string]bool)}
	s.timer = time.AfterFunc(time.Hour, s.expire)
	if err := s.Reload(); err != nil {
		s.timer.Stop()
		return nil, err
	}
	return s, nil
}

// OnEnd has fn called, by a goroutine of its own, whenever a token was revoked or has expired.
func (s *Store) OnEnd(fn func(Token)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = fn
}

// Close stops the store's timers, writes the last uses that are not written, and returns when no call of a function of OnEnd is
// left. It may be called again.
func (s *Store) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.timer.Stop()
	s.closeUses()
	s.ends.Wait()
}

// Reload reads the file again, which another process may have changed while this one had released the directory. Tokens that
// are not there any more have ended.
func (s *Store) Reload() error {
	s.change.Lock()
	defer s.change.Unlock()
	list, err := s.read()
	if err != nil {
		return err
	}
	byID, byName := make(map[string]*known, len(list)), make(map[string]*known, len(list))
	s.mu.Lock()
	old := s.byID
	for _, k := range list {
		if s.unsaved[k.ID] {
			continue
		}
		if same := old[k.ID]; same != nil && same.sum == k.sum {
			k = same // with its life
		}
		byID[k.ID], byName[k.Name] = k, k
	}
	s.byID, s.byName = byID, byName
	s.mu.Unlock()
	for id, k := range old {
		if byID[id] != k {
			s.finish(k, errRevoked)
		}
	}
	s.expire()
	s.readUses()
	return nil
}

// Find checks a secret. The errors are ErrUnknown, ErrExpired and ErrMalformed.
func (s *Store) Find(secret string) (Session, error) {
	id, ok := idOf(secret)
	if !ok {
		return Session{}, ErrMalformed
	}
	sum := hash(secret)
	s.mu.RLock()
	k := s.byID[id]
	s.mu.RUnlock()
	if k == nil || subtle.ConstantTimeCompare(k.sum[:], sum[:]) != 1 {
		return Session{}, ErrUnknown
	}
	now := s.o.Now()
	if k.over(now) {
		return Session{}, fmt.Errorf("%w: %s", ErrExpired, k.Name)
	}
	s.used(k, now)
	return Session{k.Token, k.life}, nil
}

// over tells whether the token has expired. It does not come back when the clock is set back.
func (k *known) over(now time.Time) bool { return k.Expired(now) || k.life.Err() != nil }

// Named returns the token of that name, unless it has expired.
func (s *Store) Named(name string) (t Token, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	k := s.byName[name]
	if k == nil || k.over(s.o.Now()) {
		return Token{}, false
	}
	return k.Token, true
}

// List returns all tokens, sorted by name, those that have expired, too.
func (s *Store) List() []Token {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]Token, 0, len(s.byID))
	for _, k := range s.byID {
		list = append(list, k.Token)
	}
	slices.SortFunc(list, func(a, b Token) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Create issues a token, and returns its secret, which nobody can find out later. ID and Created of t are set here; without a
// name the token gets one made of its repository and role. The token holds when Create returns nil. Errors: repo.ErrInvalid,
// repo.ErrExists for a name that another token has, and those of the file; then nobody has its secret.
func (s *Store) Create(t Token) (Token, string, error) {
	s.change.Lock()
	defer s.change.Unlock()
	now := s.o.Now()
	t.Created = now.UTC().Truncate(time.Second)
	t.Expires = t.Expires.UTC()
	if t.Name == "" && len(t.Repositories) > 0 {
		t.Name = s.freeName(t)
	}
	if err := t.check(now); err != nil {
		return Token{}, "", err
	}
	s.mu.RLock()
	taken, n := s.byName[t.Name], len(s.byID)
	s.mu.RUnlock()
	switch {
	case taken != nil && taken.over(now):
		return Token{}, "", repo.Errorf(repo.ErrExists, "there is a token %q, which has expired: revoke it first, or choose another name", t.Name)
	case taken != nil:
		return Token{}, "", repo.Errorf(repo.ErrExists, "there is a token %q already: choose another name", t.Name)
	case n >= maxTokens:
		return Token{}, "", repo.Errorf(repo.ErrInvalid, "there are %d tokens already: revoke those that are not needed", n)
	}
	var secret string
	for t.ID == "" || s.byID[t.ID] != nil {
		t.ID, secret = newSecret()
	}
	k := newKnown(t, hash(secret))
	if err := s.write(k); err != nil {
		return Token{}, "", fmt.Errorf("the token could not be stored: %w", err)
	}
	s.mu.Lock()
	s.byID[t.ID], s.byName[t.Name] = k, k
	s.mu.Unlock()
	s.expire()
	s.writeSoon() // so that it is known from when on its uses are
	return t, secret, nil
}

// freeName is a name for a token that has none.
func (s *Store) freeName(t Token) string {
	base := t.Repositories[0]
	if base == All {
		base = "all"
	}
	base = strings.TrimLeft(strings.Map(func(c rune) rune {
		if layout.DirName(string(c)) != string(c) {
			return '-' // a slash, or a letter that would have to be escaped
		}
		return c
	}, base), "-.")
	base = fmt.Sprintf("%.40s-%s", cmp.Or(base, "repository"), t.Role)
	s.mu.RLock()
	defer s.mu.RUnlock()
	name := base
	for n := 2; s.byName[name] != nil; n++ {
		name = fmt.Sprintf("%s-%d", base, n)
	}
	return name
}

// Revoke ends a token, at once: also if the file cannot be written. Then the error says so, and the token would hold again
// after a restart, unless a later call succeeds. ErrNotFound: there is no token of that name.
func (s *Store) Revoke(name string) (Token, error) {
	s.change.Lock()
	defer s.change.Unlock()
	s.mu.Lock()
	k := s.byName[name]
	if k != nil {
		delete(s.byID, k.ID)
		delete(s.byName, name)
	}
	s.mu.Unlock()
	if k == nil && len(s.unsaved) == 0 {
		return Token{}, repo.Errorf(repo.ErrNotFound, "there is no token %q", shorten(name))
	}
	t := Token{Name: name}
	if k != nil {
		t = k.Token
		s.unsaved[k.ID] = true
		s.finish(k, errRevoked)
	}
	if err := s.write(nil); err != nil {
		return t, fmt.Errorf("the token does not hold any more, but that could not be stored: %w; revoke it once more, or it holds again when the server is restarted", err)
	}
	return t, nil
}

// finish ends the life of a token.
func (s *Store) finish(k *known, cause error) {
	first := k.life.Err() == nil
	k.end(cause)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if ended := s.ended; first && ended != nil && !s.closed { // else nobody would wait for it
		s.ends.Go(func() { ended(k.Token) })
	}
}

// longestWait is when the store looks at the clock again, which may be set meanwhile.
const longestWait = time.Minute

// expire ends the tokens that have expired, and sets the timer for the next.
func (s *Store) expire() {
	now, next := s.o.Now(), time.Duration(-1)
	var over []*known
	s.mu.RLock()
	for _, k := range s.byID {
		switch left := k.Expires.Sub(now); {
		case k.Expires.IsZero() || k.life.Err() != nil:
		case left <= 0:
			over = append(over, k)
		case next < 0 || left < next:
			next = left
		}
	}
	closed := s.closed
	s.mu.RUnlock()
	for _, k := range over {
		s.finish(k, ErrExpired)
	}
	if next >= 0 && !closed {
		s.timer.Reset(min(next, longestWait))
	}
}
