package config

import (
	"slices"
	"strings"

	"packhouse/repo/policy"
)

// TokenName is the name under which the holder of the server's token acts. No user has it.
const TokenName = "token"

// HasUser tells whether there is a user of that name.
func (c *Config) HasUser(name string) bool {
	return slices.ContainsFunc(c.Users, func(u User) bool { return u.Name == name })
}

// RoleOf is the role of a user; empty: it has none, or there is no such user.
func (c *Config) RoleOf(user string) policy.Role {
	for _, u := range c.Users {
		if u.Name == user {
			return u.Role
		}
	}
	return ""
}

// Owns tells whether a repository is a user's own: it has the user's name, or begins with that and a slash.
func Owns(user, repository string) bool {
	first, _, _ := strings.Cut(repository, "/")
	return user != "" && first == user
}

// mayUse tells whether a repository is one of those that a user is for; "" is the server as a whole.
func (c *Config) mayUse(u User, repository string) bool {
	if len(u.Repositories) > 0 {
		return slices.Contains(u.Repositories, repository)
	}
	return !c.PrivateRepositories || Owns(u.Name, repository)
}

// Grants are the permissions of a user in a repository whose clients are of dialect: nothing when there is no such user, or it
// is not meant to use the repository at all; nil is everything.
func (c *Config) Grants(user, repository, dialect string) *policy.Permissions {
	for _, u := range c.Users {
		switch {
		case u.Name != user || !c.mayUse(u, repository):
		case u.Role != "":
			return policy.Intersect(u.Permissions, u.Role.Permissions(dialect))
		default:
			return u.Permissions
		}
	}
	return policy.Nothing()
}
