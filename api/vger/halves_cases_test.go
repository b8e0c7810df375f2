package vger_test

import (
	"fmt"
	"io"
	"net/http"
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

// bigPack has n dead bytes and a little that lives: a plan for it, and the key of the output.
func bigPack(name string, n int) (body, op, output string) {
	body = makePack(strings.Repeat("d", n), name)
	return body, operation(packKey(b2(body)), true, 13+n+4, len(name)), packKey(b2(makePack(name)))
}

// TestKeptAfterReturn: no quota. What came back is in use and lives; what is removed after that is kept as long as ever.
func TestKeptAfterReturn(t *testing.T) {
	t.Parallel()
	c := newCompaction(t, nil)
	big, op, _ := bigPack("live", 100_000)
	c.putPack("/r", big)
	c.a.get("/r/index")
	c.a.put(lockA, "{}")
	c.a.repackAs(plan(op))
	c.a.put("/r/index", "2")
	c.a.delete(lockA)
	c.b.put("/r/index", "3") // by a client that has read nothing: it may name big, which comes back
	if u := c.usage(); u.ReturnedBytes != int64(len(big)) {
		t.Fatalf("not back: %+v", u.Counters)
	}
	// The next day's cycle removes one small pack.
	c.a.get("/r/index")
	c.a.put(lockB, "{}")
	c.a.repackAs(plan(operation(c.key, true)))
	if r := c.b.do("GET", "/r/"+c.key, ""); r.status != 200 {
		t.Errorf("GET of a pack removed just now, with no quota and an empty disk: %d; %+v", r.status, c.usage().Counters)
	}
}

// TestPlanAfterReturn: no quota. A plan over a pack that came back and another one is carried out.
func TestPlanAfterReturn(t *testing.T) {
	t.Parallel()
	c := newCompaction(t, nil)
	big, op, _ := bigPack("live", 100_000)
	c.putPack("/r", big)
	c.a.get("/r/index")
	c.a.put(lockA, "{}")
	c.a.repackAs(plan(op))
	c.a.put("/r/index", "2")
	c.a.delete(lockA)
	c.b.put("/r/index", "3")
	next, nextOp, _ := bigPack("next", 10_000)
	c.putPack("/r", next) // a later backup, pruned since
	c.pass(100 * time.Hour)
	c.b.get("/r/index")
	c.b.put(lockB, "{}")
	if r := c.b.do("POST", "/r?repack", plan(op, nextOp)); r.status != 200 {
		t.Errorf("no quota, an empty disk: %d %s; %+v", r.status, r.body, c.usage().Counters)
	}
}

// TestKeptAfterRestart: no quota. A server restarts between the two halves; the next run of the client completes the
// compaction. Its sources are kept like those of any other.
func TestKeptAfterRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	big, op, _ := bigPack("live", 100_000)
	t.Run("first", func(t *testing.T) {
		c := newServer(t, func(o *setup) { o.set.Dir = dir })
		a := host{c, "192.0.2.1"}
		a.put("/r/index", "1")
		c.putPack("/r", big)
		a.get("/r/index")
		a.put(lockA, "{}")
		a.repackAs(plan(op))
	})
	t.Run("second", func(t *testing.T) {
		c := newServer(t, func(o *setup) { o.set.Dir = dir })
		a, b := host{c, "192.0.2.1"}, host{c, "192.0.2.2"}
		a.delete(lockA)
		a.get("/r/index")
		a.put(lockB, "{}")
		a.repackAs(plan(op))
		a.put("/r/index", "2")
		key := packKey(b2(big))
		if r := b.do("GET", "/r/"+key, ""); r.status != 200 {
			t.Errorf("GET of a source right after the proof, with no quota and an empty disk: %d; %+v", r.status,
				c.repository("r").Repository().Usage().Counters)
		}
	})
}

