//go:build e2e

package e2e

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// of is the client with the credentials of the user of a role.
func (r *restic) of(s *server, role, repository string) *restic {
	return r.with("RESTIC_REPOSITORY=rest:http://" + role + ":secret@" + s.addr + "/" + repository + "/")
}

// TestResticRoles holds each role to what restic may and may not do with it.
func TestResticRoles(t *testing.T) {
	t.Parallel()
	const works, fails = true, false
	for _, role := range []struct {
		name                                         string
		backup, reads, check, forget, rewrite, fresh bool
	}{
		{"write-only", works, fails, fails, fails, fails, works},
		{"read", fails, works, works, fails, fails, fails},
		{"backup", works, works, works, fails, fails, works},
		{"maintain", works, works, works, works, works, works},
		{"admin", works, works, works, works, works, works},
	} {
		t.Run(role.name, func(t *testing.T) {
			t.Parallel()
			program := newestRestic(t)
			s := serverOfRoles(t, role.name)
			c := newResticHTTP(s, "laptop")
			c.initialize(t)
			r := newRestic(t, program, s.url("laptop"))
			tr, ids, want := resticTrees(t, r, 84, 3)
			own := newRestic(t, program, "").of(s, role.name, "laptop")
			backup := []string{"backup", tr.dir}
			if !role.reads {
				backup = append(backup, "--force") // it cannot read what a snapshot before has
			}
			steps(t, "restic", own.try, []step{
				{works, []string{"cat", "config"}},
				{works, []string{"snapshots"}},
				{role.backup, backup},
				{role.reads, []string{"restore", ids[0], "--target", t.TempDir()}},
				{role.reads, []string{"--no-lock", "restore", ids[0], "--target", t.TempDir()}},
				{role.reads, []string{"--no-lock", "--no-cache", "restore", ids[1], "--target", t.TempDir()}},
				{role.reads, []string{"ls", ids[1]}},
				{role.check, []string{"check", "--read-data"}},
			})
			if left := r.snapshots(); len(left) != 3 && !role.backup || len(left) != 4 && role.backup {
				t.Errorf("after a backup: snapshots %v", left)
			}
			own.try("tag", "--add", "x", ids[2]) // says 0 also when it is refused
			if got := !slices.Contains(r.snapshots(), ids[2]); got != role.rewrite {
				t.Errorf("tag has replaced the snapshot: %v, want %v", got, role.rewrite)
			}
			steps(t, "restic", own.try, []step{
				{role.rewrite, []string{"rewrite", "--forget", "--new-host", "another", ids[1]}},
				{role.forget, []string{"forget", ids[0]}},
			})
			if !role.forget {
				for _, id := range ids {
					r.restored(id, want[id])
				}
				r.run("forget", ids[0]) // so that there is something to prune
			}
			before, err := c.everything()
			if err != nil {
				t.Fatal(err)
			}
			out, code := own.try("prune", "--max-unused", "0")
			if role.forget && code != 0 {
				t.Errorf("prune: exit code %d\n%s", code, lastLines(out, 20))
			}
			after, err := c.everything()
			if err != nil {
				t.Fatal(err)
			}
			gone := 0
			for key := range before {
				if _, there := after[key]; !there && !strings.HasPrefix(key, "locks/") {
					gone++
				}
			}
			if (gone > 0) != role.forget {
				t.Errorf("prune has removed %d objects\n%s", gone, lastLines(out, 20))
			}
			steps(t, "restic", own.try, []step{{works, []string{"unlock", "--remove-all"}}})
			steps(t, "restic", r.try, []step{{works, []string{"check", "--read-data"}}})
			if role.forget {
				return // TestRestic has it
			}
			fresh := newRestic(t, program, "").of(s, role.name, "fresh")
			steps(t, "restic", fresh.try, []step{{role.fresh, []string{"init"}}, {role.fresh, []string{"backup", tr.dir}}})
		})
	}
}

