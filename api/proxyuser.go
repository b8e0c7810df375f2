package api

import (
	"net/http"
	"strings"
	"unicode"

	"packhouse/repo"
)

// maxUserName is the length of a user's name, in bytes.
const maxUserName = 128

// proxyUser returns the user that a trusted proxy names. ok is false if it names nobody. The error is a *loginError: a name that
// was refused does not become another login.
func (a *Auth) proxyUser(r *http.Request) (user repo.Principal, ok bool, err error) {
	names := r.Header.Values(a.proxied)
	if len(names) > 1 {
		// The first or the last may be the client's own.
		return user, false, forbidden("the request has the header %s %d times; the proxy must replace what its client sends", a.proxied, len(names))
	}
	if len(names) == 0 || strings.TrimSpace(names[0]) == "" {
		return user, false, nil
	}
	name := strings.TrimSpace(names[0])
	if len(name) > maxUserName || strings.ContainsFunc(name, func(c rune) bool { return c == ':' || c == unicode.ReplacementChar || !unicode.IsPrint(c) }) {
		return user, false, forbidden("the name in the header %s is not one of a user: %.100q", a.proxied, name)
	}
	for _, token := range a.tokens {
		if token.principal.Name == name {
			return user, false, forbidden("%q is the name of a token of this server, and of no user", name)
		}
	}
	if user, ok = a.named[name]; ok {
		return user, true, nil
	}
	if len(a.named) > 0 {
		return user, false, forbidden("the proxy names %.100q, who is no user of this server", name)
	}
	return repo.Principal{Name: name, ClientOnly: true}, true, nil
}
