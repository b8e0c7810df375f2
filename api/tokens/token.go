package tokens

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/layout"
	"packhouse/repo/policy"
)

// All stands for all repositories in Token.Repositories, also those that are created later. No repository has this name.
const All = "*"

// Token is what is known of a token, without its secret.
type Token struct {
	ID           string      `json:"id"`
	Name         string      `json:"name"` // of the principal
	Role         policy.Role `json:"role"`
	Repositories []string    `json:"repositories"` // names, or All alone; not empty
	Created      time.Time   `json:"created"`
	Expires      time.Time   `json:"expires,omitzero"`     // zero: never
	CreatedBy    string      `json:"created_by,omitempty"` // the principal that asked for it
}

// Expired tells whether the token's time is over.
func (t *Token) Expired(now time.Time) bool { return !t.Expires.IsZero() && !now.Before(t.Expires) }

// Permissions are what the holder of the token may do in a repository whose clients are of dialect. "" is the server as a
// whole, which only a token for all repositories is for.
func (t *Token) Permissions(repository, dialect string) *policy.Permissions {
	if t.Repositories[0] != All && !slices.Contains(t.Repositories, repository) {
		return policy.Nothing()
	}
	return t.Role.Permissions(dialect)
}

// maxName is the longest name of a token.
const maxName = 64

// reserved are names of principals that are no clients with a token.
var reserved = []string{"token", "local", "anonymous", "maintenance"}

// check returns what is wrong with a token that is to be issued.
func (t *Token) check(now time.Time) error {
	if err := errors.Join(t.checkRole(), t.checkRepositories()); err != nil {
		return err
	}
	switch {
	case len(t.Name) > maxName || strings.HasPrefix(t.Name, "-") || !plain(t.Name):
		return repo.Errorf(repo.ErrInvalid, "the name of a token has 1 to %d letters, digits, '.', '_' and '-', and does not begin with '.' or '-': %q", maxName, shorten(t.Name))
	case slices.Contains(reserved, t.Name):
		return repo.Errorf(repo.ErrInvalid, "%q is the name of a principal of the server; choose another name", t.Name)
	case t.Expired(now):
		return repo.Errorf(repo.ErrInvalid, "the token would have expired at %s already", t.Expires.Format(time.RFC3339))
	}
	return nil
}

// plain tells whether a name is that of a repository, and one that needs no escape in a path or a file.
func plain(name string) bool { return datadir.CheckName(name) == nil && layout.DirName(name) == name }

func (t *Token) checkRole() error {
	_, err := policy.ParseRole(string(t.Role))
	return err
}

// maxRepositories is how many repositories a token can name.
const maxRepositories = 1000

func (t *Token) checkRepositories() error {
	switch {
	case len(t.Repositories) == 0:
		return repo.Errorf(repo.ErrInvalid, "the token needs the names of repositories, or %q for all", All)
	case len(t.Repositories) > maxRepositories:
		return repo.Errorf(repo.ErrInvalid, "a token can name %d repositories at most; use %q for all", maxRepositories, All)
	case t.Repositories[0] == All && len(t.Repositories) == 1:
		return nil
	}
	for i, name := range t.Repositories {
		if err := datadir.CheckName(name); err != nil {
			return err
		}
		if slices.Contains(t.Repositories[:i], name) {
			return repo.Errorf(repo.ErrInvalid, "repository %q is named twice", name)
		}
	}
	return nil
}

// shorten bounds what an error repeats of a request.
func shorten(text string) string { return fmt.Sprintf("%.100s", text) }
