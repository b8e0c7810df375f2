package vger_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"packhouse/api"
	"packhouse/api/vger"
	"packhouse/compact"
	"packhouse/repo"
	"packhouse/repo/policy"
)

// A compaction has two halves: the plan, and the index that its client stores afterwards. These tests are of the
// server's rules, one by one; package vykartest draws whole lives of clients.

// host is a client behind an address of its own.
type host struct {
	*server
	address string
}

func (h host) do(method, target, body string, headers ...string) reply {
	h.t.Helper()
	return h.server.do(method, target, body, append(headers, "X-Forwarded-For", h.address)...)
}

func (h host) put(target, body string) {
	h.t.Helper()
	if r := h.do("PUT", target, body); r.status != 201 && r.status != 204 {
		h.t.Fatalf("PUT %s: got %d %q", target, r.status, r.body)
	}
}

func (h host) get(target string) { h.t.Helper(); h.want(200, h.do("GET", target, "")) }

func (h host) delete(target string) { h.t.Helper(); h.want(204, h.do("DELETE", target, "")) }

func (h host) repackAs(text string) { h.t.Helper(); h.want(200, h.do("POST", "/r?repack", text)) }

// compaction is a repository with a pack, two clients, and a time of its own that can pass.
type compaction struct {
	*server
	a, b   host
	key    string        // of packS
	passed *atomic.Int64 // nanoseconds
}

func (c *compaction) pass(d time.Duration) { c.passed.Add(int64(d)) }

func newCompaction(t *testing.T, change func(*setup)) *compaction {
	t.Helper()
	c := &compaction{passed: new(atomic.Int64)}
	c.server = newServer(t, func(o *setup) {
		o.set.Now = func() time.Time { return time.Now().Add(time.Duration(c.passed.Load())) }
		if change != nil {
			change(o)
		}
	})
	c.a, c.b = host{c.server, "192.0.2.1"}, host{c.server, "192.0.2.2"}
	c.a.put("/r/index", "1")
	c.key = c.putPack("/r", packS)
	c.a.get("/r/index")
	return c
}

func (c *compaction) listed(key string) bool { return slices.Contains(c.keys("/r/packs/?list"), key) }

func (c *compaction) usage() repo.Usage { return c.repository("r").Repository().Usage() }

const lockA, lockB = "/r/locks/00000000000000000001-a.json", "/r/locks/00000000000000000002-b.json"