// TestResticMaintained: a client may only add, and another user forgets and prunes beside it. The old snapshots of the client go, its work is not held
// up, and it cannot have undone or hastened any of it.
func TestResticMaintained(t *testing.T) {
	t.Parallel()
	s := serverOfRoles(t, "backup", "maintain")
	program := newestRestic(t)
	newResticHTTP(s, "alice/laptop").initialize(t)
	client := newRestic(t, program, "").of(s, "backup", "alice/laptop")
	maintainer := newRestic(t, program, "").of(s, "maintain", "alice/laptop")
	tr, ids, want := resticTrees(t, client, 85, 4)
	if out, code := client.try("forget", "--keep-last", "1", "--prune", "--max-unused", "0"); code == 0 {
		t.Errorf("a client that may only add forgets: exit code 0\n%s", lastLines(out, 20))
	}
	client.sound(want)
	type result struct {
		out  string
		code int
	}
	maintained := make(chan result, 1)
	go func() {
		out, code := maintainer.try("forget", "--retry-lock", "1m", "--keep-last", "2", "--prune", "--max-unused", "0")
		maintained <- result{out, code}
	}()
	tr.change(1, 3)
	id := client.backup(tr, "--retry-lock", "1m")
	if m := <-maintained; m.code != 0 {
		t.Errorf("forget --prune of the maintainer: exit code %d\n%s", m.code, lastLines(m.out, 20))
	}
	left := maintainer.snapshots()
	if slices.Contains(left, ids[0]) || !slices.Contains(left, id) || !slices.Contains(left, ids[3]) {
		t.Errorf("left are %v, of %v and %s", left, ids, id)
	}
	client.sound(map[string]picture{id: look(t, tr.dir), ids[3]: want[ids[3]]})
	maintainer.run("check", "--read-data")
	if got := s.info("alice/laptop").Usage.LastBackup; got.IsZero() {
		t.Error("no backup is known")
	}
}

// TestResticAppendOnly: each command that would remove something ends as it does with rest-server's --append-only, and what it would have removed stays.
// Source: restic-rest 3.4.
func TestResticAppendOnly(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--append-only")
	r := resticOn(t, s, "laptop")
	_, ids, want := resticTrees(t, r, 97, 2)
	second := filepath.Join(t.TempDir(), "second")
	writeFile(t, second, "second\n", 0o600)
	for _, c := range []struct {
		args string
		code int
	}{
		{"ls " + ids[0], 0},
		{"check --read-data", 0},
		{"unlock", 0},
		{"forget " + ids[0], 3},
		{"prune", 0}, // has nothing to do
		{"tag --add x " + ids[0], 0},
		{"rewrite --forget --new-host another " + ids[1], 1},
		{"repair snapshots --forget", 0},
		{"check --read-data", 0},
		// Last, as each command tries the keys one by one.
		{"key passwd --new-password-file " + second, 1},
		{"key add --new-password-file " + second, 0},
	} {
		if out, code := r.try(strings.Fields(c.args)...); code != c.code {
			t.Errorf("%s: exit code %d, want %d\n%s", c.args, code, c.code, lastLines(out, 20))
		}
	}
	other := newRestic(t, r.program, s.url("laptop"), "RESTIC_PASSWORD=second")
	other.restored(ids[0], want[ids[0]])
	r.restored(ids[1], want[ids[1]]) // with the old password
}

// TestResticRefused: a client with a wrong password, and one for whom a repository is not there, are told at once.
func TestResticRefused(t *testing.T) {
	t.Parallel()
	s := serverOfRoles(t, "backup")
	program := newestRestic(t)
	newResticHTTP(s, "laptop").initialize(t)
	for url, code := range map[string]int{
		"http://backup:wrong@" + s.addr + "/laptop":      1,
		"http://nobody:secret@" + s.addr + "/laptop":     1,
		"http://" + s.addr + "/laptop":                   1,
		"http://backup:secret@" + s.addr + "/another":    10,
		"http://backup:secret@" + s.addr + "/laptop/sub": 10,
		"http://backup:secret@" + s.addr + "/a/b/c":      10,
	} {
		before := len(s.requests())
		if out, got := newRestic(t, program, url).try("snapshots"); got != code {
			t.Errorf("%s: exit code %d, want %d\n%s", url, got, code, out)
		}
		if n := len(s.requests()) - before; n > 2 {
			t.Errorf("%s: %d requests, want none to be repeated", url, n)
		}
	}
}

// TestResticMigrate: the config of a repository is replaced by an administrator alone. Who may not keeps the repository usable when the command fails.
func TestResticMigrate(t *testing.T) {
	t.Parallel()
	s := serverOfRoles(t, "backup", "admin")
	client := newRestic(t, newestRestic(t), "").of(s, "backup", "laptop")
	admin := client.of(s, "admin", "laptop")
	client.run("init", "--repository-version", "1")
	tr := newTree(t, 98, 10, 1<<20)
	id := client.backup(tr)
	want := map[string]picture{id: look(t, tr.dir)}
	version := func() string { return strings.Join(strings.Fields(client.run("cat", "config")), "") }
	if out, code := client.try("migrate", "upgrade_repo_v2"); code == 0 || !strings.Contains(version(), `"version":1`) {
		t.Errorf("migrate of who may not: exit code %d, then %s\n%s", code, version(), lastLines(out, 20))
	}
	admin.run("migrate", "upgrade_repo_v2")
	if !strings.Contains(version(), `"version":2`) {
		t.Errorf("after migrate: %s", version())
	}
	client.sound(want)
}
