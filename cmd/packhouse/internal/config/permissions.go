package config

import (
	"fmt"
	"slices"
	"strings"

	"packhouse/repo/policy"
)

// shortNames are borg's own names of tables, without the prefix that they have in package policy.
var shortNames = []string{"all", "no-delete", "write-only", "read-only"}

// PermissionNames are the documented names of tables.
func PermissionNames() []string { return slices.Clone(shortNames) }

// ParsePermissions reads a table as policy.Parse does, and borg's own short names: all,
// no-delete, write-only and read-only. The error for another name suggests what was meant.
func ParsePermissions(text string) (*policy.Permissions, error) {
	if slices.Contains(shortNames, text) {
		text = "borgbackup-" + text
	}
	p, err := policy.Parse(text)
	if err == nil {
		return p, nil
	}
	if r, roleErr := policy.ParseRole(text); roleErr == nil {
		return nil, fmt.Errorf("%w; %q is a role, which is another setting", err, r)
	}
	if strings.HasPrefix(text, "{") {
		return nil, err
	}
	err = fmt.Errorf("permissions %q: expected a JSON object such as {\"\": \"lr\", \"locks\": \"lrwD\"} or one of %s", text, strings.Join(shortNames, ", "))
	if strings.Contains(strings.ToLower(text), "append") {
		return nil, fmt.Errorf("%w; append_only is a setting of its own", err)
	}
	return nil, suggest(err, text, slices.Concat(shortNames, policy.Names()))
}

// roleNames are those of policy.Roles.
func roleNames() []string {
	var names []string
	for _, r := range policy.Roles() {
		names = append(names, string(r))
	}
	return names
}

// ParseRole reads the name of a role. The error for another name suggests what was meant.
func ParseRole(text string) (policy.Role, error) {
	r, err := policy.ParseRole(text)
	if err == nil {
		return r, nil
	}
	if _, presetErr := ParsePermissions(text); presetErr == nil && text != "" {
		return "", fmt.Errorf("%w; %s is what permissions can be", err, describe(text))
	}
	return "", suggest(err, text, roleNames())
}

// suggest adds to an error what the text was probably meant to be.
func suggest(err error, text string, candidates []string) error {
	if near := Nearest(text, candidates); near != "" {
		return fmt.Errorf("%w; did you mean %q?", err, near)
	}
	return err
}

// Hints are about users that may do more than they probably need, one line each. They are no warnings: a server does not log
// them.
func (c *Config) Hints() []string {
	var hints []string
	for _, u := range c.Users {
		if u.Permissions == nil && u.Role == "" {
			hints = append(hints, fmt.Sprintf("user %q may do everything, also delete backups; role = %q is enough for a client that makes them, "+
				"and role = %q for one that also prunes and compacts", u.Name, policy.Backup, policy.Maintain))
		}
	}
	return hints
}
