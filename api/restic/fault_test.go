package restic_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"packhouse/api"
	"packhouse/api/apitest"
	"packhouse/api/restic"
	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/index"
	"packhouse/internal/sampling"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// named is the key of an object with these bytes.
func named(kind, content string) string {
	sum := sha256.Sum256([]byte(content))
	return kind + "/" + hex.EncodeToString(sum[:])
}

// faulty is a server of a data directory whose repository r may fail.
type faulty struct {
	t    *testing.T
	base string
	set  *datadir.Set
}

// newFaulty serves dir by a file system; nil: the operating system's.
func newFaulty(t *testing.T, dir string, small int64, fsys vfs.FS) *faulty {
	t.Helper()
	o := datadir.Options{
		Dir: dir, Environment: repo.Environment{FS: fsys, Small: small}, Settings: func(string) repo.Settings { return repo.Settings{Quota: -1} },
	}
	if failing, ok := fsys.(*vfstest.Failing); ok {
		o.Index.Database = vfstest.Bolt(t, failing)
	}
	set := datadir.Open(o)
	t.Cleanup(func() { _ = set.Close() })
	f := apitest.Start(t, api.Options{Set: set, Dialects: []api.Dialect{restic.New(restic.Options{})}})
	return &faulty{t, "http://" + f.Addr + "/r/", set}
}

