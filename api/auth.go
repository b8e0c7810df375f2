package api

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"time"

	"packhouse/api/tokens"
	"packhouse/repo"
	"packhouse/repo/policy"
)

// Token is a secret that authenticates without a user name: as Bearer token, or as the password with any user name.
type Token struct {
	Name        string // of the principal, for the log
	Secret      string
	Permissions *policy.Permissions // nil: everything
}

// User is a name with a password: exactly one of Password and Hash is set. With AuthOptions.Clients both may be empty, for a user
// that has only a certificate.
type User struct {
	Name        string
	Password    string              // plain
	Hash        string              // bcrypt, or "{SHA}" and the base64 of the password's SHA-1
	Permissions *policy.Permissions // nil: everything
}

// AuthOptions configures who may use the server. Without users and tokens NoAuth must be set, so that a forgotten password
// never opens a server.
type AuthOptions struct {
	Tokens []Token
	Users  []User
	// Issued are tokens that come and go while the server runs; nil: there are none. Their principals are as permissive as
	// Options.Authorize is, which must narrow them to what the token of that name grants.
	Issued *tokens.Store
	// Clients are the authorities whose certificates prove the names of users; nil: no certificate does.
	Clients *ClientCAs
	// ProxyHeader is the header in which trusted proxies name the user that they have authenticated; "": they do not. Then the
	// name must be one of Users; without any Users each name is that of a user with all permissions who administrates nothing. The name of a token is none.
	ProxyHeader string
	// NoAuth lets everyone in with Permissions, under the name "anonymous"; for sockets and
	// pipes whose other end is known.
	NoAuth      bool
	Permissions *policy.Permissions
	Now         func() time.Time // nil means time.Now
}

// strongSecret is the length from which a secret cannot be guessed with any number of attempts. Such a secret is also accepted from
// an address with too many failed attempts.
const strongSecret = 32

// How many passwords may wait to be compared with a hash, in all and of one address.
const (
	hashingWait = 256
	hashingEach = 64
)

// Auth finds out who sends a request. It is safe for concurrent use. Comparisons take constant time, and failed attempts are
// delayed for each address.
type Auth struct {
	key      []byte    // of the HMAC under which secrets are kept and compared
	macs     sync.Pool // of hash.Hash, with the key
	tokens   []knownToken
	weak     bool // a token can be guessed
	issued   *tokens.Store
	clients  *ClientCAs                // nil: certificates say nothing
	named    map[string]repo.Principal // the users, for certificates
	now      func() time.Time
	users    []knownUser // with a plain password
	hashes   hashedUsers
	proxied  string // the header of AuthOptions.ProxyHeader
	noAuth   bool
	open     repo.Principal
	throttle *throttle
	verified *expiringSet // secrets that were right, with the address they came from
	hashing  *fairQueue   // of tries that may take a comparison with a bcrypt hash: strangers get at most half of the processors
}

type knownToken struct {
	sum       [sha256.Size]byte
	strong    bool
	principal repo.Principal
}

type knownUser struct {
	name      [sha256.Size]byte
	password  [sha256.Size]byte
	strong    bool
	principal repo.Principal
}

