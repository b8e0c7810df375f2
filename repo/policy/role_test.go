package policy_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"packhouse/repo/keys"
	"packhouse/repo/policy"
)

// sample has a key of each kind.
var sample = []string{
	"", "other", "archives/x", "cache/x", "config", "config/x", "data/x", "index", "index/x", "index.gen", "keys/x", "locks/x", "manifest",
	"packs/ab/x", "pending_index/x", "sessions/x", "snapshots/x",
}

// TestRoles holds the tables of the roles: what differs from the row "" of each.
func TestRoles(t *testing.T) {
	const all = policy.All
	replaced := map[string]string{"cache/x": all, "config": "lrwW", "config/x": "lrwW", "index": all, "index/x": all, "locks/x": "lrwD"}
	vger := map[string]string{"": "lrw", "index": "lrwW", "index/x": "lrwW", "index.gen": "lrwW", "manifest": "lrwW", "locks/x": all, "sessions/x": all}
	for _, test := range []struct {
		dialect string
		role    policy.Role
		rows    []map[string]string // the last that has a key decides
	}{
		{"borgstore", policy.Backup, []map[string]string{{"": "lrw"}, replaced}},
		{"", policy.Backup, []map[string]string{{"": "lrw"}, replaced}},
		{"borgstore", policy.WriteOnly, []map[string]string{{"": "lw"}, replaced, {"keys/x": "lrw"}}},
		{"borgstore", policy.Read, []map[string]string{{"": "lr", "locks/x": "lrwD"}}},
		{"borgstore", policy.Maintain, []map[string]string{{"": "lrw"}, replaced, {"archives/x": "lrwD", "data/x": all, "packs/ab/x": all}}},
		{"borgstore", policy.Admin, []map[string]string{{"": all}}},
		{"vger", policy.Backup, []map[string]string{vger}},
		{"vger", policy.WriteOnly, []map[string]string{vger, {"packs/ab/x": "lw"}}},
		{"vger", policy.Read, []map[string]string{{"": "lr", "locks/x": all, "sessions/x": all}}},
		{"vger", policy.Maintain, []map[string]string{vger, {"packs/ab/x": "lrwD", "pending_index/x": all, "snapshots/x": "lrwD"}}},
		{"vger", policy.Admin, []map[string]string{{"": all}}},
		{"vger", "nonsense", []map[string]string{{"": ""}}},
		{"vger", "", []map[string]string{{"": ""}}},
	} {
		p := test.role.Permissions(test.dialect)
		for _, key := range sample {
			granted := test.rows[0][""]
			for _, rows := range test.rows {
				if letters, ok := rows[key]; ok {
					granted = letters
				}
			}
			for _, letter := range all {
				if got, want := p.Allows(key, string(letter)), strings.ContainsRune(granted, letter); got != want {
					t.Errorf("%s %q: %c on %q: got %v, want %v", test.dialect, test.role, letter, key, got, want)
				}
			}
		}
		deletes := test.role == policy.Maintain && test.dialect == "vger" || test.role == policy.Admin
		if p.AllowsBatchDelete() != deletes || p.AllowsReplacingFinal() != deletes {
			t.Errorf("%s %q: batches %v, final %v; want %v", test.dialect, test.role, p.AllowsBatchDelete(), p.AllowsReplacingFinal(), deletes)
		}
	}
}

// TestRolesGrow: each role grants what those before it grant, but for write-only and read, of which neither has the other.
func TestRolesGrow(t *testing.T) {
	for _, dialect := range []string{"borgstore", "vger"} {
		for less, more := range map[policy.Role]policy.Role{
			policy.WriteOnly: policy.Backup, policy.Read: policy.Backup, policy.Backup: policy.Maintain, policy.Maintain: policy.Admin,
		} {
			a, b := less.Permissions(dialect), more.Permissions(dialect)
			for _, key := range sample {
				for _, letter := range policy.All {
					if a.Allows(key, string(letter)) && !b.Allows(key, string(letter)) {
						t.Errorf("%s: %s grants %c on %q, and %s does not", dialect, less, letter, key, more)
					}
				}
			}
		}
	}
}

// TestOldNames: the tables that have other names, too, are those of the roles.
func TestOldNames(t *testing.T) {
	for _, dialect := range []string{"borgstore", "vger"} {
		if got, want := policy.AppendOnly(dialect), policy.Backup.Permissions(dialect); got != want {
			t.Errorf("%s: append-only is %s, want %s", dialect, got, want)
		}
	}
	for preset, role := range map[string]policy.Role{
		"borgbackup-all": policy.Admin, "borgbackup-read-only": policy.Read, "borgbackup-no-delete": policy.Backup,
		"borgbackup-write-only": policy.WriteOnly,
	} {
		p, err := policy.Parse(preset)
		if err != nil {
			t.Fatal(err)
		}
		// A role may also make a new repository.
		for _, row := range role.Permissions("borgstore").Rows() {
			for _, letter := range row.Letters {
				added := letter == 'w' && (row.Prefix == "" || row.Prefix == "config" || row.Prefix == "keys") && role != policy.Admin
				if !p.Allows(row.Prefix, string(letter)) && !added {
					t.Errorf("%s grants %c on %q, and %s does not", role, letter, row.Prefix, preset)
				}
			}
			if got := policy.Intersect(p, role.Permissions("borgstore")); got.String() != p.String() {
				t.Errorf("%s grants less than %s: %s", role, preset, got)
			}
		}
	}
}

func TestParseRole(t *testing.T) {
	for _, role := range policy.Roles() {
		if got, err := policy.ParseRole(string(role)); got != role || err != nil || role.Purpose() == "" {
			t.Errorf("%s: got %q, %v; purpose %q", role, got, err, role.Purpose())
		}
	}
	for _, name := range []string{"", "Backup", "borgbackup-all"} {
		if _, err := policy.ParseRole(name); !errors.Is(err, keys.ErrInvalid) || !strings.Contains(err.Error(), "maintain, admin") {
			t.Errorf("%q: got %v", name, err)
		}
	}
}

func TestRows(t *testing.T) {
	p, err := policy.Parse(`{"b": "lr", "": "l", "a": ""}`)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := p.Rows(), []policy.Row{{"", "l"}, {"a", ""}, {"b", "lr"}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	var everything *policy.Permissions
	if got := everything.Rows(); !slices.Equal(got, []policy.Row{{"", policy.All}}) {
		t.Errorf("no restriction: got %v", got)
	}
	if !everything.AllowsBatchDelete() || !everything.AllowsReplacingFinal() {
		t.Error("no restriction is one")
	}
}