// TestProof: the sources of a plan go with the index that proves that its client has the answer, and with no other.
func TestProof(t *testing.T) {
	t.Parallel()
	half := plan(operation(packKey(b2(packS)), true, 19, 3))
	other := makePack("another", "one")
	next := plan(operation(packKey(b2(other)), true, 13, 7))
	ttl := `{"hostname":"h","pid":1}`
	const json = "application/json"
	for _, tt := range []struct {
		name string
		run  func(c *compaction)
		gone bool
	}{
		{"the usual run", func(c *compaction) {
			c.a.put(lockA, "{}")
			c.a.repackAs(half)
			c.a.put("/r/index", "2")
		}, true},
		{"a refreshed lock", func(c *compaction) {
			c.a.put(lockA, "{}")
			c.a.repackAs(half)
			c.a.put(lockA, "{later}")
			c.a.put("/r/index", "2")
		}, true},
		{"sessions and other objects of others", func(c *compaction) {
			c.a.put(lockA, "{}")
			c.a.repackAs(half)
			c.b.put("/r/sessions/b.json", "{}")
			c.b.put("/r/index.gen", "2")
			c.a.put("/r/index", "2")
		}, true},
		{"the answer asked for again", func(c *compaction) {
			c.a.put(lockA, "{}")
			c.a.repackAs(half)
			c.a.repackAs(half)
			c.a.put("/r/index", "2")
		}, true},
		{"a plan without outputs before it", func(c *compaction) {
			c.a.put(lockA, "{}")
			c.a.repackAs(plan(operation(c.putPack("/r", packA), true)))
			c.a.repackAs(half)
			c.a.put("/r/index", "2")
		}, true},
		{"a plan after it", func(c *compaction) {
			c.putPack("/r", other)
			c.a.put(lockA, "{}")
			c.a.repackAs(half)
			c.a.repackAs(next)
			c.a.put("/r/index", "2")
		}, true},
		{"a plan after it that was refused", func(c *compaction) {
			c.a.put(lockA, "{}")
			c.a.repackAs(half)
			c.want(409, c.a.do("POST", "/r?repack", next)) // no such pack
			c.a.put("/r/index", "2")
		}, true},
		{"a TTL lock", func(c *compaction) {
			c.want(201, c.a.do("POST", "/r/locks/repo-lock", ttl, "Content-Type", json))
			c.a.repackAs(half)
			c.a.put("/r/manifest", "2")
			c.a.put("/r/index", "2")
		}, true},

		{"nothing but what comes with an index", func(c *compaction) {
			c.a.put(lockA, "{}")
			c.a.repackAs(half)
			for _, key := range []string{"index.gen", "manifest", "pending_index", "sessions/x.json", "snapshots/x"} {
				c.a.put("/r/"+key, "2")
			}
		}, false},
		{"the index that is there", func(c *compaction) {
			c.a.put(lockA, "{}")
			c.a.repackAs(half)
			c.a.put("/r/index", "1")
		}, false},
		{"no lock", func(c *compaction) {
			c.a.repackAs(half)
			c.a.put("/r/index", "2")
		}, false},
		{"the index of another client", func(c *compaction) {
			c.a.put(lockA, "{}")
			c.a.repackAs(half)
			c.b.put("/r/index", "2")
		}, false},
		{"after the index of another client", func(c *compaction) {
			c.a.put(lockA, "{}")
			c.a.repackAs(half)
			c.b.put("/r/index", "2")
			c.a.put("/r/index", "3")
		}, false},
		{"after a lock of another client", func(c *compaction) {
			c.a.put(lockA, "{}")
			c.a.repackAs(half)
			c.b.put(lockB, "{}")
			c.b.delete(lockB)
			c.a.put("/r/index", "2")
		}, false},
		{"a lock that another client has removed", func(c *compaction) {
			c.a.put(lockA, "{}")
			c.a.repackAs(half)
			c.b.delete(lockA)
			c.a.put("/r/index", "2")
		}, false},
		{"a lock of the same name", func(c *compaction) {
			c.a.put(lockA, "{}")
			c.a.repackAs(half)
			c.a.delete(lockA)
			c.a.put(lockA, "{}")
			c.a.put("/r/index", "2")
		}, false},
		{"a lock of the same name, removed in a batch", func(c *compaction) {
			c.a.put(lockA, "{}")
			c.a.repackAs(half)
			c.want(204, c.a.do("POST", "/r?batch-delete", quoted(strings.TrimPrefix(lockA, "/r/"))))
			c.a.put(lockA, "{}")
			c.a.put("/r/index", "2")
		}, false},
		{"a TTL lock taken again by the same holder", func(c *compaction) {
			c.want(201, c.a.do("POST", "/r/locks/repo-lock", ttl, "Content-Type", json))
			c.a.repackAs(half)
			c.want(201, c.a.do("POST", "/r/locks/repo-lock", ttl, "Content-Type", json))
			c.a.put("/r/index", "2")
		}, false},
		{"a TTL lock that has ended", func(c *compaction) {
			c.want(201, c.a.do("POST", "/r/locks/repo-lock", ttl, "Content-Type", json))
			c.a.repackAs(half)
			c.pass(2 * time.Hour)
			c.a.put("/r/index", "2")
		}, false},
		{"a plan before it, whose answer may be the one that arrived", func(c *compaction) {
			c.putPack("/r", other)
			c.a.put(lockA, "{}")
			c.a.repackAs(next)
			c.a.repackAs(half)
			c.a.put("/r/index", "2")
		}, false},
		{"a plan of another client under the same lock", func(c *compaction) {
			c.putPack("/r", other)
			c.a.put(lockA, "{}")
			c.a.repackAs(half)
			c.b.repackAs(next)
			c.a.put("/r/index", "2")
		}, false},
		{"an answer that was given to another client", func(c *compaction) {
			c.a.put(lockA, "{}")
			c.a.repackAs(half)
			c.b.repackAs(half)
			c.a.put("/r/index", "2")
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCompaction(t, nil)
			tt.run(c)
			if !c.listed(packKey(b2(packB))) {
				t.Error("the output is not listed")
			}
			u := c.usage()
			if c.listed(c.key) == tt.gone {
				t.Errorf("the source is listed: %v, want %v; %+v", !tt.gone, tt.gone, u.Counters)
			}
			size := int64(len(packS))
			if tt.gone && u.KeptBytes < size || !tt.gone && u.OpenBytes < size {
				t.Errorf("counters: %+v", u.Counters)
			}
			for _, key := range []string{c.key, packKey(b2(packB))} { // whatever index the client has
				c.a.get("/r/" + key)
			}
		})
	}
}

