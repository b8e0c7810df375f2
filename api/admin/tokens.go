package admin

import (
	"net/http"
	"slices"
	"time"

	"packhouse/api/tokens"
	"packhouse/repo"
	"packhouse/repo/policy"
)

// Token is a token in the API. Its secret is only in the answer that creates it.
type Token struct {
	tokens.Token
	Expired bool `json:"expired,omitempty"`
	// LastUsed is up to five minutes before the last use; zero: not since UsesKnownSince, which is zero if nothing is known.
	LastUsed       time.Time `json:"last_used,omitzero"`
	UsesKnownSince time.Time `json:"uses_known_since,omitzero"`
	Secret         string    `json:"secret,omitempty"`
}

// NewToken is the body of a request for a token.
type NewToken struct {
	Name         string     `json:"name,omitempty"` // empty: made of a repository and the role
	Role         string     `json:"role"`
	Repositories []string   `json:"repositories"` // names, or tokens.All
	Expires      *time.Time `json:"expires,omitempty"`
}

// TokenList is the answer to a request for all tokens.
type TokenList struct {
	Tokens []Token `json:"tokens"`
}

func (q *request) listTokens(string) error {
	if q.h.o.Tokens == nil {
		return errNoPath
	}
	list := TokenList{Tokens: []Token{}}
	for _, t := range q.h.o.Tokens.List() {
		use := q.h.o.Tokens.Use(t)
		list.Tokens = append(list.Tokens, Token{Token: t, Expired: t.Expired(time.Now()), LastUsed: use.Last, UsesKnownSince: use.Since})
	}
	return q.reply(http.StatusOK, list)
}

func (q *request) createToken(string) error {
	if q.h.o.Tokens == nil {
		return errNoPath
	}
	var body NewToken
	if err := q.document(&body); err != nil {
		return err
	}
	q.log.Key = body.Name
	role, err := policy.ParseRole(body.Role)
	if err != nil {
		return err
	}
	if q.h.o.UserName != nil && q.h.o.UserName(body.Name) {
		return repo.Errorf(repo.ErrExists, "there is a user %q in the configuration: choose another name", body.Name)
	}
	if err := q.checkRepositories(body.Repositories); err != nil {
		return err
	}
	wanted := tokens.Token{Name: body.Name, Role: role, Repositories: body.Repositories, CreatedBy: q.principal.Name}
	if body.Expires != nil {
		wanted.Expires = *body.Expires
	}
	made, secret, err := q.h.o.Tokens.Create(wanted)
	if err != nil {
		return err
	}
	q.log.Key = made.Name
	q.w.Header().Set("Cache-Control", "no-store")
	return q.reply(http.StatusCreated, Token{Token: made, Secret: secret})
}

// checkRepositories tells whether there are repositories of these names, and whether the directory that they are in is the one
// that was opened.
func (q *request) checkRepositories(names []string) error {
	there, err := q.h.o.Set.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if name != tokens.All && !slices.Contains(there, name) {
			return repo.Errorf(repo.ErrNoRepository, "there is no repository %.128q: create it first, with packhouse repo create", name)
		}
	}
	return nil
}

func (q *request) revokeToken(name string) error {
	if q.h.o.Tokens == nil {
		return errNoPath
	}
	// Nothing is written into a directory that is not the one that was opened.
	if _, err := q.h.o.Set.Names(); err != nil {
		return err
	}
	revoked, err := q.h.o.Tokens.Revoke(name)
	if err != nil {
		return err
	}
	return q.reply(http.StatusOK, Token{Token: revoked, Expired: revoked.Expired(time.Now())})
}
