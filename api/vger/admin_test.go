package vger_test

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"packhouse/repo"
)

// TestInit: ?init is safe until config has been written.
func TestInit(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	s.want(201, s.do("POST", "/r?init", ""))
	s.want(201, s.do("POST", "/r?init&stats", "ignored"))
	s.put("/r/keys/repokey", "k")
	s.want(201, s.do("POST", "/r?init", ""))
	s.put("/r/config", "c")
	if r := s.want(409, s.do("POST", "/r?init", "")); r.body != "repo already initialized" {
		t.Errorf("got %q", r.body)
	}
	if r := s.want(400, s.do("POST", "/.git?init", "")); r.body != "invalid repo" {
		t.Errorf("got %q", r.body)
	}
	if got := s.keys("/r?list"); !slices.Equal(got, []string{"config", "keys/repokey"}) {
		t.Errorf("init made objects: %q", got)
	}
}

// TestMkdir: directories are accepted and never stand in an object's way.
func TestMkdir(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	for _, target := range []string{"keys", "snapshots", "locks", "locks/", "packs/00", "packs/ff/", "snapshots/x", "locks/repo-lock", "config"} {
		s.want(201, s.do("POST", "/r/"+target+"?mkdir", ""))
	}
	s.want(400, s.do("POST", "/r/other?mkdir", ""))
	s.want(400, s.do("POST", "/r/packs/0?mkdir", ""))
	s.put("/r/snapshots/x", "1")
	s.put("/r/config", "1")
	if got := s.keys("/r?list"); !slices.Equal(got, []string{"config", "snapshots/x"}) {
		t.Errorf("got %q", got)
	}
	var locks []any
	if decode(t, s.do("GET", "/r/locks", ""), &locks); len(locks) != 0 {
		t.Errorf("mkdir took a lock: %v", locks)
	}
}

type statistics struct {
	TotalBytes   int64   `json:"total_bytes"`
	TotalObjects int64   `json:"total_objects"`
	TotalPacks   int64   `json:"total_packs"`
	LastBackupAt *string `json:"last_backup_at"`
	QuotaBytes   int64   `json:"quota_bytes"`
	QuotaUsed    int64   `json:"quota_used_bytes"`
	QuotaSource  string  `json:"quota_source"`
}

func (s *server) stats(name string) (got statistics) {
	s.t.Helper()
	decode(s.t, s.want(200, s.do("GET", "/"+name+"?stats", "")), &got)
	return got
}

// TestStats: counters follow every change; locks and sessions count as objects, not against the quota.
func TestStats(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(c *setup) {
		c.set.Settings = func(name string) repo.Settings {
			if name == "limited" {
				return repo.Settings{Quota: 1000}
			}
			return repo.Settings{Quota: -1}
		}
	})
	if r := s.want(404, s.do("GET", "/r?stats", "")); r.body != "repo 'r' not found" {
		t.Errorf("got %q", r.body)
	}
	for _, name := range []string{"r", "limited"} {
		s.put("/"+name+"/config", "12345")
		key := s.putPack("/"+name, packS)
		s.put("/"+name+"/locks/"+strings.Repeat("0", 20)+"-"+strings.Repeat("0", 32)+".json", "{}")
		want := statistics{TotalBytes: 29, TotalObjects: 3, TotalPacks: 1, QuotaUsed: 27, QuotaSource: "unlimited"}
		if name == "limited" {
			want.QuotaBytes, want.QuotaSource = 1000, "explicit"
		}
		if got := s.stats(name); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		s.want(204, s.do("DELETE", "/"+name+"/"+key, ""))
		want.TotalBytes, want.TotalObjects, want.TotalPacks, want.QuotaUsed = 7, 2, 0, 5
		if got := s.stats(name); got != want {
			t.Errorf("after DELETE: got %+v, want %+v", got, want)
		}
	}
}