// TestIndexBegunBefore: an index whose body began before the plan was answered cannot refer to its outputs.
func TestIndexBegunBefore(t *testing.T) {
	t.Parallel()
	c := newCompaction(t, nil)
	c.a.put(lockA, "{}")
	body, w := io.Pipe()
	done := make(chan reply)
	go func() {
		// A backup of the same host, killed and its lock taken for stale since; a proxy has its request still.
		r, err := c.try("PUT", "/r/index", body, 20, "X-Forwarded-For", c.a.address)
		if err != nil {
			t.Error(err)
		}
		done <- r
	}()
	fmt.Fprint(w, "0123456789")
	time.Sleep(300 * time.Millisecond) // until the server has begun with it
	c.a.delete(lockA)
	c.a.put(lockB, "{}")
	c.a.repackAs(plan(operation(c.key, true, 19, 3)))
	fmt.Fprint(w, "0123456789")
	w.Close()
	if r := <-done; r.status > 299 {
		t.Fatalf("PUT: %d %s", r.status, r.body)
	}
	if !c.listed(c.key) {
		t.Error("an index that was on its way before the plan has proven it")
	}
}

// TestReadsOfTwoProcesses: compact has read the index, another client stores one, another process of the first client's
// host looks at index.gen as every command does. The packs of the other client stay.
func TestReadsOfTwoProcesses(t *testing.T) {
	t.Parallel()
	c := newCompaction(t, nil)
	c.a.put("/r/index.gen", "1")
	c.a.get("/r/index") // compact: loads this for minutes
	fresh := c.putPack("/r", makePack("fresh"))
	c.b.put("/r/index", "2, names fresh")
	c.b.put("/r/index.gen", "2")
	c.a.get("/r/index.gen") // vykar list, from cron
	c.a.put(lockA, "{}")
	c.a.repackAs(plan(operation(fresh, true))) // an orphan to compact's index
	if !c.listed(fresh) {
		t.Error("a pack that the newest index names is unlisted, and will be gone after compact_grace")
	}
}

// TestIndexGenBeforeItsIndex: index.gen is stored after the index. Who reads the old one in between has read of no new index.
func TestIndexGenBeforeItsIndex(t *testing.T) {
	t.Parallel()
	c := newCompaction(t, nil)
	c.a.put("/r/index.gen", "1")
	c.a.get("/r/index")
	fresh := c.putPack("/r", makePack("fresh"))
	c.b.put("/r/index", "2, names fresh")
	c.a.get("/r/index.gen") // still 1: the copy that the client has in its cache is current, it says
	c.b.put("/r/index.gen", "2")
	c.a.put(lockA, "{}")
	c.a.repackAs(plan(operation(fresh, true)))
	if !c.listed(fresh) {
		t.Error("a pack that the newest index names is unlisted, and will be gone after compact_grace")
	}
}

// TestSourceStoredAgain: a source of an open plan that a client may not overwrite and stores again does not go with the proof:
// that client is about to refer to it. One that may overwrite it takes it from the plan.
func TestSourceStoredAgain(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"full", "append"} {
		t.Run(who, func(t *testing.T) {
			c := newServer(t, func(o *setup) {
				o.auth = api.AuthOptions{Tokens: []api.Token{
					{Name: "full", Secret: "full"}, {Name: "append", Secret: "append", Permissions: policy.AppendOnly(vger.Name)},
				}}
			})
			full := []string{"Authorization", "Bearer full"}
			key := packKey(b2(packS))
			c.want(201, c.do("PUT", "/r/index", "1", full...))
			c.want(201, c.do("PUT", "/r/"+key, packS, full...))
			c.want(200, c.do("GET", "/r/index", "", full...))
			c.want(201, c.do("PUT", lockA, "{}", full...))
			c.want(200, c.do("POST", "/r?repack", plan(operation(key, true, 19, 3)), full...))
			c.want(204, c.do("PUT", "/r/"+key, packS, "Authorization", "Bearer "+who)) // of a backup under way
			c.want(204, c.do("PUT", "/r/index", "2", full...))
			var keys []string
			decode(t, c.want(200, c.do("GET", "/r/packs/?list", "", full...)), &keys)
			if len(keys) != 2 {
				t.Errorf("listed: %q: the pack that was just stored again is gone", keys)
			}
		})
	}
}

