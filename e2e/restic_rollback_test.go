//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"testing"
)

// TestResticRollback: an attacker with the credentials of a client, and its password, adds snapshots, has the real ones forgotten and pruned, and then
// deletes all that is left. One rollback brings everything back, byte by byte, for the client that was there before and for one without a cache.
func TestResticRollback(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--grace", "7d")
	s.harmed = true
	r := resticOn(t, s, "laptop")
	tr, ids, want := resticTrees(t, r, 91, 3)
	to := moment()

	mallory := newRestic(t, r.program, s.url("laptop"))
	empty := newTree(t, 92, 1, 10)
	for range 3 {
		mallory.backup(empty)
	}
	mallory.run("forget", "--keep-last", "1", "--group-by", "", "--prune", "--max-unused", "0")
	raw := newResticHTTP(s, "laptop")
	all, err := raw.everything()
	if err != nil {
		t.Fatal(err)
	}
	for key := range all {
		if _, err := raw.do("DELETE", "/"+key, nil); err != nil {
			t.Error(err)
		}
	}
	lock := []byte("mine")
	for _, step := range []struct {
		method, target string
		body           []byte
	}{
		{"POST", "/locks/" + sha256Name(lock), lock}, {"DELETE", "/config", nil}, {"POST", "/config", []byte("mine")}, {"DELETE", "/locks/" + sha256Name(lock), nil},
	} {
		if _, err := raw.do(step.method, step.target, step.body); err != nil {
			t.Error(err)
		}
	}
	if out, code := r.try("snapshots"); code == 0 {
		t.Fatalf("the client does not notice the attack:\n%s", out)
	}
	done := s.rollBack(to)
	t.Logf("%s", done)
	if !strings.Contains(done, "Done.") || strings.Contains(done, "cannot be") {
		t.Errorf("rollback:\n%s", done)
	}
	for name, client := range map[string]*restic{"the client": r, "a client without a cache": newRestic(t, r.program, s.url("laptop"))} {
		if got := client.snapshots(); !slices.Equal(got, ids) {
			t.Errorf("%s: snapshots %v, want %v", name, got, ids)
		}
		client.sound(want)
	}
	tr.change(3, 4)
	id := r.backup(tr)
	r.run("forget", "--keep-last", "2", "--prune", "--max-unused", "0")
	r.sound(map[string]picture{id: look(t, tr.dir), ids[2]: want[ids[2]]})
	run(t, nil, packhouse(), "check", "--verify", "-d", s.data)
}

// TestResticGuard: the guard keeps what an attacker has had forgotten and pruned, although no grace time is set; or it refuses, and restic says so and
// goes on. What an honest client does to its snapshots works.
func TestResticGuard(t *testing.T) {
	t.Parallel()
	t.Run("keep", func(t *testing.T) {
		t.Parallel()
		s := startServer(t, "--min-age", "7d", "--keep-last", "3")
		s.harmed = true
		r := resticOn(t, s, "laptop")
		_, ids, want := resticTrees(t, r, 93, 3)
		r.run("tag", "--add", "kept", ids[0])
		delete(want, ids[0])
		to := moment()
		r.run("forget", "--keep-last", "1", "--prune", "--max-unused", "0")
		if left := r.snapshots(); len(left) != 1 {
			t.Fatalf("left are %v", left)
		}
		t.Logf("%s", s.rollBack(to))
		r.sound(want)
	})
	t.Run("refuse", func(t *testing.T) {
		t.Parallel()
		s := startServer(t, "--min-age", "1d", "--guard", "refuse")
		s.harmed = true
		r := resticOn(t, s, "laptop")
		_, ids, want := resticTrees(t, r, 94, 3)
		out, code := r.try("forget", "--keep-last", "1", "--prune", "--max-unused", "0")
		if code == 0 || !strings.Contains(out, "403") {
			t.Errorf("forget: exit code %d, want 3 and status 403\n%s", code, lastLines(out, 20))
		}
		r.run("prune", "--max-unused", "0")
		if left := r.snapshots(); !slices.Equal(left, ids) {
			t.Errorf("left are %v, want all of %v", left, ids)
		}
		r.sound(want)
		run(t, nil, packhouse(), "guard", "lift", "laptop", "--for", "1h", "-d", s.data)
		r.run("forget", "--keep-last", "1", "--prune", "--max-unused", "0")
		r.sound(map[string]picture{ids[2]: want[ids[2]]})
	})
}
