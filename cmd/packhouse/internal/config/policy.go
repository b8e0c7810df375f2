package config

import (
	"encoding/json"
	"slices"

	"packhouse/repo/policy"
)

// TokenName is the name under which the holder of the server's token acts. No user has it.
const TokenName = "token"

// Grants are the permissions of a user in a repository: nothing when there is no such user, or it is not meant to use
// the repository at all; nil is everything.
func (c *Config) Grants(user, repository string) *policy.Permissions {
	for _, u := range c.Users {
		if u.Name == user && (len(u.Repositories) == 0 || slices.Contains(u.Repositories, repository)) {
			return u.Permissions
		}
	}
	return Nothing()
}

// Nothing grants nothing.
func Nothing() *policy.Permissions { return must(map[string]string{"": ""}) }

// Intersect grants what both a and b grant; nil grants everything.
//
// The prefix that decides for a key in the result is the longer of those that decide in a and in b. Below
// it neither has another, so that what each grants there is what it grants for the key.
func Intersect(a, b *policy.Permissions) *policy.Permissions {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	table := make(map[string]string)
	for _, p := range []*policy.Permissions{a, b} {
		var prefixes map[string]string
		if err := json.Unmarshal([]byte(p.String()), &prefixes); err != nil {
			return Nothing() // String is always JSON
		}
		for prefix := range prefixes {
			letters := ""
			for _, letter := range []string{"l", "r", "w", "W", "D"} {
				if a.Allows(prefix, letter) && b.Allows(prefix, letter) {
					letters += letter
				}
			}
			table[prefix] = letters
		}
	}
	return must(table)
}

// must makes permissions of a table whose prefixes and letters come from valid ones.
func must(table map[string]string) *policy.Permissions {
	p, err := policy.New(table)
	if err != nil {
		panic(err)
	}
	return p
}

// AppendOnly is what append_only leaves to clients of BorgStore: they add and replace what
// borg itself replaces, and delete nothing but locks, caches and superseded indexes.
func AppendOnly() *policy.Permissions {
	return must(map[string]string{
		"": "lrw", "archives": "lrw", "cache": "lrwWD", "config": "lrwW", "data": "lrw", "index": "lrwWD",
		"keys": "lrw", "locks": "lrwD", "packs": "lrw",
	})
}
