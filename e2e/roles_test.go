//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

// issued creates a token for a repository of the server.
func (s *server) issued(repository, role string) (secret string) {
	s.t.Helper()
	cmd := exec.Command(packhouse(), "token", "create", "-d", s.data, "--repo", repository, "--role", role)
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("token create: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// TestVykarRoles is TestBorgRoles for vykar, with a token of each role.
func TestVykarRoles(t *testing.T) {
	t.Parallel()
	program := vykarProgram(t)
	const works, fails = true, false
	for _, role := range []struct {
		name                                            string
		backup, list, restore, check, removes, destroys bool
	}{
		{"write-only", works, works, fails, fails, fails, fails},
		{"read", fails, works, works, works, fails, fails},
		{"backup", works, works, works, works, fails, fails},
		{"maintain", works, works, works, works, works, fails},
		{"admin", works, works, works, works, works, works},
	} {
		t.Run(role.name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			tr := newTree(t, 2, 40, 4<<20)
			client := func(repository, secret string) *vykar {
				own := newVykar(t, program, fmt.Sprintf("%s://%s/%s", s.scheme, s.addr, repository), tr.dir)
				config := strings.TrimPrefix(own.env[0], "VYKAR_CONFIG=")
				text, err := os.ReadFile(config)
				if err != nil {
					t.Fatal(err)
				}
				writeFile(t, config, strings.Replace(string(text), token, secret, 1)+"retention: {keep_last: 1}\n", 0o600)
				return own
			}
			v := client("vault", token)
			v.run("init")
			v.run("backup")
			tr.change(0, 3)
			v.run("backup")
			run(t, nil, packhouse(), "repo", "create", "-d", s.data, "--dialect", "vger", "new")
			own, fresh := client("vault", s.issued("vault", role.name)), client("new", s.issued("new", role.name))
			steps(t, "vykar", own.try, []step{
				{role.list, []string{"list"}},
				{role.restore, []string{"restore", "latest", filepath.Join(t.TempDir(), "restored")}},
				{role.check, []string{"check"}},
				{role.backup, []string{"backup"}},
				{role.removes, []string{"prune"}},
			})
			v.run("prune") // so that there is something to compact
			tr.change(1, 3)
			v.run("backup")
			v.run("prune")
			steps(t, "vykar", own.try, []step{
				{role.removes, []string{"compact", "--threshold", "0"}},
				{role.check, []string{"check", "--verify-data"}},
				{role.destroys, []string{"delete", "--yes-delete-this-repo"}},
			})
			steps(t, "vykar", fresh.try, []step{{role.backup, []string{"init"}}, {role.backup, []string{"backup"}}, {role.backup, []string{"backup"}}})
		})
	}
}

// TestRevokedToken: a backup whose token is revoked while it runs ends, leaves nothing of it, and locks nobody out for good.
func TestRevokedToken(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	tr := newTree(t, 2, 200, 64<<20)
	b := newBorg(t, s.url("laptop"))
	b.run("repo-create", "--encryption", "aes256-ocb")
	b.run("create", "before", tr.dir)
	tr = newTree(t, 3, 200, 64<<20)
	secret := s.issued("laptop", "backup")
	own := b.with(fmt.Sprintf("BORG_REPO=http://anyone:%s@%s/laptop", secret, s.addr))
	own.run("repo-list")
	ended := make(chan int, 1)
	go func() {
		_, code := own.try("create", "during", tr.dir)
		ended <- code
	}()
	stored := func() (n int) {
		for _, r := range s.requests() {
			if r.Principal == "laptop-backup" && r.Operation == "store" && strings.HasPrefix(r.Key, "packs/") {
				n++
			}
		}
		return n
	}
	for deadline := time.Now().Add(time.Minute); stored() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the backup stores nothing")
		}
	}
	run(t, nil, packhouse(), "token", "revoke", "-d", s.data, "laptop-backup")
	if code := <-ended; code == 0 {
		t.Error("a backup was completed after its token was revoked")
	}
	if out, code := own.try("repo-list"); code == 0 {
		t.Errorf("a revoked token is accepted: %s", out)
	}
	b.run("break-lock")
	if got := len(b.archives()); got != 1 {
		t.Errorf("%d archives, want the one from before", got)
	}
	b.run("check")
	b.run("create", "after", tr.dir)
}