// TestProofOverRestart: what was known of an answer is forgotten, so that both sides stay; the stored result is given
// under the same lock.
func TestProofOverRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	half := plan(operation(packKey(b2(packS)), true, 19, 3))
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprintf("again %v", again), func(t *testing.T) {
			at := dir + fmt.Sprint(again)
			t.Run("first", func(t *testing.T) {
				c := newCompaction(t, func(o *setup) { o.set.Dir = at })
				c.a.put(lockA, "{}")
				c.a.repackAs(half)
			})
			t.Run("second", func(t *testing.T) {
				s := newServer(t, func(o *setup) { o.set.Dir = at })
				a := host{s, "192.0.2.1"}
				if again {
					a.repackAs(half)
				}
				a.put("/r/index", "2")
				if got := s.keys("/r/packs/?list"); len(got) != 2 {
					t.Errorf("listed: %q, want both sides", got)
				}
				// The next run finds the sources unused.
				a.get("/r/index")
				a.repackAs(plan(operation(packKey(b2(packS)), true)))
				if got := s.keys("/r/packs/?list"); !slices.Equal(got, []string{packKey(b2(packB))}) {
					t.Errorf("listed: %q, want the output alone", got)
				}
			})
		})
	}
}

// TestProofNeedsTheAnswer: a client that gave up before its answer has shown nothing.
func TestProofNeedsTheAnswer(t *testing.T) {
	t.Parallel()
	engine := compact.New(compact.Options{Rate: 1 << 20})
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	c := newCompaction(t, func(o *setup) { o.dialect.Engine = engine })
	big := makePack(strings.Repeat("x", 3<<20), "y")
	key := c.putPack("/r", big)
	c.a.put(lockA, "{}")
	impatient := host{&server{t: t, set: c.set, base: c.base, http: &http.Client{Timeout: 50 * time.Millisecond}}, c.a.address}
	text := plan(operation(key, true, 13, 3<<20))
	if r, err := impatient.try("POST", "/r?repack", strings.NewReader(text), int64(len(text)), "X-Forwarded-For", c.a.address); err == nil {
		t.Fatalf("answered in time: %d", r.status)
	}
	for c.usage().Plans == 0 {
		time.Sleep(time.Millisecond)
	}
	c.a.put("/r/index", "2")
	if !c.listed(key) {
		t.Error("the source is gone, though nobody has the answer")
	}
}

// TestUnused: what a client calls unused goes at once, unless it may have come into use.
func TestUnused(t *testing.T) {
	t.Parallel()
	unused := plan(operation(packKey(b2(packA)), true))
	for _, tt := range []struct {
		name string
		run  func(c *compaction) (by host)
		gone bool
	}{
		{"the usual run", func(c *compaction) host {
			c.putPack("/r", packA)
			c.a.get("/r/index")
			return c.a
		}, true},
		{"a read of index.gen", func(c *compaction) host {
			c.putPack("/r", packA)
			c.a.put("/r/index.gen", "1")
			c.a.get("/r/index.gen")
			return c.a
		}, true},
		{"an index of its own since", func(c *compaction) host {
			c.putPack("/r", packA)
			c.a.get("/r/index")
			c.a.put("/r/index", "2")
			return c.a
		}, true},
		{"stored since", func(c *compaction) host {
			c.putPack("/r", packA)
			return c.a
		}, false},
		{"stored again since", func(c *compaction) host {
			c.putPack("/r", packA)
			c.a.get("/r/index")
			c.putPack("/r", packA)
			return c.a
		}, false},
		{"made since", func(c *compaction) host {
			c.a.repackAs(plan(operation(c.key, true, 13, 2)))
			return c.a
		}, false},
		{"found since", func(c *compaction) host {
			c.putPack("/r", packA)
			c.a.get("/r/index")
			c.a.repackAs(plan(operation(c.key, true, 13, 2)))
			return c.a
		}, false},
		{"an index of another client since", func(c *compaction) host {
			c.putPack("/r", packA)
			c.a.get("/r/index")
			c.b.put("/r/index", "2")
			return c.a
		}, false},
		{"an index of another client, and one of its own, since", func(c *compaction) host {
			c.putPack("/r", packA)
			c.a.get("/r/index")
			c.b.put("/r/index", "2")
			c.a.put("/r/index", "3")
			return c.a
		}, false},
		{"a part of the index", func(c *compaction) host {
			c.a.put("/r/index", "12345")
			c.putPack("/r", packA)
			c.want(206, c.a.do("GET", "/r/index", "", "Range", "bytes=0-2"))
			return c.a
		}, false},
		{"no read known, young", func(c *compaction) host {
			c.putPack("/r", packA)
			c.pass(47 * time.Hour)
			c.b.put("/r/index", "2")
			return c.b
		}, false},
		{"no read known, old", func(c *compaction) host {
			c.putPack("/r", packA)
			c.pass(49 * time.Hour)
			c.b.put("/r/index", "2")
			return c.b
		}, true},
		{"no read known, old, a young index of another client", func(c *compaction) host {
			c.putPack("/r", packA)
			c.pass(49 * time.Hour)
			c.a.put("/r/index", "2")
			return c.b
		}, false},
		{"no read known, all old", func(c *compaction) host {
			c.putPack("/r", packA)
			c.pass(49 * time.Hour)
			return c.b
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCompaction(t, nil)
			by := tt.run(c)
			r := c.want(200, by.do("POST", "/r?repack", unused))
			if !strings.Contains(r.body, `"deleted":true`) {
				t.Errorf("answer: %s", r.body)
			}
			key := packKey(b2(packA))
			if c.listed(key) == tt.gone {
				t.Errorf("the pack is listed: %v", !tt.gone)
			}
			if c.usage().KeptItems != map[bool]int64{true: 1}[tt.gone] {
				t.Errorf("counters: %+v", c.usage().Counters)
			}
			c.a.get("/r/" + key)
		})
	}
}