// TestLastBackup: what completes a backup, and that the time survives a restart. Contract 7.2 counts every manifest, also of a client that has only
// removed snapshots.
func TestLastBackup(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 7, 30, 2, 15, 7, 123e6, time.UTC)
	counted := now // the last that does
	dir := t.TempDir()
	clock := func(c *setup) {
		c.set.Dir = dir
		c.set.Now = func() time.Time { return now }
	}
	t.Run("rules", func(t *testing.T) {
		s := newServer(t, clock)
		for _, step := range []struct {
			key, body string
			counts    bool
		}{
			{"config", "x", false}, {"index", "x", false}, {"sessions/a.json", "x", false}, {"keys/repokey", "x", false},
			{"snapshots/a", "", true}, {"snapshots/a", "x", true}, {"snapshots/a", "y", false}, {"snapshots/b", "x", true},
			{"manifest", "x", false}, {"manifest", "x", false}, {"index", "y", false},
		} {
			before := s.lastBackup()
			now = now.Add(time.Minute)
			s.put("/r/"+step.key, step.body)
			want := before
			if step.counts {
				want = now.Format(time.RFC3339Nano)
				counted = now
			}
			if got := s.lastBackup(); got != want {
				t.Errorf("PUT %s %q: got %q, want %q", step.key, step.body, got, want)
			}
		}
	})
	t.Run("format 1", func(t *testing.T) {
		s := newServer(t, clock)
		for _, step := range []struct {
			method, key, body string
			counts            bool
		}{
			{"PUT", "config", "\x91\x01", false}, {"PUT", "manifest", "none", false}, {"PUT", "index", "x", false}, // init
			{"PUT", "snapshots/a", "x", false}, {"PUT", "index", "y", false}, {"PUT", "manifest", "a", true}, // backup
			{"PUT", "snapshots/b", "x", false},                                                                  // one that breaks off
			{"PUT", "snapshots/c", "x", false}, {"PUT", "manifest", "a, c", true}, {"PUT", "index", "z", false}, // backup
			{"PUT", "manifest", "c", false}, {"PUT", "index", "x", false}, {"DELETE", "snapshots/a", "", false}, // prune
			{"PUT", "manifest", "c ", false}, {"PUT", "index", "y", false}, // compact
		} {
			before := s.lastBackupOf("old")
			now = now.Add(time.Minute)
			if r := s.do(step.method, "/old/"+step.key, step.body); r.status >= 300 {
				t.Fatalf("%s %s: got %d", step.method, step.key, r.status)
			}
			want := before
			if step.counts {
				want = now.Format(time.RFC3339Nano)
			}
			if got := s.lastBackupOf("old"); got != want {
				t.Errorf("%s %s %q: got %q, want %q", step.method, step.key, step.body, got, want)
			}
		}
	})
	t.Run("restart", func(t *testing.T) {
		s := newServer(t, clock)
		if got, want := s.lastBackup(), counted.Format(time.RFC3339Nano); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func (s *server) lastBackup() string { return s.lastBackupOf("r") }

func (s *server) lastBackupOf(name string) string {
	s.t.Helper()
	r := s.do("GET", "/"+name+"?stats", "")
	if r.status == 404 {
		return ""
	}
	var got statistics
	decode(s.t, r, &got)
	if got.LastBackupAt == nil {
		return ""
	}
	return *got.LastBackupAt
}

// TestQuota: the texts of 413, before and while a body is read, and that coordination objects always fit.
func TestQuota(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(c *setup) {
		c.set.Settings = func(string) repo.Settings { return repo.Settings{Quota: 100} }
	})
	s.put("/r/index", strings.Repeat("x", 60))
	s.put("/r/index", strings.Repeat("x", 80))
	if r := s.do("PUT", "/r/keys/m", strings.Repeat("x", 21)); r.status != 413 || r.body != "quota exceeded: used 80, limit 100, request 21" {
		t.Errorf("got %d %q", r.status, r.body)
	}
	// Of unknown length: refused while it is read.
	r, err := s.try("PUT", "/r/keys/m", strings.NewReader(strings.Repeat("x", 1<<20)), -1)
	if err != nil {
		t.Fatal(err)
	}
	var written int64
	if n, err := fmt.Sscanf(r.body, "quota exceeded during upload: used 80, limit 100, written %d", &written); r.status != 413 || n != 1 || err != nil || written < 21 {
		t.Errorf("got %d %q", r.status, r.body)
	}
	s.put("/r/keys/m", strings.Repeat("x", 20)) // exactly full
	s.want(413, s.do("PUT", "/r/keys/a", "x"))
	s.put("/r/locks/"+strings.Repeat("0", 20)+"-"+strings.Repeat("0", 32)+".json", "{}")
	s.put("/r/sessions/"+strings.Repeat("0", 32)+".json", "{}")
	s.want(201, s.do("POST", "/r/locks/repo-lock", `{"hostname":"h"}`, "Content-Type", "application/json; charset=utf-8"))
	s.want(204, s.do("POST", "/r?batch-delete", quoted("keys/m")))
	s.put("/r/keys/a", "x")
}

// TestBatchDelete walks contract 2.6 by the combined rules.
func TestBatchDelete(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, query, body string
		status            int
		text              string
		left              []string
	}{
		{"some", "batch-delete", quoted("snapshots/a", "keys/k"), 204, "", []string{"config", "pending_index/x", "snapshots/b"}},
		{"missing is ignored", "batch-delete", quoted("snapshots/zz", "snapshots/a", "snapshots/a"), 204, "", []string{"config", "keys/k", "pending_index/x", "snapshots/b"}},
		{"invalid is skipped", "batch-delete", quoted("../x", "", "/", "packs/../x", "a//b", "other", "packs", "keys", "packs/ab", "pending_index", "snapshots/a", ".tmp.x"), 204, "",
			[]string{"config", "keys/k", "pending_index/x", "snapshots/b"}},
		{"slashes are trimmed", "batch-delete", quoted("//snapshots/a/", "/config"), 204, "", []string{"keys/k", "pending_index/x", "snapshots/b"}},
		{"nothing", "batch-delete", "[]", 204, "", []string{"config", "keys/k", "pending_index/x", "snapshots/a", "snapshots/b"}},
		{"everything", "batch-delete&cleanup-dirs", quoted("config", "keys/k", "pending_index/x", "snapshots/a", "snapshots/b"), 204, "", []string{}},
		{"pretty", "batch-delete", "[\n  \"snapshots/a\",\n  \"config\"\n]\n", 204, "", []string{"keys/k", "pending_index/x", "snapshots/b"}},
		{"escapes", "batch-delete", `["snapshots\/a","\u0063onfig"]`, 204, "", []string{"keys/k", "pending_index/x", "snapshots/b"}},
		{"not JSON", "batch-delete", `["snapshots/a"`, 400, "invalid JSON: unexpected end at byte 14", nil},
		{"not an array", "batch-delete", `{"keys":[]}`, 400, "invalid JSON: expected an array at byte 1", nil},
		{"not strings", "batch-delete", `["snapshots/a",1]`, 400, "invalid JSON: expected a string", nil},
		{"trailing text", "batch-delete", `["snapshots/a"] x`, 400, "invalid JSON: trailing characters", nil},
		{"no body", "batch-delete", "", 400, "invalid JSON: unexpected end", nil},
		{"too many", "batch-delete", quoted("a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m"), 400, "too many keys: 13 (max 12)", nil},
		{"too long", "batch-delete", quoted(strings.Repeat("a", 5000)), 413, "Failed to buffer the request body: length limit exceeded", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, func(c *setup) { c.dialect.Limits.BatchKeys, c.dialect.Limits.AdminBody = 12, 4096 })
			before := []string{"config", "keys/k", "pending_index/x", "snapshots/a", "snapshots/b"}
			for _, key := range before {
				s.put("/r/"+key, "x")
			}
			r := s.do("POST", "/r?"+c.query, c.body)
			if r.status != c.status || !strings.Contains(r.body, c.text) || c.text == "" && r.body != "" {
				t.Errorf("got %d %q, want %d %q", r.status, r.body, c.status, c.text)
			}
			if c.left == nil {
				c.left = before
			}
			if got := s.keys("/r?list"); !slices.Equal(got, c.left) {
				t.Errorf("left: got %q, want %q", got, c.left)
			}
		})
	}
	t.Run("missing repository", func(t *testing.T) {
		s := newServer(t, nil)
		s.want(204, s.do("POST", "/r?batch-delete&cleanup-dirs", `["config"]`)) // what is missing is ignored
		if got, err := s.set.Names(); err != nil || len(got) > 0 {
			t.Errorf("it made %q, %v", got, err)
		}
	})
}

