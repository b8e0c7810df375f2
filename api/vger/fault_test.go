package vger_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
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
			sorted(append([]string{packKey(b2(packB))}, before...)), false}, // the source stays until the client has stored an index
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

// change is one request that changes a repository, and what is in it then.
type change struct {
	name, method, target, body string
	after                      map[string]string
	answer                     string // of the request that succeeds, also when it is asked again
}

// failAt carries out the change in a fresh repository, where items of up to small bytes lie in the log, while the n-th call of the file
// system fails. It returns false when there were not so many.
func (c change) failAt(t *testing.T, small int64, before map[string]string, when vfstest.When, n int) (hit bool) {
	t.Helper()
	dir, status := t.TempDir(), 0
	t.Run(fmt.Sprint(n), func(t *testing.T) {
		failing := vfstest.NewFailing(unsynced{vfs.OS()})
		s := newServer(t, func(o *setup) {
			o.set.Dir, o.set.FS, o.set.Small, o.set.Index.Database = dir, failing, small, vfstest.Bolt(t, failing)
		})
		for k, content := range before {
			s.put("/r/"+k, content)
		}
		failing.Reset()
		failing.FailAt(n, when, syscall.EIO)
		status = s.do(c.method, c.target, c.body).status
		hit = failing.Hit()
		// Files of what was deleted go behind the answer.
		for wait := 0; !hit && wait < 300 && (c.method == "DELETE" || c.method == "POST"); wait++ {
			time.Sleep(time.Millisecond)
			hit = failing.Hit()
		}
		failing.Reset()
	})
	t.Run(fmt.Sprint(n, " again"), func(t *testing.T) {
		s := newServer(t, func(o *setup) { o.set.Dir, o.set.Small = dir, small })
		switch got := s.contents(); {
		case status < 300 && !maps.Equal(got, c.after):
			t.Errorf("answered with %d, but there is %q", status, got)
		case status >= 300 && status < 500:
			t.Errorf("a disk error was answered with %d", status)
		case !maps.Equal(got, before) && !maps.Equal(got, c.after):
			t.Errorf("half done: %q", got)
		}
		if r := s.do(c.method, c.target, c.body); r.status >= 300 && r.status != 404 || r.body != c.answer {
			t.Errorf("asked again: got %d %q", r.status, r.body)
		}
		if got := s.contents(); !maps.Equal(got, c.after) {
			t.Errorf("asked again: there is %q, want %q", got, c.after)
		}
	})
	return hit
}

// contents reads everything.
func (s *server) contents() map[string]string {
	s.t.Helper()
	all := make(map[string]string)
	for _, k := range s.keys("/r?list") {
		all[k] = s.want(200, s.do("GET", "/r/"+k, "")).body
	}
	return all
}

// TestEveryFileCall: each call that a change makes of the file system fails once, before it took effect and after it. What was
// answered with success is there, what was not is there whole or not at all, also after a restart, and the
// client that asks again gets what it wanted.
func TestEveryFileCall(t *testing.T) {
	t.Parallel()
	key, other := packKey(b2(packS)), makePack("third", strings.Repeat("blob", 100))
	before := map[string]string{"config": "x", key: packS, packKey(b2(other)): other, "snapshots/a": "a", "snapshots/b": "b"}
	with := func(more map[string]string, gone ...string) map[string]string {
		all := maps.Clone(before)
		maps.Copy(all, more)
		for _, k := range gone {
			delete(all, k)
		}
		return all
	}
	for _, c := range []change{
		{"put", "PUT", "/r/keys/k", "new", with(map[string]string{"keys/k": "new"}), ""},
		{"overwrite", "PUT", "/r/snapshots/a", "new", with(map[string]string{"snapshots/a": "new"}), ""},
		{"pack", "PUT", "/r/" + packKey(b2(packA)), packA, with(map[string]string{packKey(b2(packA)): packA}), ""},
		{"delete", "DELETE", "/r/" + key, "", with(nil, key), ""},
		{"batch-delete", "POST", "/r?batch-delete&cleanup-dirs", quoted("snapshots/a", "snapshots/b", key), with(nil, "snapshots/a", "snapshots/b", key), ""},
		{"repack", "POST", "/r?repack", plan(operation(key, true, 19, 3), operation(packKey(b2(other)), true, 13, 5)),
			with(map[string]string{packKey(b2(packB)): packB, packKey(b2(makePack("third"))): makePack("third")}),
			fmt.Sprintf(`{"completed":[{"source_pack":%q,"new_pack":%q,"new_offsets":[13],"deleted":true},{"source_pack":%q,"new_pack":%q,"new_offsets":[13],"deleted":true}]}`,
				key, packKey(b2(packB)), packKey(b2(other)), packKey(b2(makePack("third"))))},
	} {
		for _, when := range []vfstest.When{vfstest.Before, vfstest.After} {
			for _, mode := range []struct {
				name  string
				small int64
				least int // calls for a put
			}{{"files", 0, 6}, {"log", index.MaxPayload, 2}} {
				t.Run(fmt.Sprintf("%s/%v/%s", c.name, when, mode.name), func(t *testing.T) {
					t.Parallel()
					n := 1
					for c.failAt(t, mode.small, before, when, n) {
						n++
					}
					if calls := n - 1; c.method == "PUT" && calls < mode.least {
						t.Errorf("only %d calls of the file system, want %d", calls, mode.least)
					}
				})
			}
		}
	}
}

// TestBatchDeleteWithoutCleanUp: items that are gone are told to be gone, also when the empty directories could not be removed
// after that.
func TestBatchDeleteWithoutCleanUp(t *testing.T) {
	t.Parallel()
	var armed atomic.Bool
	var commits atomic.Int64
	s := newServer(t, func(c *setup) {
		c.set.Index.BeforeCommit = func() error {
			if armed.Load() && commits.Add(1) > 1 {
				return errors.New("the disk is gone")
			}
			return nil
		}
	})
	s.put("/r/config", "x")
	s.put("/r/snapshots/a", "x")
	armed.Store(true)
	s.want(204, s.do("POST", "/r?batch-delete&cleanup-dirs", quoted("snapshots/a")))
	if commits.Load() < 2 {
		t.Error("nothing failed")
	}
	s.want(404, s.do("GET", "/r/snapshots/a", ""))
}
