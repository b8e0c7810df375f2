package config_test

import (
	"strings"
	"testing"

	"packhouse/cmd/packhouse/internal/config"
	"packhouse/repo/policy"
)

// TestGrants: what a user may do is what both role and permissions grant, and the role's table is that of the dialect.
func TestGrants(t *testing.T) {
	const hash = "password_hash = '$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe'\n"
	c, err := config.Parse("f", []byte(`
[[user]]
name = "all"
`+hash+`
[[user]]
name = "role"
role = "backup"
repositories = ["a"]
`+hash+`
[[user]]
name = "both"
role = "backup"
permissions = { "" = "lr", sessions = "lrwD" }
`+hash), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		user, repository, dialect string
		want                      *policy.Permissions
	}{
		{"all", "a", "vger", nil},
		{"role", "a", "vger", policy.Backup.Permissions("vger")},
		{"role", "a", "borgstore", policy.Backup.Permissions("borgstore")},
		{"role", "b", "vger", policy.Nothing()},
		{"role", "", "vger", policy.Nothing()},
		{"nobody", "a", "vger", policy.Nothing()},
	} {
		if got := c.Grants(test.user, test.repository, test.dialect); got != test.want {
			t.Errorf("%+v: got %s, want %s", test, got, test.want)
		}
	}
	both := c.Grants("both", "a", "vger")
	for _, test := range []struct {
		key, letter string
		want        bool
	}{
		{"packs/x", "r", true}, {"packs/x", "w", false}, {"sessions/x", "D", true}, {"sessions/x", "W", false}, {"locks/x", "D", false},
	} {
		if got := both.Allows(test.key, test.letter); got != test.want {
			t.Errorf("both: %s on %s: got %v", test.letter, test.key, got)
		}
	}
	// A user of whom nothing is said may do everything, which is seldom meant.
	if hints := c.Hints(); len(hints) != 1 || !strings.Contains(hints[0], `user "all" may do everything`) {
		t.Errorf("hints: got %q", hints)
	}
}