// TestDeniedPlanBringsNothingBack: a plan of a principal that may read no packs changes nothing.
func TestDeniedPlanBringsNothingBack(t *testing.T) {
	t.Parallel()
	c := newServer(t, func(o *setup) {
		o.auth = api.AuthOptions{Tokens: []api.Token{
			{Name: "full", Secret: "full"},
			{Name: "blind", Secret: "blind", Permissions: must(policy.New(map[string]string{"": "l"}))},
		}}
	})
	full := []string{"Authorization", "Bearer full"}
	key := packKey(b2(packS))
	c.want(201, c.do("PUT", "/r/"+key, packS, full...))
	c.want(201, c.do("PUT", "/r/index", "1", full...))
	c.want(200, c.do("GET", "/r/index", "", full...))
	c.want(200, c.do("POST", "/r?repack", plan(operation(key, true)), full...))
	usage := func() repo.Usage { return c.repository("r").Repository().Usage() }
	if usage().KeptItems != 1 {
		t.Fatalf("not kept: %+v", usage().Counters)
	}
	r := c.do("POST", "/r?repack", plan(operation(key, false, 13, 2)), "Authorization", "Bearer blind")
	if r.status != 403 {
		t.Errorf("got %d %s", r.status, r.body)
	}
	if usage().KeptItems != 1 {
		t.Errorf("a refused plan has brought it back: %+v", usage().Counters)
	}
}

// TestRefusedPlanBeforeProof: "the only plan with outputs under that lock": one that was refused made none.
func TestRefusedPlanBeforeProof(t *testing.T) {
	t.Parallel()
	c := newCompaction(t, nil)
	c.a.put(lockA, "{}")
	c.want(409, c.a.do("POST", "/r?repack", plan(operation(packKey(b2(makePack("another", "one"))), true, 13, 7))))
	c.a.repackAs(plan(operation(c.key, true, 19, 3)))
	c.a.put("/r/index", "2")
	if c.listed(c.key) {
		t.Error("not proven, because of a plan that was refused")
	}
}

// TestJobOutlivesItsClient: what a plan calls unused is judged by what its client knew when it sent it, not by what other runs
// have read until it is carried out.
func TestJobOutlivesItsClient(t *testing.T) {
	t.Parallel()
	// The plan must still be at work when the next run is done. On a busy machine that takes a larger one.
	for size := 4 << 20; size <= 32<<20; size *= 2 {
		if jobOutlivesItsClient(t, size) {
			return
		}
	}
	t.Error("each plan was done before the next run of its client was")
}

// jobOutlivesItsClient tells whether a plan that copies so many bytes was slow enough.
func jobOutlivesItsClient(t *testing.T, size int) bool {
	engine := compact.New(compact.Options{Rate: 1 << 20})
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	c := newCompaction(t, func(o *setup) { o.dialect.Engine = engine })
	orphan := c.putPack("/r", packB) // of a run that was cut
	big := makePack(strings.Repeat("x", size), "y")
	key := c.putPack("/r", big)
	c.a.get("/r/index")
	c.a.put(lockA, "{}")
	impatient := host{&server{t: t, set: c.set, base: c.base, http: &http.Client{Timeout: 50 * time.Millisecond}}, c.a.address}
	text := plan(operation(orphan, true), operation(key, true, 13, size))
	if r, err := impatient.try("POST", "/r?repack", strings.NewReader(text), int64(len(text)), "X-Forwarded-For", c.a.address); err == nil {
		t.Fatalf("answered in time: %d", r.status)
	}
	// The client is dead; the next run of the same host takes its lock for stale, finds the orphan as its output, and is done.
	c.a.delete(lockA)
	c.a.get("/r/index")
	c.a.put(lockB, "{}")
	c.a.repackAs(plan(operation(c.key, true, 19, 3)))
	c.a.put("/r/index", "2, names the orphan")
	c.a.delete(lockB)
	c.a.get("/r/index") // any command
	if c.usage().Plans != 0 {
		return false
	}
	for c.usage().Plans == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	if !c.listed(orphan) {
		t.Error("a plan of a dead client has removed what the newest index names")
	}
	return true
}