// TestStoredAgainByAppendOnly: the same bytes stored again by a client that may not overwrite count as stored.
func TestStoredAgainByAppendOnly(t *testing.T) {
	t.Parallel()
	c := newServer(t, func(o *setup) {
		o.auth = api.AuthOptions{Tokens: []api.Token{
			{Name: "full", Secret: "full"}, {Name: "append", Secret: "append", Permissions: policy.AppendOnly(vger.Name)},
		}}
	})
	full := []string{"Authorization", "Bearer full"}
	only := []string{"Authorization", "Bearer append"}
	key := packKey(b2(packA))
	c.want(201, c.do("PUT", "/r/index", "1", full...))
	c.want(201, c.do("PUT", "/r/"+key, packA, full...))
	c.want(200, c.do("GET", "/r/index", "", full...))
	c.want(204, c.do("PUT", "/r/"+key, packA, only...))
	c.want(200, c.do("POST", "/r?repack", plan(operation(key, true)), full...))
	var keys []string
	decode(t, c.want(200, c.do("GET", "/r/packs/?list", "", full...)), &keys)
	if !slices.Equal(keys, []string{key}) {
		t.Errorf("listed: %q: a pack that was just uploaded again is gone", keys)
	}
}

// TestKept: what a compaction has removed is found under its key by whoever asks, and by nobody else.
func TestKept(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		run  func(c *compaction, key string)
		back bool // it is an item again
		gone bool // it is not kept any more
	}{
		{"GET", func(c *compaction, key string) { c.b.get("/r/" + key) }, true, true},
		{"HEAD", func(c *compaction, key string) { c.want(200, c.b.do("HEAD", "/r/"+key, "")) }, true, true},
		{"range", func(c *compaction, key string) {
			if r := c.want(206, c.b.do("GET", "/r/"+key, "", "Range", "bytes=19-21")); r.body != packS[19:22] {
				c.t.Errorf("got %q", r.body)
			}
		}, true, true},
		{"verify-packs", func(c *compaction, key string) {
			body := fmt.Sprintf(`{"packs":[{"pack_key":%q,"expected_size":%d,"expected_blobs":[{"offset":13,"length":2}]}]}`, key, len(packS))
			if r := c.want(200, c.b.do("POST", "/r?verify-packs", body)); !strings.Contains(r.body, `"hash_valid":true`) {
				c.t.Errorf("got %s", r.body)
			}
		}, true, true},
		{"source of a plan", func(c *compaction, key string) { c.b.repackAs(plan(operation(key, false, 13, 2))) }, true, true},
		{"output of a plan", func(c *compaction, key string) {
			whole := c.putPack("/r", makePack("\xde\xad", "\xbe\xefB", "more"))
			c.b.repackAs(plan(operation(whole, false, 13, 2, 19, 3)))
		}, true, true},
		{"stored again", func(c *compaction, key string) { c.putPack("/r", packS) }, true, true},
		{"deleted", func(c *compaction, key string) { c.b.delete("/r/" + key); c.want(404, c.b.do("GET", "/r/"+key, "")) }, false, true},
		{"deleted in a batch", func(c *compaction, key string) {
			c.want(204, c.b.do("POST", "/r?batch-delete", quoted(key)))
			c.want(404, c.b.do("GET", "/r/"+key, ""))
		}, false, true},
		{"the repository deleted", func(c *compaction, key string) {
			c.want(204, c.b.do("POST", "/r?batch-delete&cleanup-dirs", quoted(append(c.keys("/r?list"), "config")...)))
			c.want(404, c.b.do("GET", "/r/"+key, ""))
		}, false, true},
		{"time", func(c *compaction, key string) {
			c.pass(49 * time.Hour)
			for deadline := time.Now().Add(10 * time.Second); c.usage().KeptItems > 0 && time.Now().Before(deadline); {
				c.a.put("/r/keys/x", "x") // the reclaimer looks after a removal
			}
			c.want(404, c.b.do("GET", "/r/"+key, ""))
		}, false, true},

		{"nothing", func(c *compaction, key string) {}, false, false},
		{"lists", func(c *compaction, key string) {
			for _, target := range []string{"/r?list", "/r/packs/?list", "/r/" + key[:8] + "/?list"} {
				if slices.Contains(c.keys(target), key) {
					c.t.Errorf("%s lists it", target)
				}
			}
			c.want(200, c.b.do("GET", "/r?stats", ""))
		}, false, false},
		{"an operation that calls it unused", func(c *compaction, key string) { c.b.repackAs(plan(operation(key, true))) }, false, false},
		{"47 hours", func(c *compaction, key string) { c.pass(47 * time.Hour); c.a.put("/r/keys/x", "x") }, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCompaction(t, nil)
			c.a.put("/r/config", "x")
			c.a.put(lockA, "{}")
			c.a.repackAs(plan(operation(c.key, true, 19, 3)))
			c.a.put("/r/index", "2")
			before := c.usage()
			if c.listed(c.key) || before.KeptItems != 1 {
				t.Fatalf("not kept: %+v", before.Counters)
			}
			tt.run(c, c.key)
			after := c.usage()
			if c.listed(c.key) != tt.back {
				t.Errorf("listed: %v, want %v", !tt.back, tt.back)
			}
			if gone := after.KeptItems == 0; gone != tt.gone {
				t.Errorf("counters: %+v", after.Counters)
			}
		})
	}
}