// NewAuth checks the options. Its error contains every fault.
func NewAuth(o AuthOptions) (*Auth, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &Auth{
		key: make([]byte, 32), issued: o.Issued, clients: o.Clients, named: make(map[string]repo.Principal), now: o.Now, noAuth: o.NoAuth, open: repo.Principal{Name: "anonymous", Permissions: o.Permissions},
		proxied: o.ProxyHeader, throttle: newThrottle(o.Now), verified: newExpiringSet(o.Now), hashes: newHashedUsers(),
	}
	a.hashing = newFairQueue(max(1, runtime.GOMAXPROCS(0)/2), hashingWait, hashingEach, a.throttle.suspect)
	if _, err := rand.Read(a.key); err != nil {
		return nil, fmt.Errorf("authentication: %w", err)
	}
	var faults []error
	switch some := len(o.Tokens)+len(o.Users) > 0; {
	case o.NoAuth && some:
		faults = append(faults, errors.New("authentication: NoAuth cannot be combined with users or tokens"))
	case o.NoAuth && o.Issued != nil:
		faults = append(faults, errors.New("authentication: NoAuth cannot be combined with issued tokens"))
	case o.NoAuth && o.Clients != nil:
		faults = append(faults, errors.New("authentication: NoAuth cannot be combined with certificates of clients"))
	case o.NoAuth && o.ProxyHeader != "":
		faults = append(faults, errors.New("authentication: NoAuth cannot be combined with a header of proxies"))
	case !o.NoAuth && !some && o.ProxyHeader == "":
		faults = append(faults, errors.New("authentication: no user and no token is configured"))
	}
	for i, token := range o.Tokens {
		if token.Secret == "" {
			faults = append(faults, fmt.Errorf("authentication: token %d (%q) is empty", i+1, token.Name))
		}
		a.weak = a.weak || len(token.Secret) < strongSecret
		a.tokens = append(a.tokens, knownToken{
			sum: a.sum(token.Secret), strong: len(token.Secret) >= strongSecret,
			principal: repo.Principal{Name: token.Name, Permissions: token.Permissions},
		})
	}
	for _, user := range o.Users {
		known := knownUser{
			name: a.sum(user.Name), password: a.sum(user.Password), strong: len(user.Password) >= strongSecret,
			principal: repo.Principal{Name: user.Name, Permissions: user.Permissions},
		}
		switch {
		case user.Name == "" || strings.Contains(user.Name, ":"):
			faults = append(faults, fmt.Errorf("authentication: user name %q is empty or contains ':'", user.Name))
		case user.Password == "" && user.Hash == "" && o.Clients == nil:
			faults = append(faults, fmt.Errorf("authentication: user %q has an empty password", user.Name))
		case user.Password != "" && user.Hash != "":
			faults = append(faults, fmt.Errorf("authentication: user %q has both a password and a hash", user.Name))
		case user.Hash != "":
			if err := a.hashes.add(known.name, user.Hash, known.principal); err != nil {
				faults = append(faults, fmt.Errorf("authentication: the hash of user %q is %w", user.Name, err))
			}
		}
		a.named[user.Name] = known.principal
		if user.Password != "" {
			a.users = append(a.users, known)
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *Auth) sum(secret string) (sum [sha256.Size]byte) {
	mac, ok := a.macs.Get().(hash.Hash)
	if !ok {
		mac = hmac.New(sha256.New, a.key)
	}
	defer a.macs.Put(mac)
	mac.Reset() // which is the faster the second time
	mac.Write([]byte(secret))
	mac.Sum(sum[:0])
	return sum
}

// The outcomes of authenticate besides success.
var (
	errNoCredentials = errors.New("no credentials")
	errCredentials   = errors.New("wrong credentials")
	errThrottled     = errors.New("too many failed attempts with this name from this address")
)

// identity is the sender of a request.
type identity struct {
	repo.Principal
	life context.Context // of the token that it came with; nil: it does not end
}

// authenticate returns the sender of a request from address. One that comes with a client certificate is its user, and
// must not have the credentials of anyone else. byProxy: the peer is a proxy that is trusted; whom it names that is, whatever
// credentials it passes on.
func (a *Auth) authenticate(r *http.Request, address string, byProxy bool) (identity, error) {
	if a.noAuth {
		return identity{Principal: a.open}, nil
	}
	if byProxy && a.proxied != "" {
		if user, ok, err := a.proxyUser(r); ok || err != nil {
			return identity{Principal: user}, err
		}
	}
	sender, err := a.withoutProxy(r, address)
	if errors.Is(err, errNoCredentials) && a.proxied != "" && r.Header.Get(a.proxied) != "" {
		err = fmt.Errorf("%w: the header %s is believed only of trusted proxies", err, a.proxied)
	}
	return sender, err
}

// withoutProxy is authenticate for what no proxy says.
func (a *Auth) withoutProxy(r *http.Request, address string) (identity, error) {
	holder, certified, err := a.holder(r)
	if err != nil || certified && r.Header.Get("Authorization") == "" {
		return identity{Principal: holder}, err
	}
	sender, err := a.authorization(r, address)
	if err == nil && certified && sender.Name != holder.Name {
		return identity{}, forbidden("the request has the credentials of %.100q and the client certificate of %.100q", sender.Name, holder.Name)
	}
	return sender, err
}

// authorization returns whose credentials the request has in its header.
func (a *Auth) authorization(r *http.Request, address string) (identity, error) {
	user, secret, basic, ok := credentials(r.Header.Get("Authorization"))
	if !ok {
		return identity{}, errNoCredentials
	}
	if a.issued == nil || !tokens.Like(secret) {
		p, err := a.configured(r, user, secret, basic, address)
		return identity{Principal: p}, err
	}
	session, err := a.issued.Find(secret)
	if err == nil {
		return identity{repo.Principal{Name: session.Name}, session.Life}, nil
	}
	c := a.claim(user, secret, basic)
	if p, ok := a.matchKnown(&c, address); ok {
		return identity{Principal: p}, nil // it was made here, and configured then
	}
	if !errors.Is(err, tokens.ErrMalformed) {
		return identity{}, err // nobody guesses such a secret
	}
	p, otherwise := a.configured(r, user, secret, basic, address)
	if errors.Is(otherwise, errCredentials) {
		otherwise = err
	}
	return identity{Principal: p}, otherwise
}

// configured finds the sender among the users and tokens that do not change.
func (a *Auth) configured(r *http.Request, user, secret string, basic bool, address string) (repo.Principal, error) {
	c := a.claim(user, secret, basic)
	if p, ok := a.matchKnown(&c, address); ok {
		return p, nil
	}
	wasted := time.Duration(0) // on a wrong secret
	if basic && a.hashes.slow() {
		// Wait for a slot before the attempt is counted against the address: a client whose right passwords come all at once would
		// else use up its attempts before the first of them is found to be right.
		if err := a.hashing.enter(r.Context(), address); err != nil {
			return repo.Principal{}, err
		}
		defer func() { a.hashing.leaveAfter(wasted) }()
		if p, ok := a.matchKnown(&c, address); ok {
			return p, nil // by another request of the same client
		}
	}
	began := time.Now()
	p, token, err := a.guess(&c, secret, address)
	if err != nil {
		wasted = time.Since(began)
		a.throttle.wrong(address)
		return repo.Principal{}, err
	}
	a.throttle.forgive(address, c.name, token)
	a.verified.add(c.proof(address))
	return p, nil
}

// guess compares with what could be guessed: a name has only so many tries from an address, and so have tokens, which are right
// with any name.
func (a *Auth) guess(c *claim, secret, address string) (p repo.Principal, token bool, err error) {
	if !a.throttle.allow(address, c.name) {
		return p, false, errThrottled
	}
	if c.basic {
		p, ok := a.matchUser(c, true)
		if !ok {
			p, ok = a.hashes.match(c.name, secret)
		}
		if ok {
			return p, false, nil
		}
	}
	if !a.weak {
		return p, false, errCredentials
	}
	if !a.throttle.allowToken(address) {
		return p, true, errThrottled
	}
	if p, ok := a.matchToken(c, true); ok {
		return p, true, nil
	}
	return p, true, errCredentials
}

// claim has the credentials of a request: keyed sums of user and secret, which can be compared in constant time.
type claim struct {
	name, secret [sha256.Size]byte
	basic        bool // with a user
}

func (a *Auth) claim(user, secret string, basic bool) claim {
	return claim{a.sum(user), a.sum(secret), basic}
}

// proof is what is remembered of a correct secret, including the address from which it came: a guess from another address must not
// benefit from it.
func (c *claim) proof(address string) string {
	return string(c.name[:]) + string(c.secret[:]) + address
}

// matchKnown compares with what may be tried without limit: secrets that cannot be guessed, and those that were correct before from
// the same address.
func (a *Auth) matchKnown(c *claim, address string) (repo.Principal, bool) {
	if !a.verified.has(c.proof(address)) {
		return a.match(c, false)
	}
	if p, ok := a.match(c, true); ok || !c.basic {
		return p, ok
	}
	return a.hashes.named(c.name)
}

// match compares with the tokens and plain passwords, all or only those that cannot be guessed.
func (a *Auth) match(c *claim, guessable bool) (repo.Principal, bool) {
	p, ok := a.matchToken(c, guessable)
	if user, is := a.matchUser(c, guessable); is {
		return user, true
	}
	return p, ok
}

// matchToken compares with each token, so that its time reveals nothing.
func (a *Auth) matchToken(c *claim, guessable bool) (p repo.Principal, ok bool) {
	for _, token := range a.tokens {
		if hmac.Equal(token.sum[:], c.secret[:]) && (token.strong || guessable) {
			p, ok = token.principal, true
		}
	}
	return p, ok
}

// matchUser does the same with the users that have a plain password; there are few.
func (a *Auth) matchUser(c *claim, guessable bool) (p repo.Principal, ok bool) {
	if !c.basic {
		return p, false
	}
	both := append(c.name[:len(c.name):len(c.name)], c.secret[:]...)
	for _, u := range a.users {
		if hmac.Equal(append(u.name[:], u.password[:]...), both) && (u.strong || guessable) {
			p, ok = u.principal, true
		}
	}
	return p, ok
}

// credentials reads an Authorization header: Bearer gives the secret alone, Basic a user too.
func credentials(header string) (user, secret string, basic, ok bool) {
	scheme, rest, _ := strings.Cut(header, " ")
	rest = strings.TrimSpace(rest)
	switch strings.ToLower(scheme) {
	case "bearer":
		return "", rest, false, rest != ""
	case "basic":
		text, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(rest, "="))
		if err != nil {
			return "", "", true, false
		}
		user, secret, ok = strings.Cut(string(text), ":")
		return user, secret, true, ok && secret != ""
	}
	return "", "", false, false
}
