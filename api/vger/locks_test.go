package vger_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"packhouse/api"
	"packhouse/api/vger"
	"packhouse/blobstore/vfs"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// clock is a time that tests move.
type clock struct{ unixNano atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.unixNano.Store(time.Date(2026, 7, 31, 10, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time         { return time.Unix(0, c.unixNano.Load()).UTC() }
func (c *clock) pass(d time.Duration)   { c.unixNano.Add(int64(d)) }
func (c *clock) set(o *datadir.Options) { o.Now = c.now }

func (s *server) acquire(id, body string) reply {
	s.t.Helper()
	return s.do("POST", "/r/locks/"+id, body, "Content-Type", "application/json")
}

func holder(host string, pid int) string { return fmt.Sprintf(`{"hostname":%q,"pid":%d}`, host, pid) }

type ttlLock struct {
	ID         string `json:"id"`
	Hostname   string `json:"hostname"`
	PID        uint64 `json:"pid"`
	AcquiredAt string `json:"acquired_at"`
	TTLSeconds int64  `json:"ttl_seconds"`
}

func (s *server) ttlLocks() []ttlLock {
	s.t.Helper()
	var got []ttlLock
	if decode(s.t, s.want(200, s.do("GET", "/r/locks", "")), &got); got == nil {
		s.t.Error("the list of locks is null")
	}
	return got
}

// TestTTLLocks walks contract 8.1, with the advice of 8.2.
func TestTTLLocks(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newServer(t, func(o *setup) {
		c.set(&o.set)
		o.dialect.LockTTL = func(string) time.Duration { return 90 * time.Second }
	})
	if got := s.ttlLocks(); len(got) != 0 {
		t.Errorf("no repository: got %+v", got)
	}
	if r := s.want(404, s.do("DELETE", "/r/locks/repo-lock", "")); r.body != "lock 'repo-lock' not found" {
		t.Errorf("got %q", r.body)
	}
	if r := s.want(201, s.acquire("repo-lock", holder("a", 1))); r.body != "" {
		t.Errorf("got %q", r.body)
	}
	if r := s.want(409, s.acquire("repo-lock", holder("b", 1))); r.body != "lock 'repo-lock' already held by a" {
		t.Errorf("got %q", r.body)
	}
	s.want(409, s.acquire("repo-lock", holder("a", 2)))
	s.want(409, s.acquire("repo-lock", holder("1@a", 1)))
	s.want(201, s.acquire("other", `{"hostname":"b","more":[1]}`))
	want := []ttlLock{{"other", "b", 0, "2026-07-31T10:00:00Z", 90}, {"repo-lock", "a", 1, "2026-07-31T10:00:00Z", 90}}
	got := s.ttlLocks()
	slices.SortFunc(got, func(a, b ttlLock) int { return strings.Compare(a.ID, b.ID) })
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	c.pass(time.Minute)
	s.want(201, s.acquire("repo-lock", holder("a", 1))) // asked again: renewed
	c.pass(time.Minute)
	want = []ttlLock{{"repo-lock", "a", 1, "2026-07-31T10:01:00Z", 90}}
	if got := s.ttlLocks(); !slices.Equal(got, want) { // the other one ended
		t.Errorf("got %+v, want %+v", got, want)
	}
	s.want(409, s.acquire("repo-lock", holder("b", 1)))
	c.pass(31 * time.Second)
	s.want(201, s.acquire("repo-lock", holder("b", 1)))
	s.want(204, s.do("DELETE", "/r/locks/repo-lock", ""))
	s.want(404, s.do("DELETE", "/r/locks/repo-lock", ""))
	// One that ended can still be released.
	s.want(201, s.acquire("repo-lock", holder("b", 1)))
	c.pass(time.Hour)
	s.want(204, s.do("DELETE", "/r/locks/repo-lock", ""))
	for _, method := range []string{"PUT", "POST", "DELETE"} {
		if r := s.do(method, "/r/locks", ""); r.status != 405 || r.header.Get("Allow") == "" {
			t.Errorf("%s locks: got %d", method, r.status)
		}
	}
	if got := s.keys("/r/locks/?list"); len(got) != 0 {
		t.Errorf("keys: got %q", got)
	}
}

// TestAcquireRefusals: 415, 400 and 422 of contract 8.1.
func TestAcquireRefusals(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	const kind = "application/json"
	for _, c := range []struct {
		name, kind, body string
		status           int
	}{
		{"no content type", "", holder("a", 1), 415},
		{"text", "text/plain", holder("a", 1), 415},
		{"text that looks like JSON", "text/json", holder("a", 1), 415},
		{"with charset", kind + "; charset=utf-8", holder("a", 1), 201},
		{"capitals", "Application/JSON", holder("a", 1), 201},
		{"suffix", "application/vnd.x+json", holder("a", 1), 201},
		{"empty", kind, "", 400},
		{"half", kind, `{"hostname":"a"`, 400},
		{"trailing", kind, holder("a", 1) + "x", 400},
		{"no hostname", kind, `{"pid":1}`, 422},
		{"null hostname", kind, `{"hostname":null}`, 422},
		{"hostname a number", kind, `{"hostname":1}`, 422},
		{"array", kind, `["a",1]`, 422},
		{"pid a string", kind, `{"hostname":"a","pid":"1"}`, 422},
		{"pid negative", kind, `{"hostname":"a","pid":-1}`, 422},
		{"pid a fraction", kind, `{"hostname":"a","pid":1.5}`, 422},
		{"pid of 64 bits", kind, `{"hostname":"a","pid":18446744073709551615}`, 201},
		{"pid beyond", kind, `{"hostname":"a","pid":18446744073709551616}`, 422},
		{"long hostname", kind, holder(strings.Repeat("a", 2000), 1), 422},
		{"long body", kind, holder(strings.Repeat("a", 70000), 1), 413},
		{"break-lock", kind, `{"hostname":"","pid":0}`, 201},
	} {
		headers := []string{"Content-Type", c.kind}
		if c.kind == "" {
			headers = nil
		}
		r := s.do("POST", "/r/locks/repo-lock", c.body, headers...)
		if r.status != c.status || r.status >= 400 && r.body == "" {
			t.Errorf("%s: got %d %q, want %d", c.name, r.status, r.body, c.status)
		}
		if r.status == 201 {
			s.want(204, s.do("DELETE", "/r/locks/repo-lock", ""))
		}
	}
	s.want(400, s.acquire("a/b", holder("a", 1)))
	// It could not be released: DELETE of such a path is that of a lock object.
	if r := s.acquire("a.json", holder("a", 1)); r.status != 400 || r.body == "" {
		t.Errorf("id of a lock object: got %d %q", r.status, r.body)
	}
}

// TestTTLLockRestart: a lock survives a restart, and ends by the clock all the same.
func TestTTLLockRestart(t *testing.T) {
	t.Parallel()
	c, dir := newClock(), t.TempDir()
	start := func(t *testing.T) *server {
		return newServer(t, func(o *setup) { c.set(&o.set); o.set.Dir = dir })
	}
	t.Run("before", func(t *testing.T) { s := start(t); s.want(201, s.acquire("repo-lock", holder("a", 1))) })
	t.Run("after", func(t *testing.T) {
		s := start(t)
		s.want(409, s.acquire("repo-lock", holder("b", 1)))
		s.want(201, s.acquire("repo-lock", holder("a", 1)))
		c.pass(time.Hour + time.Second)
		s.want(201, s.acquire("repo-lock", holder("b", 1)))
	})
}

// lockAt is the key of a lock object taken at a time.
func lockAt(at time.Time, random byte) string {
	return fmt.Sprintf("locks/%020d-%s.json", at.UnixMicro(), strings.Repeat(string(random), 32))
}

func document(host string, at time.Time) string {
	return fmt.Sprintf(`{"hostname":%q,"pid":7,"time":%q,"boot_id":null}`, host, at.Format(time.RFC3339Nano))
}

// TestBridge: clients with TTL locks and clients with lock objects see each other in a repository of format 1.
func TestBridge(t *testing.T) {
	t.Parallel()
	shadowKey := regexp.MustCompile(`^locks/\d{20}-[0-9a-f]{32}\.json$`)
	c := newClock()
	s := newServer(t, func(o *setup) { c.set(&o.set) })
	s.put("/r/config", configOf(1, "aes256gcm"))

	// A TTL lock shows as an object, first in the order whatever a client's clock says.
	s.want(201, s.acquire("repo-lock", holder("ttl", 5)))
	keys := s.keys("/r/locks/?list")
	if len(keys) != 1 || !shadowKey.MatchString(keys[0]) || !strings.HasPrefix(keys[0], fmt.Sprintf("locks/%020d-", c.now().UnixMicro())) {
		t.Fatalf("shadow: got %q", keys)
	}
	var seen struct {
		Hostname string  `json:"hostname"`
		PID      uint64  `json:"pid"`
		Time     string  `json:"time"`
		BootID   *string `json:"boot_id"`
	}
	r := s.want(200, s.do("GET", "/r/"+keys[0], ""))
	if err := json.Unmarshal([]byte(r.body), &seen); err != nil || seen.Hostname != "ttl" || seen.PID != 5 || seen.Time != "2026-07-31T10:00:00+00:00" {
		t.Errorf("document: %q, %v", r.body, err)
	}
	if h := s.want(200, s.do("HEAD", "/r/"+keys[0], "")); h.header.Get("Content-Length") != fmt.Sprint(len(r.body)) {
		t.Errorf("HEAD: got %q, want %d", h.header.Get("Content-Length"), len(r.body))
	}
	if got := s.do("GET", "/r/"+keys[0], "", "Range", "bytes=0-3"); got.status != 206 || got.body != r.body[:4] {
		t.Errorf("range: got %d %q", got.status, got.body)
	}
	for _, late := range []time.Duration{time.Hour, -time.Hour} { // a clock that is ahead, one that is behind
		own := lockAt(c.now().Add(late), 'a')
		s.put("/r/"+own, document("object", c.now().Add(late)))
		keys := s.keys("/r/locks/?list")
		if len(keys) != 2 || keys[1] != own {
			t.Errorf("the object client would win with %q in %q", own, keys)
		}
		s.want(200, s.do("GET", "/r/"+keys[0], ""))
		s.want(201, s.acquire("other", holder("x", 1))) // other locks are not concerned
		s.want(204, s.do("DELETE", "/r/"+own, ""))
	}
	if got := s.keys("/r?list"); !slices.Equal(got, []string{"config"}) {
		t.Errorf("the whole list has the shadow: %q", got)
	}
	s.want(204, s.do("POST", "/r?batch-delete", quoted(keys[0])))
	if len(s.ttlLocks()) != 2 {
		t.Error("batch-delete released a TTL lock")
	}
	s.want(404, s.do("DELETE", "/r/"+lockAt(c.now(), 'f'), ""))
	s.want(204, s.do("DELETE", "/r/"+keys[0], "")) // break-lock
	s.want(404, s.do("GET", "/r/"+keys[0], ""))
	if got := s.keys("/r/locks/?list"); len(got) != 0 {
		t.Errorf("released: got %q", got)
	}

	// A lock object holds off TTL clients until it is stale or gone.
	own := lockAt(c.now(), 'b')
	s.put("/r/"+own, document("object", c.now()))
	if r := s.want(409, s.acquire("repo-lock", holder("ttl", 5))); r.body != "lock 'repo-lock' already held by object" {
		t.Errorf("got %q", r.body)
	}
	if got := s.keys("/r/locks/?list"); !slices.Equal(got, []string{own}) {
		t.Errorf("a refused acquire left %q", got)
	}
	c.pass(6*time.Hour + time.Second)
	s.want(201, s.acquire("repo-lock", holder("ttl", 5)))
	// Who has the lock and asks again has it, also while an object client looks: the first answer may be lost.
	s.want(204, s.do("DELETE", "/r/"+own, ""))
	c.pass(time.Second)
	own = lockAt(c.now(), 'c')
	s.put("/r/"+own, document("object", c.now()))
	s.want(201, s.acquire("repo-lock", holder("ttl", 5)))
	s.want(409, s.acquire("repo-lock", holder("other", 5)))
	if got := s.ttlLocks(); !slices.ContainsFunc(got, func(l ttlLock) bool { return l.ID == "repo-lock" }) {
		t.Errorf("the holder lost its lock: %+v", got)
	}
	// But a lock that has ended is nobody's: the object client has won meanwhile.
	c.pass(time.Hour + time.Second)
	s.want(409, s.acquire("repo-lock", holder("ttl", 5)))
	if got := s.keys("/r/locks/?list"); !slices.Equal(got, []string{own}) {
		t.Errorf("a refused acquire left %q", got)
	}
	s.want(204, s.do("DELETE", "/r/"+own, ""))
	s.want(201, s.acquire("repo-lock", holder("ttl", 5)))

	// In other formats there are no clients with TTL locks to protect.
	s.put("/r/config", configOf(2, "aes256gcm"))
	if got := s.keys("/r/locks/?list"); len(got) != 0 {
		t.Errorf("format 2: got %q", got)
	}
}

// TestBridgeAfterCrash: a lock that was stored, but not looked at against lock objects before the server died, is not
// confirmed when its client asks again.
func TestBridgeAfterCrash(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newServer(t, func(o *setup) { c.set(&o.set) })
	s.put("/r/config", configOf(1, "none"))
	own := lockAt(c.now(), 'a')
	s.put("/r/"+own, document("object", c.now()))
	c.pass(time.Second)
	if _, err := s.repository("r").AcquireLock(t.Context(), "repo-lock", "5@ttl", []byte(holder("ttl", 5)), time.Hour); err != nil {
		t.Fatal(err)
	}
	s.want(409, s.acquire("repo-lock", holder("ttl", 5)))
	if got := s.keys("/r/locks/?list"); !slices.Equal(got, []string{own}) {
		t.Errorf("got %q, want the object alone", got)
	}
}

// TestBridgeLongTTL: what stands for a TTL lock never looks stale to object clients, who would delete it.
func TestBridgeLongTTL(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newServer(t, func(o *setup) {
		c.set(&o.set)
		o.dialect.LockTTL = func(string) time.Duration { return 48 * time.Hour }
	})
	s.put("/r/config", configOf(1, "none"))
	s.want(201, s.acquire("repo-lock", holder("ttl", 5)))
	for range 10 {
		c.pass(4*time.Hour + 7*time.Minute)
		keys := s.keys("/r/locks/?list")
		if len(keys) != 1 {
			t.Fatalf("got %q", keys)
		}
		r := s.want(200, s.do("GET", "/r/"+keys[0], ""))
		var seen struct{ Time time.Time }
		if err := json.Unmarshal([]byte(r.body), &seen); err != nil || c.now().Sub(seen.Time) > 6*time.Hour || seen.Time.After(c.now()) {
			t.Errorf("at %v: %q, %v", c.now(), r.body, err)
		}
	}
}

// TestLockObjects: objects under locks/ and sessions/ come back as they were and are never removed by the server.
func TestLockObjects(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newServer(t, func(o *setup) { c.set(&o.set) })
	s.put("/r/config", configOf(2, "none"))
	own, session := lockAt(c.now(), 'a'), "sessions/"+strings.Repeat("0", 32)+".json"
	s.put("/r/"+own, document("h", c.now()))
	s.put("/r/"+session, `{"hostname":"h"}`)
	c.pass(1000 * time.Hour)
	if got := s.do("GET", "/r/"+own, "").body; got != document("h", c.now().Add(-1000*time.Hour)) {
		t.Errorf("got %q", got)
	}
	s.want(200, s.do("HEAD", "/r/"+session, ""))
	s.want(204, s.do("DELETE", "/r/"+own, ""))
	s.want(404, s.do("HEAD", "/r/"+own, ""))
	s.want(404, s.do("DELETE", "/r/"+own, ""))
}

// TestInspectLocks: who holds what, and what the clients' own rule says of it.
func TestInspectLocks(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newServer(t, func(o *setup) { c.set(&o.set) })
	begin := c.now()
	session := func(id byte) string { return "sessions/" + strings.Repeat(string(id), 32) + ".json" }
	sessionAt := func(registered, refreshed time.Time) string {
		return fmt.Sprintf(`{"hostname":"h","pid":9,"registered_at":%q,"last_refresh":%q}`, registered.Format(time.RFC3339), refreshed.Format(time.RFC3339))
	}
	s.put("/r/config", configOf(2, "none"))
	s.put("/r/"+lockAt(begin, 'a'), document("old", begin))
	s.put("/r/"+lockAt(begin, 'b'), document("refreshed", begin.Add(4*time.Hour)))
	s.put("/r/"+lockAt(begin, 'c'), "no document")
	s.put("/r/locks/strange.json", "no document")
	s.put("/r/"+session('a'), sessionAt(begin, begin))
	s.put("/r/"+session('b'), sessionAt(begin, begin.Add(7*time.Hour-44*time.Minute)))
	s.put("/r/sessions/"+strings.Repeat("a", 32)+".index", "journal")
	c.pass(7 * time.Hour)
	// Who takes it is not what the client says.
	s.want(201, s.acquire("repo-lock", `{"hostname":"ttl","pid":3,"principal":"root","address":"10.0.0.7"}`))
	a := s.repository("r")
	// As an earlier version stored it.
	if _, err := a.AcquireLock(t.Context(), "older", "4@old", []byte(holder("old", 4)), time.Hour); err != nil {
		t.Fatal(err)
	}
	infos, err := vger.InspectLocks(t.Context(), a, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []api.LockInfo{
		{Kind: "ttl", ID: "older", Host: "old", Process: 4, Since: c.now(), Refreshed: c.now(), Exclusive: true},
		{Kind: "ttl", ID: "repo-lock", Host: "ttl", Process: 3, Since: c.now(), Refreshed: c.now(), Exclusive: true, Principal: "anonymous", Address: "127.0.0.1"},
		{Kind: "lock", ID: lockAt(begin, 'a'), Host: "old", Process: 7, Since: begin, Refreshed: begin, Exclusive: true, Stale: true},
		{Kind: "lock", ID: lockAt(begin, 'b'), Host: "refreshed", Process: 7, Since: begin, Refreshed: begin.Add(4 * time.Hour), Exclusive: true},
		{Kind: "lock", ID: lockAt(begin, 'c'), Since: begin, Refreshed: begin, Exclusive: true, Stale: true},
		{Kind: "lock", ID: "locks/strange.json", Since: begin, Refreshed: begin, Exclusive: true, Stale: true},
		{Kind: "session", ID: session('a'), Host: "h", Process: 9, Since: begin, Refreshed: begin, Stale: true},
		{Kind: "session", ID: session('b'), Host: "h", Process: 9, Since: begin, Refreshed: begin.Add(7*time.Hour - 44*time.Minute)},
	}
	if len(infos) != len(want) {
		t.Fatalf("got %d, want %d: %+v", len(infos), len(want), infos)
	}
	for i, got := range infos {
		if got.Why == "" {
			t.Errorf("%s: no reason", got.ID)
		}
		if want[i].Kind != api.LockTTL {
			want[i].Principal = "anonymous" // who stored the object
		}
		same := got.Since.Equal(want[i].Since) && got.Refreshed.Equal(want[i].Refreshed)
		got.Why, got.Since, got.Refreshed = "", want[i].Since, want[i].Refreshed
		if !same || got != want[i] {
			t.Errorf("got %+v, want %+v", infos[i], want[i])
		}
	}
	removed, err := vger.RemoveStale(t.Context(), a, 8*time.Hour)
	if err != nil || len(removed) != 0 {
		t.Errorf("older than 8 h: removed %+v, %v", removed, err)
	}
	// A shorter time than the clients' own does not count.
	if removed, err = vger.RemoveStale(t.Context(), a, time.Second); err != nil || len(removed) != 4 {
		t.Errorf("older than 1 s: removed %+v, %v", removed, err)
	}
	for _, info := range infos {
		if err := vger.BreakLock(t.Context(), a, info); err != nil {
			t.Errorf("break %s: %v", info.ID, err)
		}
	}
	if left, err := vger.InspectLocks(t.Context(), a, nil); err != nil || len(left) != 0 {
		t.Errorf("left: %+v, %v", left, err)
	}
	s.want(200, s.do("HEAD", "/r/sessions/"+strings.Repeat("a", 32)+".index", ""))
}

// closingFS calls back when a file that was read is closed.
type closingFS struct {
	vfs.FS
	closed func()
}

func (c closingFS) Open(name string) (vfs.File, error) {
	f, err := c.FS.Open(name)
	return closingFile{f, c.closed}, err
}

type closingFile struct {
	vfs.File
	closed func()
}

func (c closingFile) Close() error {
	defer c.closed()
	return c.File.Close()
}

// TestRemoveStaleSparesTheRefreshed: a session that shows a sign of life after it was looked at is not removed.
func TestRemoveStaleSparesTheRefreshed(t *testing.T) {
	t.Parallel()
	c := newClock()
	var refresh func()
	s := newServer(t, func(o *setup) {
		c.set(&o.set)
		o.set.FS = closingFS{unsynced{vfs.OS()}, func() {
			if f := refresh; f != nil {
				refresh = nil
				f()
			}
		}}
	})
	session := "sessions/" + strings.Repeat("a", 32) + ".json"
	s.put("/r/config", "x")
	s.put("/r/"+session, "{}")
	c.pass(time.Hour)
	a := s.repository("r")
	refresh = func() {
		if _, err := a.Put(t.Context(), repo.PutRequest{Key: session, Body: strings.NewReader("{ }"), Size: 3}); err != nil {
			t.Error(err)
		}
	}
	removed, err := vger.RemoveStale(t.Context(), a, time.Second)
	if err != nil || len(removed) != 0 || refresh != nil {
		t.Errorf("removed %+v, %v", removed, err)
	}
	s.want(200, s.do("HEAD", "/r/"+session, ""))
	c.pass(time.Hour)
	if removed, err = vger.RemoveStale(t.Context(), a, time.Second); err != nil || len(removed) != 1 {
		t.Errorf("an hour later: removed %+v, %v", removed, err)
	}
	s.want(404, s.do("HEAD", "/r/"+session, ""))
}