// TestDoubtOfTwoProcesses: prune has read the index; another client compacts; another process of the host looks at index.gen, as
// every command does; prune stores its index, which names the source.
func TestDoubtOfTwoProcesses(t *testing.T) {
	t.Parallel()
	c := newCompaction(t, nil)
	c.a.put("/r/index.gen", "1")
	c.b.get("/r/index")
	c.a.put(lockA, "{}")
	c.a.repackAs(plan(operation(c.key, true, 19, 3)))
	c.a.put("/r/index", "2")
	c.a.delete(lockA)
	c.b.get("/r/index.gen")
	c.b.put(lockB, "{}")
	c.b.put("/r/index", "3, made from 1")
	if !c.listed(c.key) {
		t.Error("a pack that the newest index names is unlisted, and will be gone after compact_grace")
	}
}

// TestRefusalIsNotKept: a batch that was refused while earlier sources stood goes on in the next run, however long it took to
// refuse it (looking for outputs that stand reads all sources).
func TestRefusalIsNotKept(t *testing.T) {
	t.Parallel()
	var ticks atomic.Int64
	engine := compact.New(compact.Options{Now: func() time.Time { return time.Unix(1e9+3*ticks.Add(1), 0) }})
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	c := newCompaction(t, func(o *setup) {
		o.dialect.Engine = engine
		o.set.Settings = func(string) repo.Settings { return repo.Settings{Quota: 10_000} }
	})
	one, first, _ := bigPack("one", 6000)
	two, second, _ := bigPack("two", 6000)
	c.putPack("/r", one)
	c.a.get("/r/index")
	c.a.put(lockA, "{}")
	c.a.repackAs(plan(first))
	c.putPack("/r", two)
	c.want(413, c.a.do("POST", "/r?repack", plan(second)))
	c.a.put("/r/index", "2")
	c.a.delete(lockA)
	c.a.get("/r/index")
	c.a.put(lockB, "{}")
	if r := c.a.do("POST", "/r?repack", plan(second)); r.status != 200 {
		t.Errorf("the next run: %d %s; %+v", r.status, r.body, c.usage().Counters)
	}
}

// TestDryRun: a plan that is only held against the index brings nothing back.
func TestDryRun(t *testing.T) {
	t.Parallel()
	engine := compact.New(compact.Options{})
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	c := newCompaction(t, func(o *setup) { o.dialect.Engine = engine })
	c.a.get("/r/index")
	c.a.repackAs(plan(operation(c.key, true)))
	if c.usage().KeptItems != 1 {
		t.Fatalf("not kept: %+v", c.usage().Counters)
	}
	p := engine.NewPlan(compact.Limits{})
	defer p.Close()
	if err := p.Add(compact.Operation{Deletes: []string{c.key}}); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Estimate(t.Context(), c.repository("r"), p); err != nil {
		t.Fatal(err)
	}
	if c.usage().KeptItems != 1 {
		t.Errorf("brought back: %+v", c.usage().Counters)
	}
}

// TestFoundOutputsSpareNothing: a second try whose outputs stand already needs no space, and so costs no kept pack.
func TestFoundOutputsSpareNothing(t *testing.T) {
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
		o.set.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Reserve: 4 * mib} }
	})
	unused := c.putPack("/r", makePack(strings.Repeat("k", 6*mib)))
	live := strings.Repeat("l", 16*mib)
	source := c.putPack("/r", makePack("dead", live))
	half := plan(operation(source, true, 13+4+4, len(live)))
	c.a.get("/r/index")
	c.a.put(lockA, "{}")
	c.a.repackAs(half) // and the answer is lost
	c.a.repackAs(plan(operation(unused, true)))
	c.a.delete(lockA)
	c.putPack("/r", makePack(strings.Repeat("f", 14*mib)))
	if u := c.usage(); u.KeptItems != 1 {
		t.Fatalf("not kept: %+v", u.Counters)
	}
	c.a.get("/r/index")
	c.a.put(lockB, "{}")
	r := c.a.do("POST", "/r?repack", half)
	if u := c.usage(); r.status != 200 || u.KeptItems != 1 {
		t.Errorf("got %d %.200s; %+v", r.status, r.body, u.Counters)
	}
}
