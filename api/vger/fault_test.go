package vger_test

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"packhouse/index"
)

// TestFailedCommits: every change of this protocol, with the commit failing before it took effect and after it,
// and a restart. The client gets 503 and asks again; then everything is there once, or gone once. In between all or nothing of it
// is true.
func TestFailedCommits(t *testing.T) {
	t.Parallel()
	key := packKey(b2(packS))
	before := []string{"config", key, "snapshots/a", "snapshots/b"}
	without := func(gone ...string) []string {
		return slices.DeleteFunc(slices.Clone(before), func(k string) bool { return slices.Contains(gone, k) })
	}
	json := []string{"Content-Type", "application/json"}
	for _, c := range []struct {
		name, method, target, body string
		headers                    []string
		again                      []int // statuses of the second request: when the first took no effect, when it did
		after                      []string
		locked                     bool
	}{
		{"put", "PUT", "/r/keys/k", "x", nil, []int{201, 204}, sorted(append([]string{"keys/k"}, before...)), false},
		{"pack", "PUT", "/r/" + packKey(b2(packA)), packA, nil, []int{201, 204}, sorted(append([]string{packKey(b2(packA))}, before...)), false},
		{"delete", "DELETE", "/r/snapshots/a", "", nil, []int{204, 404}, without("snapshots/a"), false},
		{"batch-delete", "POST", "/r?batch-delete", quoted("snapshots/a", "snapshots/b", key), nil, []int{204, 204}, []string{"config"}, false},
		{"lock", "POST", "/r/locks/repo-lock", holder("h", 1), json, []int{201, 201}, before, true},
		{"repack", "POST", "/r?repack", plan(operation(key, true, 19, 3)), nil, []int{200, 200},
			sorted(append([]string{packKey(b2(packB))}, without(key)...)), false},
	} {
		for i, kind := range []string{"before", "after"} {
			t.Run(c.name+" "+kind, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				var armed atomic.Bool
				fail := func() error {
					if armed.Load() {
						return errors.New("the disk is gone")
					}
					return nil
				}
				var o index.Options
				if kind == "before" {
					o.BeforeCommit = fail
				} else {
					o.AfterCommit = fail
				}
				t.Run("first", func(t *testing.T) {
					s := newServer(t, func(c *setup) { c.set.Dir, c.set.Index = dir, o })
					for _, k := range before {
						s.put("/r/"+k, map[bool]string{true: packS, false: "x"}[k == key])
					}
					armed.Store(true)
					s.want(503, s.do(c.method, c.target, c.body, c.headers...))
					armed.Store(false)
					s.want(503, s.do("PUT", "/r/index", "x")) // read-only until somebody has looked at the disk
					s.want(200, s.do("GET", "/r/config", ""))
				})
				t.Run("second", func(t *testing.T) {
					s := newServer(t, func(c *setup) { c.set.Dir = dir })
					want := before
					if kind == "after" {
						want = c.after
					}
					if got := s.keys("/r?list"); !slices.Equal(got, want) {
						t.Errorf("after the failure: got %q, want %q", got, want)
					}
					if held := len(s.ttlLocks()) > 0; held != (c.locked && kind == "after") {
						t.Errorf("after the failure: locked %v", held)
					}
					s.want(c.again[i], s.do(c.method, c.target, c.body, c.headers...))
					if got := s.keys("/r?list"); !slices.Equal(got, c.after) {
						t.Errorf("asked again: got %q, want %q", got, c.after)
					}
					if held := len(s.ttlLocks()) > 0; held != c.locked {
						t.Errorf("asked again: locked %v", held)
					}
				})
			})
		}
	}
}
