package vger_test

import (
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"packhouse/api/apitest"
	"packhouse/blobstore/vfs"
	"packhouse/compact"
	"packhouse/repo"
	"packhouse/repo/repotest"
)

// narrow is a file system that has so many bytes free.
type narrow struct {
	vfs.FS
	free *atomic.Int64
}

func (d narrow) Space(string) (free, total int64, err error) { return d.free.Load(), 1 << 40, nil }

// newNarrow is a server on such a disk, with a reserve of 8 MiB, and what it logs.
func newNarrow(t *testing.T, change func(*setup)) (*server, *atomic.Int64, *apitest.Log) {
	t.Helper()
	free, log := new(atomic.Int64), new(apitest.Log)
	free.Store(1 << 40)
	s := newServer(t, func(c *setup) {
		c.set.FS = narrow{unsynced{vfs.OS()}, free}
		c.set.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Reserve: 8 << 20} }
		c.server.Logger = slog.New(slog.NewTextHandler(log, nil))
		if change != nil {
			change(c)
		}
	})
	return s, free, log
}

// wantLogged waits for the line of a request that was answered.
func wantLogged(t *testing.T, log *apitest.Log, text string) {
	t.Helper()
	for range 500 {
		if strings.Contains(log.String(), text) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("the log does not say %q: %s", text, log.String())
}

// TestRepackLeavesSpaceForTheIndex: a plan is refused before it begins when the index would not fit after it: 413, which clients do not
// repeat, and how much is short, in the log too, as old clients show the status alone. A plan that is admitted leaves space for it.
func TestRepackLeavesSpaceForTheIndex(t *testing.T) {
	t.Parallel()
	s, free, log := newNarrow(t, nil)
	const mib = 1 << 20
	key := s.putPack("/r", packS)
	s.put("/r/index", strings.Repeat("i", 4*mib))
	text := plan(operation(key, true, 19, 3))
	// An eighth of the reserve, the index and a quarter of it, 1 MiB, another for the log, the output and what a file takes besides.
	const need = mib + 5*mib + mib + mib + 16 + 4096
	free.Store(need - 12345)
	r := s.want(413, s.do("POST", "/r?repack", text))
	const short = "no space left on the server: 12345 bytes short for 4112 bytes of new items and 6291456 for the index"
	if !strings.HasPrefix(r.body, short) || !strings.Contains(r.body, "compact again") || len(r.body) > 512 {
		t.Errorf("got %q, want it to begin with %q", r.body, short)
	}
	wantLogged(t, log, short)
	s.want(200, s.do("GET", "/r/"+key, ""))

	free.Store(need)
	if got := s.repack(text); len(got) != 1 || !got[0].Deleted {
		t.Errorf("got %+v", got)
	}
	free.Store(need - 16 - 4096)
	s.want(413, s.do("PUT", "/r/"+packKey(b2(packA)), packA, "X-Content-BLAKE2b", b2(packA)))
	s.want(201, s.do("PUT", "/r/index.gen", "12345678"))
	s.want(204, s.do("PUT", "/r/index", strings.Repeat("i", 6*mib)))
}

// TestRepackRefusedLate: an answer that has begun is cut off by a refusal; the log says why, and the client that asks again is told.
func TestRepackRefusedLate(t *testing.T) {
	t.Parallel()
	var offset atomic.Int64
	engine := compact.New(compact.Options{Rate: 2 << 20, Now: func() time.Time {
		return time.Now().Add(time.Duration(offset.Add(int64(6 * time.Second))))
	}})
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	s, free, log := newNarrow(t, func(c *setup) {
		c.dialect.KeepAlive = 5 * time.Millisecond
		c.dialect.Engine = engine
	})
	big := strings.Repeat("x", 3<<20)
	key := s.putPack("/r", makePack(big, "y"))
	s.putPack("/r", makePack(strings.Repeat("z", 3<<20))) // as large as the output: it might stand already
	free.Store(0)
	text := plan(operation(key, true, 13, len(big)))
	r, err := s.http.Post(s.base+"/r?repack", "application/json", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if got, err := io.ReadAll(r.Body); err == nil || strings.TrimSpace(string(got)) != "" {
		t.Errorf("got %q, %v, want it cut off", got, err)
	}
	wantLogged(t, log, "bytes short")
	if r := s.want(413, s.do("POST", "/r?repack", text)); !strings.Contains(r.body, "bytes short") {
		t.Errorf("asked again: got %q", r.body)
	}
	s.want(200, s.do("HEAD", "/r/"+key, ""))
}

// TestLoweredQuota: what issue 8 saw first. The quota becomes less than what is stored; a plan is carried out, and the index after it is
// stored.
func TestLoweredQuota(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	key := s.putPack("/r", packS)
	for _, name := range []string{"index", "index.gen", "manifest"} {
		s.put("/r/"+name, "12345678")
	}
	if err := s.set.Opened()["r"].SetQuota(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	s.repack(plan(operation(key, true, 19, 3)))
	s.want(413, s.do("PUT", "/r/"+packKey(b2(packA)), packA, "X-Content-BLAKE2b", b2(packA)))
	for _, name := range []string{"index", "index.gen", "manifest"} {
		s.want(204, s.do("PUT", "/r/"+name, strings.Repeat("x", 1000)))
	}
}

// TestTrashIsNamed: what is refused because of what can still be restored says so, and what would help.
func TestTrashIsNamed(t *testing.T) {
	t.Parallel()
	free := new(atomic.Int64)
	free.Store(1 << 40)
	s := newServer(t, func(c *setup) {
		c.set.FS = narrow{unsynced{vfs.OS()}, free}
		c.set.Settings = func(string) repo.Settings {
			return repo.Settings{Quota: 1000, TrashQuota: 10, Reserve: 100, Grace: time.Hour}
		}
	})
	s.put("/r/snapshots/s", strings.Repeat("x", 20))
	s.put("/r/index", strings.Repeat("x", 20))
	says := func(r reply, want string) {
		t.Helper()
		if !strings.Contains(r.body, want) || !strings.Contains(r.body, "packhouse trash empty") {
			t.Errorf("got %q, want %q", r.body, want)
		}
	}
	says(s.want(413, s.do("PUT", "/r/snapshots/s", "y")), "trash quota exceeded")
	s.want(204, s.do("PUT", "/r/index", "y"))
	s.want(204, s.do("DELETE", "/r/snapshots/s", ""))
	says(s.want(413, s.do("PUT", "/r/snapshots/t", strings.Repeat("y", 995))), "trash quota exceeded")
	free.Store(50)
	says(s.want(413, s.do("PUT", "/r/snapshots/t", strings.Repeat("y", 20))), "no space left on the server: 20 bytes of removed items")
}

// giving is a narrow disk that gets bytes back with each blob that is removed.
type giving struct {
	narrow
	bytes int64
}

func (d giving) Remove(name string) error {
	err := d.narrow.Remove(name)
	if err == nil && strings.Contains(name, "/blobs/") && filepath.Ext(name) != ".sums" {
		d.free.Add(d.bytes)
	}
	return err
}

// TestKeptGivesWayToPlan: before a plan is refused for want of space, what is kept after compactions goes.
func TestKeptGivesWayToPlan(t *testing.T) {
	t.Parallel()
	const need = 20 + 4096 + 1 + 2<<20 // of an output, of the index, and of the log
	for short, status := range map[int64]int{999: 200, 1000: 200, 1001: 413} {
		free := new(atomic.Int64)
		free.Store(1 << 40)
		c := newCompaction(t, func(o *setup) { o.set.FS = giving{narrow{unsynced{vfs.OS()}, free}, 1000} })
		c.a.put(lockA, "{}")
		c.a.repackAs(plan(operation(c.key, true, 19, 3)))
		c.a.put("/r/index", "2")
		if u := c.usage(); u.KeptItems != 1 {
			t.Fatalf("usage: %+v, want one pack kept", u)
		}
		other := c.putPack("/r", makePack("another", "one"))
		// The index that was replaced must not give its bytes back later.
		repotest.WaitFor(t, "the trash to empty", func() bool { return c.usage().TrashItems == 0 })
		free.Store(need - short)
		r := c.want(status, c.a.do("POST", "/r?repack", plan(operation(other, true, 13, 7))))
		if status != 200 && !strings.Contains(r.body, " 1 bytes short") {
			t.Errorf("%d bytes short: got %q", short, r.body)
		}
		if u := c.usage(); u.KeptItems != 0 {
			t.Errorf("%d bytes short: %+v, want nothing kept", short, u)
		}
	}
}

// TestKeptOutputNeedsNoQuota: an output that is kept after a compaction is found like those that are listed.
func TestKeptOutputNeedsNoQuota(t *testing.T) {
	t.Parallel()
	c := newCompaction(t, nil)
	text := plan(operation(c.key, false, 19, 3))
	c.a.put(lockA, "{}")
	c.a.repackAs(text)
	made := packKey(b2(makePack("\xbe\xefB")))
	c.pass(time.Hour)
	c.a.get("/r/index")
	c.a.repackAs(plan(operation(made, true)))
	if u := c.usage(); u.KeptItems != 1 || c.listed(made) {
		t.Fatalf("usage: %+v, want the output kept", u)
	}
	r := c.repository("r").Repository()
	if err := r.SetQuota(t.Context(), r.Usage().Used); err != nil {
		t.Fatal(err)
	}
	c.want(413, c.a.do("POST", "/r?repack", plan(operation(c.key, false, 13, 2))))
	c.a.repackAs(text)
	if u := c.usage(); u.KeptItems != 0 || u.Used != u.Limit || !c.listed(made) {
		t.Errorf("usage: %+v, want the output listed", u)
	}
}