// TestHeldBytesDoNotCount: what comes back raises the limit by its size, and so does an open source.
func TestHeldBytesDoNotCount(t *testing.T) {
	t.Parallel()
	c := newCompaction(t, func(o *setup) {
		o.set.Settings = func(string) repo.Settings { return repo.Settings{Quota: int64(len(packS)) + 10} }
	})
	c.a.put(lockA, "{}")
	c.a.repackAs(plan(operation(c.key, true, 19, 3)))
	if u := c.usage(); u.Used != int64(1+len(packB)) || u.OpenBytes != int64(len(packS)) {
		t.Errorf("while the plan is open: %+v", u)
	}
	c.a.put("/r/keys/x", "12345678") // a backup goes on
	c.a.put("/r/index", "2")
	c.b.get("/r/" + c.key)
	if u := c.usage(); u.Used != int64(1+len(packB)+8) || u.ReturnedBytes != int64(len(packS)) {
		t.Errorf("when the source has come back: %+v", u)
	}
	c.a.put("/r/keys/y", "1234567")
	c.want(413, c.a.do("PUT", "/r/keys/z", "12345678"))
}

// TestDoubtBringsBack: an index by somebody who has not read what led to the last removal may refer to it.
func TestDoubtBringsBack(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		before func(c *compaction)
		after  func(c *compaction)
		back   bool
	}{
		{"never read", func(c *compaction) {}, func(c *compaction) {}, true},
		{"read before", func(c *compaction) { c.b.get("/r/index") }, func(c *compaction) {}, true},
		{"read index since", func(c *compaction) {}, func(c *compaction) { c.b.get("/r/index") }, false},
		// index.gen does not say what the index is, and is stored after it.
		{"read index.gen since", func(c *compaction) { c.a.put("/r/index.gen", "1") }, func(c *compaction) { c.b.get("/r/index.gen") }, true},
		{"read both since", func(c *compaction) { c.a.put("/r/index.gen", "1") }, func(c *compaction) { c.b.get("/r/index.gen"); c.b.get("/r/index") }, false},
		{"looked at it since", func(c *compaction) {}, func(c *compaction) { c.want(200, c.b.do("HEAD", "/r/index", "")) }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCompaction(t, nil)
			tt.before(c)
			c.a.put(lockA, "{}")
			c.a.repackAs(plan(operation(c.key, true, 19, 3)))
			c.a.put("/r/index", "2")
			tt.after(c)
			if c.listed(c.key) {
				t.Fatal("not removed")
			}
			c.b.put("/r/index", "2") // the same bytes say nothing
			if c.listed(c.key) {
				t.Error("brought back by an index that was there")
			}
			c.b.put("/r/index", "3")
			if c.listed(c.key) != tt.back {
				t.Errorf("brought back: %v, want %v", !tt.back, tt.back)
			}
		})
	}
}