// do sends a request and returns the status and the body.
func (f *faulty) do(method, target, body string) (int, string) {
	f.t.Helper()
	request, err := http.NewRequest(method, f.base+target, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	request.Header.Set("Accept", "application/vnd.x.restic.rest.v2")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		f.t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return response.StatusCode, string(answer)
}

func (f *faulty) want(status int, method, target, body string) string {
	f.t.Helper()
	got, answer := f.do(method, target, body)
	if got != status {
		f.t.Fatalf("%s %s: got %d %q, want %d", method, target, got, answer, status)
	}
	return answer
}

// contents reads everything that is listed, and the config.
func (f *faulty) contents() map[string]string {
	f.t.Helper()
	all := make(map[string]string)
	for _, kind := range []string{"data", "index", "keys", "locks", "snapshots"} {
		var list []struct {
			Name string
			Size int
		}
		if err := json.Unmarshal([]byte(f.want(200, "GET", kind+"/", "")), &list); err != nil {
			f.t.Fatal(err)
		}
		for _, entry := range list {
			key := kind + "/" + entry.Name
			if all[key] = f.want(200, "GET", key, ""); len(all[key]) != entry.Size {
				f.t.Errorf("%s is listed with %d bytes and has %d", key, entry.Size, len(all[key]))
			}
		}
	}
	if status, config := f.do("GET", "config", ""); status == 200 {
		all["config"] = config
	}
	return all
}

// change is one request that changes a repository, and what is in it then.
type change struct {
	name, method, key, body string
	after                   map[string]string
}

// failAt carries out the change in a fresh repository, where items of up to small bytes lie in the log, while the n-th call of the file system fails.
// It returns false when there were not so many.
func (c change) failAt(t *testing.T, small int64, before map[string]string, when vfstest.When, n int) (hit bool) {
	t.Helper()
	dir, status := t.TempDir(), 0
	t.Run(fmt.Sprint(n), func(t *testing.T) {
		failing := vfstest.NewFailing(vfs.OS())
		f := newFaulty(t, dir, small, failing)
		f.want(200, "POST", "?create=true", "")
		for key, content := range before {
			f.want(200, "POST", key, content)
		}
		failing.Reset()
		failing.FailAt(n, when, syscall.EIO)
		status, _ = f.do(c.method, c.key, c.body)
		hit = failing.Hit()
		for wait := 0; !hit && wait < 300 && c.method == "DELETE"; wait++ { // the file goes behind the answer
			time.Sleep(time.Millisecond)
			hit = failing.Hit()
		}
		failing.Reset()
		for _, kind := range []string{"data", "snapshots"} {
			// What is there is a listing, or no answer: never 404, and never less than what was there.
			status, list := f.do("GET", kind+"/", "")
			if status != 200 && status < 500 {
				t.Errorf("listing of %s after a disk error: %d", kind, status)
			}
			for key := range before {
				name, ok := strings.CutPrefix(key, kind+"/")
				if ok && key != c.key && status == 200 && !strings.Contains(list, name) {
					t.Errorf("the listing of %s after a disk error lacks %s: %s", kind, key, list)
				}
			}
		}
	})
	t.Run(fmt.Sprint(n, " again"), func(t *testing.T) {
		f := newFaulty(t, dir, small, nil)
		switch got := f.contents(); {
		case status < 300 && !maps.Equal(got, c.after):
			t.Errorf("answered with %d, but there is %q", status, got)
		case status >= 300 && status < 500:
			t.Errorf("a disk error was answered with %d", status)
		case !maps.Equal(got, before) && !maps.Equal(got, c.after):
			t.Errorf("half done: %q", got)
		}
		f.want(200, c.method, c.key, c.body)
		if got := f.contents(); !maps.Equal(got, c.after) {
			t.Errorf("asked again: there is %q, want %q", got, c.after)
		}
		r, err := f.set.Get(context.Background(), "r")
		if err != nil {
			t.Fatal(err)
		}
		if report, err := r.CheckIndex(context.Background()); err != nil || len(report.Problems) > 0 || report.Counted != report.Stored {
			t.Errorf("check: %+v, %v", report, err)
		}
	})
	return hit
}

// TestEveryFileCall: each call that a change makes of the file system fails once, before it took effect and after it. What was answered with 200 is
// there, what was not is there whole or not at all, also after a restart, and the client that asks again gets 200. No listing is 404. Each run tries a
// third of the calls.
func TestEveryFileCall(t *testing.T) {
	t.Parallel()
	pack, snapshot := named("data", "an old pack"), named("snapshots", "an old snapshot")
	before := map[string]string{pack: "an old pack", snapshot: "an old snapshot", named("keys", "key"): "key"}
	with := func(more map[string]string, gone ...string) map[string]string {
		all := maps.Clone(before)
		maps.Copy(all, more)
		for _, key := range gone {
			delete(all, key)
		}
		return all
	}
	added := named("data", "a new pack")
	for _, c := range []change{
		{"pack", "POST", added, "a new pack", with(map[string]string{added: "a new pack"})},
		{"again", "POST", pack, "an old pack", before},
		{"config", "POST", "config", "config", with(map[string]string{"config": "config"})},
		{"lock", "POST", named("locks", "lock"), "lock", with(map[string]string{named("locks", "lock"): "lock"})},
		{"delete", "DELETE", pack, "", with(nil, pack)},
		{"forget", "DELETE", snapshot, "", with(nil, snapshot)},
	} {
		for _, when := range []vfstest.When{vfstest.Before, vfstest.After} {
			for _, mode := range []struct {
				name  string
				small int64
				least int // calls for something new
			}{{"files", 0, 6}, {"log", index.MaxPayload, 2}} {
				t.Run(fmt.Sprintf("%s/%v/%s", c.name, when, mode.name), func(t *testing.T) {
					t.Parallel()
					n, share := 1, sampling.NewShare(t, 3)
					for !share.Takes() || c.failAt(t, mode.small, before, when, n) {
						n++
					}
					if calls := n - 1; c.method == "POST" && c.name != "again" && calls < mode.least {
						t.Errorf("only %d calls of the file system, want %d", calls, mode.least)
					}
				})
			}
		}
	}
}

// TestPowerLoss: what was answered with 200 is on the disk, what was deleted is not, when the power fails at once after it and all that was not synced is
// lost, or some of it.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	for seed := range sampling.Seeds(t, 12, 200) {
		dir, random := t.TempDir(), rand.New(rand.NewPCG(seed, 0))
		small := int64(random.IntN(2)) * index.MaxPayload
		acknowledged := make(map[string]string)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			lossy := vfstest.NewLossy(t, dir)
			f := newFaulty(t, dir, small, lossy)
			f.want(200, "POST", "?create=true", "")
			for n := range 1 + random.IntN(40) {
				kind := []string{"data", "data", "index", "keys", "locks", "snapshots"}[random.IntN(6)]
				content := strings.Repeat(fmt.Sprint(n, " of ", seed, "\n"), 1+random.IntN(2000))
				key := named(kind, content)
				if old := slices.Sorted(maps.Keys(acknowledged)); len(old) > 3 && random.IntN(4) == 0 {
					key = old[random.IntN(len(old))]
					if key == "config" && !slices.ContainsFunc(old, func(key string) bool { return strings.HasPrefix(key, "locks/") }) {
						continue // it is deleted under a lock only
					}
					f.want(200, "DELETE", key, "")
					delete(acknowledged, key)
					continue
				}
				if _, there := acknowledged["config"]; !there && random.IntN(8) == 0 {
					key = "config"
				}
				f.want(200, "POST", key, content)
				acknowledged[key] = content
			}
			kept := random
			if random.IntN(2) == 0 {
				kept = nil
			}
			if err := lossy.Crash(kept); err != nil {
				t.Fatal(err)
			}
		})
		t.Run(fmt.Sprint(seed, " again"), func(t *testing.T) {
			if got := newFaulty(t, dir, small, nil).contents(); !maps.Equal(got, acknowledged) {
				for key := range acknowledged {
					if got[key] != acknowledged[key] {
						t.Errorf("%s was acknowledged and has %d bytes, want %d", key, len(got[key]), len(acknowledged[key]))
					}
				}
				t.Errorf("there are %d objects, want %d", len(got), len(acknowledged))
			}
		})
	}
}
