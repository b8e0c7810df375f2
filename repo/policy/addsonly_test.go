package policy_test

import (
	"testing"

	"packhouse/repo/policy"
)

func TestAddsOnly(t *testing.T) {
	for _, dialect := range []string{"borgstore", "restic", "vger"} {
		for role, want := range map[policy.Role]bool{
			policy.Backup: true, policy.WriteOnly: true, policy.Read: false, policy.Maintain: false, policy.Admin: false,
		} {
			if got := policy.AddsOnly(role.Permissions(dialect)); got != want {
				t.Errorf("%s of %s: got %v", role, dialect, got)
			}
		}
	}
	for table, want := range map[string]bool{
		"":                      false,
		"{}":                    false,
		"borgbackup-no-delete":  true,
		"borgbackup-write-only": true,
		"borgbackup-read-only":  false,
		`{"": "lr", "packs": "lrw", "locks": "lrwD"}`: true,
		`{"": "lrwWD", "packs": "lrw"}`:               true,
		`{"": "lrw", "data": "lrwD"}`:                 false,
		`{"": "lrw", "packs": "lrw", "data": "lrwW"}`: false,
		`{"": "lrw"}`: true,
	} {
		p, err := policy.Parse(table)
		if err != nil {
			t.Fatal(err)
		}
		if got := policy.AddsOnly(p); got != want {
			t.Errorf("%s: got %v", table, got)
		}
	}
}
