package ui

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of sessions.
const (
	maxSessions = 1024             // in all; that which was not used longest gives way
	eachSession = 32               // with the same credentials
	sessionIdle = 30 * time.Minute // without a request
	sessionLife = 12 * time.Hour
	maxForms    = 4096 // that one session may send
)

// session is one login. It is in memory only: a restart of the server ends all.
type session struct {
	sender                    // whose credentials are checked anew by each request
	vouched [sha256.Size]byte // of a session without credentials: by what its user was named; another one gets no session of this one
	name    string
	key     [32]byte // of the form tokens
	created time.Time
	server  atomic.Bool // the user may do everything in the server as a whole: what is shown goes by that, and what is done by the API

	mu    sync.Mutex // held for a look at what follows
	last  time.Time
	sent  map[[nonceSize]byte]struct{} // form tokens that were used
	flash string                       // what the next page says first
	run   *rollbackRun                 // the last rollback that was begun; nil: none
	check *checkRun                    // the last check that was begun; nil: none
}

// sessions are those of a server, by the SHA-256 of their cookies, so that the time of a look-up tells nothing of a cookie.
type sessions struct {
	now func() time.Time
	mu  sync.Mutex // held for a look at of
	of  map[[sha256.Size]byte]*session
}

// begin makes a session and returns its cookie, 256 random bits.
func (ss *sessions) begin(s *session) (cookie string) {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)   // it never fails
	_, _ = rand.Read(s.key[:]) // nor this
	cookie = base64.RawURLEncoding.EncodeToString(secret)
	s.created = ss.now()
	s.last, s.sent = s.created, make(map[[nonceSize]byte]struct{})
	ss.mu.Lock()
	defer ss.mu.Unlock()
	same, oldest, oldestSame := 0, [sha256.Size]byte{}, [sha256.Size]byte{}
	for id, other := range ss.of {
		if other.over(s.created) {
			ss.deleteLocked(id)
			continue
		}
		if o, ok := ss.of[oldest]; !ok || other.used().Before(o.used()) {
			oldest = id
		}
		if other.authorization == s.authorization && other.name == s.name {
			same++
			if o, ok := ss.of[oldestSame]; !ok || other.used().Before(o.used()) {
				oldestSame = id
			}
		}
	}
	switch {
	case same >= eachSession:
		ss.deleteLocked(oldestSame)
	case len(ss.of) >= maxSessions:
		ss.deleteLocked(oldest)
	}
	ss.of[sha256.Sum256([]byte(cookie))] = s
	return cookie
}

// find returns the session of a cookie; nil: there is none, or it is over.
func (ss *sessions) find(cookie string) *session {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	id := sha256.Sum256([]byte(cookie))
	s := ss.of[id]
	if s == nil {
		return nil
	}
	now := ss.now()
	if s.over(now) {
		ss.deleteLocked(id)
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = now
	return s
}

// end ends the session of a cookie, if there is one.
func (ss *sessions) end(cookie string) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.deleteLocked(sha256.Sum256([]byte(cookie)))
}

// deleteLocked ends a session, if there is one, and the check that it has begun.
func (ss *sessions) deleteLocked(id [sha256.Size]byte) {
	s := ss.of[id]
	if s == nil {
		return
	}
	delete(ss.of, id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.check != nil {
		s.check.stop()
	}
}

func (s *session) used() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

func (s *session) over(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Sub(s.last) > sessionIdle || now.Sub(s.created) > sessionLife || len(s.sent) >= maxForms
}

// A form token lets one form be sent once: a random number, and its MAC with the form's path under the session's key.
const (
	nonceSize = 16
	macSize   = 16
)

func (s *session) mac(action string, nonce []byte) []byte {
	mac := hmac.New(sha256.New, s.key[:])
	mac.Write(nonce)
	mac.Write([]byte(action))
	return mac.Sum(nil)[:macSize]
}

// token makes a form token for the form that is sent to action.
func (s *session) token(action string) string {
	nonce := make([]byte, nonceSize, nonceSize+macSize)
	_, _ = rand.Read(nonce) // it never fails
	return base64.RawURLEncoding.EncodeToString(append(nonce, s.mac(action, nonce)...))
}

var (
	errForeignForm = errors.New("this form is not from a page of your session. Nothing was changed; load the page again and repeat the step")
	errSentTwice   = errors.New("this form was sent before, and is carried out once only. Nothing was changed by sending it again; look at the page for what the first one did")
)

// take uses a form token up.
func (s *session) take(action, token string) error {
	text, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(text) != nonceSize+macSize || !hmac.Equal(text[nonceSize:], s.mac(action, text[:nonceSize])) {
		return errForeignForm
	}
	nonce := [nonceSize]byte(text)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, sent := s.sent[nonce]; sent {
		return errSentTwice
	}
	s.sent[nonce] = struct{}{}
	return nil
}

// say leaves a message for the next page.
func (s *session) say(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flash = text
}

// said takes the message for this page.
func (s *session) said() (text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text, s.flash = s.flash, ""
	return text
}
