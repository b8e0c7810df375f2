//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// serverOfRoles has a user of each role, whose name is that of the role and whose password is "secret".
func serverOfRoles(t *testing.T, roles ...string) *server {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	var config strings.Builder
	for _, role := range roles {
		fmt.Fprintf(&config, "[[user]]\nname = %q\nrole = %q\npassword_hash = %q\n", role, role, hash)
	}
	file := filepath.Join(t.TempDir(), "packhouse.toml")
	writeFile(t, file, config.String(), 0o600)
	return startServer(t, "--config", file)
}

// step is a command of a client, and whether it is to work.
type step struct {
	works bool
	args  []string
}

// steps runs commands, of which some are to be refused.
func steps(t *testing.T, program string, try func(args ...string) (string, int), all []step) {
	t.Helper()
	for _, s := range all {
		out, code := try(s.args...)
		if got := code == 0; got != s.works {
			t.Errorf("%s %s: worked %v (exit code %d), want %v\n%s", program, strings.Join(s.args, " "), got, code, s.works, lastLines(out, 15))
		}
	}
}

// TestBorgRoles holds each role to what real borg may and may not do with it, over HTTP, and over ssh with a forced command.
func TestBorgRoles(t *testing.T) {
	t.Parallel()
	const works, fails = true, false
	for _, role := range []struct {
		name                                                    string
		create, repoList, extract, check, tag, remove, destroys bool
	}{
		{"write-only", works, fails, fails, fails, fails, fails, fails},
		{"read", fails, works, works, fails, fails, fails, fails},
		{"backup", works, works, works, works, fails, fails, fails},
		{"maintain", works, works, works, works, works, works, fails},
		{"admin", works, works, works, works, works, works, works},
	} {
		all := func(tr *tree, archive, tagged string) []step {
			return []step{
				{works, []string{"repo-info"}},
				{role.create, []string{"create", "more", tr.dir}},
				{role.repoList, []string{"repo-list"}},
				{role.extract, []string{"extract", "--dry-run", "aid:" + archive}},
				{role.check, []string{"check"}},
				{role.tag, []string{"tag", "aid:" + tagged, "--set", "kept"}},
				{role.tag, []string{"rename", "more", "renamed"}},
				{role.remove, []string{"delete", "aid:" + archive}},
				{role.remove, []string{"undelete", "aid:" + archive}},
				{role.remove, []string{"recreate", "--exclude", "*.none", "aid:" + tagged}},
				{role.remove, []string{"prune", "--keep", "1"}},
				{role.remove, []string{"compact", "--threshold", "0"}},
				{role.check, []string{"check"}},
				{role.destroys, []string{"repo-delete"}},
			}
		}
		t.Run(role.name, func(t *testing.T) {
			t.Parallel()
			s := serverOfRoles(t, role.name)
			tr := newTree(t, 2, 40, 1<<20)
			b := newBorg(t, s.url("laptop"))
			archive := prepare(b, tr)
			other := b.archives()[1]
			own := b.with(fmt.Sprintf("BORG_REPO=http://%s:secret@%s/laptop", role.name, s.addr))
			steps(t, "borg", own.try, all(tr, archive, other))

			// A client whose cache is empty.
			uncached := newBorg(t, fmt.Sprintf("http://%s:secret@%s/laptop", role.name, s.addr))
			steps(t, "borg", uncached.try, []step{{role.create && !role.destroys, []string{"create", "without a cache", tr.dir}}})

			// A new repository, of which a client that may back up makes what it needs.
			run(t, nil, packhouse(), "repo", "create", "-d", s.data, "--dialect", "borgstore", "new")
			fresh := newBorg(t, fmt.Sprintf("http://%s:secret@%s/new", role.name, s.addr))
			steps(t, "borg", fresh.try, []step{
				{role.create, []string{"repo-create", "--encryption", "aes256-ocb"}},
				{role.create, []string{"create", "first", tr.dir}},
				{role.create, []string{"create", "second", tr.dir}},
			})
		})
		if role.name == "backup" || role.name == "maintain" {
			t.Run(role.name+"/ssh", func(t *testing.T) {
				t.Parallel()
				home := t.TempDir()
				b := overShell(t, home, "")
				tr := newTree(t, 2, 40, 1<<20)
				archive := prepare(b, tr)
				other := b.archives()[1]
				forced := "packhouse serve --rest --role " + role.name + " --restrict-to-repository " + filepath.Join(home, "repository")
				steps(t, "borg", b.with("BORG_RSH="+remoteShell(t, home, forced)).try, all(tr, archive, other))
			})
		}
	}
}