// TestResultBelongsToItsLock: the kept result is given under the lock of the first time only.
func TestResultBelongsToItsLock(t *testing.T) {
	t.Parallel()
	engine := compact.New(compact.Options{})
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	c := newCompaction(t, func(o *setup) { o.dialect.Engine = engine })
	half := plan(operation(c.key, true, 19, 3))
	begun := func() time.Time {
		jobs, err := engine.Jobs(t.Context(), c.repository("r").Repository())
		if err != nil || len(jobs) != 1 {
			t.Fatalf("jobs: %+v, %v", jobs, err)
		}
		return jobs[0].Started
	}
	c.a.put(lockA, "{}")
	c.a.repackAs(half)
	first := begun()
	c.a.repackAs(half)
	if begun() != first {
		t.Error("carried out again under the same lock")
	}
	c.a.delete(lockA)
	c.a.put(lockB, "{}")
	c.a.repackAs(half)
	if begun() == first {
		t.Error("a result of another lock was given")
	}
	c.a.put("/r/index", "2")
	if c.listed(c.key) {
		t.Error("the plan does not belong to the new lock")
	}
	c.a.repackAs(half) // all of it is found again
	if !c.listed(packKey(b2(packB))) {
		t.Error("the output is gone")
	}
}

// TestThirtyPacks: a client whose answer was lost runs again with its old index, in batches. What its first batch has
// found again must not go as unused in its second.
func TestThirtyPacks(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart %v", restart), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			var sources, outputs, all, batch1, batch2 []string
			for i := range 30 {
				live := fmt.Sprintf("live %02d", i)
				sources = append(sources, makePack("dead", live))
				outputs = append(outputs, packKey(b2(makePack(live))))
				op := operation(packKey(b2(sources[i])), true, 13+4+4, len(live))
				all = append(all, op)
				if i < 15 {
					batch1 = append(batch1, op)
					batch2 = append(batch2, operation(outputs[i], true)) // an orphan, to the old index
				} else {
					batch1 = append(batch1, operation(outputs[i], true))
					batch2 = append(batch2, op)
				}
			}
			life := func(t *testing.T, first, second bool) {
				c := newServer(t, func(o *setup) { o.set.Dir = dir })
				a := host{c, "192.0.2.1"}
				if first {
					a.put("/r/index", "1")
					for _, s := range sources {
						c.putPack("/r", s)
					}
					a.get("/r/index")
					a.put(lockA, "{}")
					a.repackAs(plan(all...)) // and the answer is lost
					a.delete(lockA)
				}
				if !second {
					return
				}
				a.get("/r/index")
				a.put(lockB, "{}")
				a.repackAs(plan(batch1...))
				a.repackAs(plan(batch2...))
				a.put("/r/index", "2")
				a.delete(lockB)
				for i, key := range outputs {
					if r := a.do("GET", "/r/"+key, ""); r.status != 200 || !strings.Contains(r.body, fmt.Sprintf("live %02d", i)) {
						t.Errorf("output %d: %d %q", i, r.status, r.body)
					}
				}
				// And the run after that cleans up.
				a.get("/r/index")
				var orphans []string
				for _, key := range c.keys("/r/packs/?list") {
					if !slices.Contains(outputs, key) {
						orphans = append(orphans, operation(key, true))
					}
				}
				a.repackAs(plan(orphans...))
				if got := c.keys("/r/packs/?list"); !slices.Equal(got, sorted(outputs)) {
					t.Errorf("%d packs are listed, want the outputs alone", len(got))
				}
			}
			if restart {
				t.Run("first", func(t *testing.T) { life(t, true, false) })
				t.Run("second", func(t *testing.T) { life(t, false, true) })
			} else {
				life(t, true, true)
			}
		})
	}
}