// TestDeleteRepository: after the client's delete the repository is empty and can be initialised again.
func TestDeleteRepository(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	for _, key := range []string{"config", "keys/k", "snapshots/a"} {
		s.put("/r/"+key, "x")
	}
	s.putPack("/r", packS)
	s.want(204, s.do("POST", "/r?batch-delete&cleanup-dirs", quoted(s.keys("/r?list")...)))
	if got := s.keys("/r?list"); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
	s.want(404, s.do("HEAD", "/r/config", ""))
	s.want(201, s.do("POST", "/r?init", ""))
	s.put("/r/config", "x")
}

// TestPlansWaitForEachOther: texts of plans that together are too large are read one after the other, small ones beside
// them; who waits too long is told to come back.
func TestPlansWaitForEachOther(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(c *setup) {
		c.dialect.Limits.PlanTexts = 1000
		c.server.Limits.Wait = 50 * time.Millisecond
	})
	s.put("/r/snapshots/a", "x")
	list := quoted("snapshots/a") + strings.Repeat(" ", 800)
	body, feed := io.Pipe()
	answered := make(chan reply, 1)
	go func() {
		r, err := s.try("POST", "/r?batch-delete", body, int64(len(list)))
		if err != nil {
			t.Error(err)
		}
		answered <- r
	}()
	// The second byte is taken when the first one's reader has its slot.
	for _, part := range []string{list[:1], list[1:2]} {
		if _, err := feed.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	waiting := time.Now()
	for s.do("POST", "/r?verify-packs", `{"packs":[]}`+strings.Repeat(" ", 800)).status != 503 {
		if time.Since(waiting) > 10*time.Second {
			t.Fatal("a second large plan is read beside the first")
		}
	}
	s.want(200, s.do("POST", "/r?verify-packs", `{"packs":[]}`))
	if _, err := feed.Write([]byte(list[2:])); err != nil {
		t.Fatal(err)
	}
	feed.Close()
	s.want(204, <-answered)
	for range 3 { // all that was taken is given back
		s.want(200, s.do("POST", "/r?verify-packs", `{"packs":[]}`+strings.Repeat(" ", 900)))
		s.want(400, s.do("POST", "/r?verify-packs", `{"packs":[`+strings.Repeat(" ", 900)))
		s.want(200, s.do("POST", "/r?repack", `{"operations":[]}`+strings.Repeat(" ", 900)))
	}
}