// TestHeldIsBounded: open plans hold no more than the quota beyond it; the refusal names the plan that is in the way.
func TestHeldIsBounded(t *testing.T) {
	t.Parallel()
	blob := strings.Repeat("b", 1000)
	c := newCompaction(t, func(o *setup) {
		o.set.Settings = func(string) repo.Settings { return repo.Settings{Quota: 10_000} }
	})
	c.a.put(lockA, "{}")
	held, refused := int64(0), reply{}
	for i := range 20 {
		key := c.putPack("/r", makePack(blob, fmt.Sprintf("%04d", i)))
		r := c.a.do("POST", "/r?repack", plan(operation(key, true, 13+1000+4, 4)))
		if u := c.usage(); u.OpenBytes+u.ReturnedBytes+u.KeptBytes > 10_000 {
			t.Fatalf("held beyond the bound: %+v", u.Counters)
		}
		if r.status != 200 {
			refused = r
			break
		}
		held = c.usage().OpenBytes
	}
	if refused.status != 413 || !strings.Contains(refused.body, "still waits for its index") || held < 8000 {
		t.Fatalf("refused: %d %q, held %d", refused.status, refused.body, held)
	}
	// The client stores its index for what it has; the next run goes on.
	c.a.put("/r/index", "2")
	if u := c.usage(); u.Plans != 0 || u.KeptBytes > 10_000 {
		t.Errorf("after the index: %+v", u.Counters)
	}
	key := c.putPack("/r", makePack(blob, "next"))
	c.a.repackAs(plan(operation(key, true, 13+1000+4, 4)))
	if u := c.usage(); u.OpenBytes+u.ReturnedBytes+u.KeptBytes > 10_000 {
		t.Errorf("held beyond the bound: %+v", u.Counters)
	}
}

// TestLaterBatchOnFullDisk: on a disk that is nearly full a later batch is refused while the sources of the first
// stand; its client then stores the index for the first, and the next run goes on.
func TestLaterBatchOnFullDisk(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", 64*mib)); err != nil {
		t.Skipf("a small file system cannot be mounted here (are we root?): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	c := newCompaction(t, func(o *setup) {
		o.set.Dir = dir
		o.set.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Reserve: 8 * mib} }
	})
	var ops []string
	var outputs []string
	for i := range 9 {
		live := strings.Repeat(fmt.Sprintf("%07d", i), 3*mib/7)
		c.putPack("/r", makePack(strings.Repeat("dead", mib/2), live))
		ops = append(ops, operation(packKey(b2(makePack(strings.Repeat("dead", mib/2), live))), true, 13+2*mib+4, len(live)))
		outputs = append(outputs, packKey(b2(makePack(live))))
	}
	run := func(name string, remaining []string) (left []string) {
		c.a.get("/r/index")
		c.a.put(lockA, "{}")
		applied := 0
		for ; applied < len(remaining); applied++ { // a batch for each
			r := c.a.do("POST", "/r?repack", plan(remaining[applied]))
			if r.status == 413 {
				break
			}
			c.want(200, r)
		}
		if applied > 0 {
			c.a.put("/r/index", name)
		}
		c.a.delete(lockA)
		return remaining[applied:]
	}
	left := run("first", ops)
	if len(left) == 0 || len(left) == len(ops) {
		t.Fatalf("%d of %d batches were refused: the disk is not the size this test needs", len(left), len(ops))
	}
	for n := 2; len(left) > 0; n++ {
		if n > 5 {
			t.Fatalf("%d batches are left after %d runs", len(left), n)
		}
		left = run(fmt.Sprint(n), left)
	}
	for i, key := range outputs {
		if r := c.a.do("GET", "/r/"+key, ""); r.status != 200 || r.body != makePack(strings.Repeat(fmt.Sprintf("%07d", i), 3*mib/7)) {
			t.Errorf("output %d: status %d, %d bytes", i, r.status, len(r.body))
		}
	}
}
