package vger_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"packhouse/api"
	"packhouse/api/vger"
	"packhouse/repo"
	"packhouse/repo/policy"
)

// TestList walks contract 2.4.
func TestList(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	a, b := s.putPack("/r", packA), s.putPack("/r", packB)
	for _, key := range []string{"config", "index", "index.gen", "keys/repokey", "snapshots/1", "sessions/x.json", `keys/a"b`} {
		s.put("/r/"+strings.ReplaceAll(key, `"`, "%22"), "x")
	}
	all := []string{"config", "index", "index.gen", `keys/a"b`, "keys/repokey", a, b, "sessions/x.json", "snapshots/1"}
	for _, c := range []struct {
		target string
		want   []string
	}{
		{"/r?list", all},
		{"/r/?list", all},
		{"/r/packs/?list", []string{a, b}},
		{"/r/packs?list", []string{a, b}},
		{"/r/packs/12?list=1", []string{a}},
		{"/r/packs/12/?list=", []string{a}},
		{"/r/packs/fa/?list", []string{b}},
		{"/r/packs/00/?list", []string{}},
		{"/r/keys/?list", []string{`keys/a"b`, "keys/repokey"}},
		{"/r/locks/?list", []string{}},
		{"/r/config?list", []string{}}, // an object is no directory
		{"/r/index?list", []string{}},
		{"/q/snapshots/?list", []string{}}, // no such repository
		{"/q/locks/?list", []string{}},
		{"/q/packs/ab?list", []string{}},
	} {
		r := s.want(200, s.do("GET", c.target, "", "Range", "bytes=0-1"))
		var got []string
		decode(t, r, &got)
		if got == nil {
			t.Errorf("%s: got null, want an array", c.target)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.target, got, c.want)
		}
	}
	if !slices.IsSorted(all) {
		t.Error("the whole list is not sorted bytewise")
	}
	for _, c := range []struct {
		target string
		status int
		text   string
	}{
		{"/r/packs/a?list", 400, "invalid path"},
		{"/r/packs/AB?list", 400, "invalid path"},
		{"/r/nothing?list", 400, "invalid path"},
		{"/r/snapshots/.tmp.x/?list", 400, "invalid path"},
		{"/q?list", 200, "[]"}, // `delete` of vykar asks it whether there is a repository
		{"/.q?list", 400, "invalid repo"},
		{"/.q/packs?list", 400, "invalid path"},
	} {
		if r := s.do("GET", c.target, ""); r.status != c.status || r.body != c.text {
			t.Errorf("%s: got %d %q, want %d %q", c.target, r.status, r.body, c.status, c.text)
		}
	}
	s.want(204, s.do("DELETE", "/r/"+a, ""))
	if got := s.keys("/r/packs/?list"); !slices.Equal(got, []string{b}) {
		t.Errorf("after DELETE: got %q", got)
	}
}

// TestLongList: a list of many buffers is whole, plain and compressed; a short one is compressed too only when it pays.
func TestLongList(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	s.put("/r/config", "x")
	want := fill(t, s.repository("r"), 3000)
	for _, encoding := range []string{"", "gzip", "br, gzip;q=0.5", "gzip;q=0", "identity"} {
		r := s.want(200, s.do("GET", "/r/packs/?list", "", "Accept-Encoding", encoding))
		compressed := encoding == "gzip" || strings.HasPrefix(encoding, "br")
		if got := r.header.Get("Content-Encoding") == "gzip"; got != compressed {
			t.Errorf("Accept-Encoding %q: compressed %v", encoding, got)
		}
		if compressed {
			r.body = gunzip(t, r.body)
		}
		var got []string
		decode(t, r, &got)
		if !slices.Equal(got, want) {
			t.Errorf("Accept-Encoding %q: got %d keys, want %d", encoding, len(got), len(want))
		}
	}
	if r := s.do("GET", "/r/keys?list", "", "Accept-Encoding", "gzip"); r.header.Get("Content-Encoding") != "" {
		t.Error("an empty list is compressed")
	}
	if r := s.do("GET", "/r/config", "", "Accept-Encoding", "gzip"); r.header.Get("Content-Encoding") != "" || r.header.Get("Content-Length") != "1" {
		t.Errorf("an object is compressed: %v", r.header)
	}
}

// fill stores n empty objects below packs/ in a few transactions, and returns their keys, sorted.
func fill(t testing.TB, a *repo.Access, n int) []string {
	t.Helper()
	keys := make([]string, 0, n)
	for i := range n {
		keys = append(keys, packKey(b2(fmt.Sprint(i))))
	}
	slices.Sort(keys)
	for batch := range slices.Chunk(keys, 500) {
		store(t, a, batch)
	}
	return keys
}

// stalling is a client that takes its time over the first piece of an answer: meanwhile something happens.
type stalling struct {
	*httptest.ResponseRecorder
	meanwhile func()
}

func (s *stalling) Write(p []byte) (int, error) {
	if s.meanwhile != nil {
		s.meanwhile()
		s.meanwhile = nil
	}
	return s.ResponseRecorder.Write(p)
}

// TestStalledList: a client that stalls holds no transaction of the index. The rest of its list is read when it
// goes on, and so knows what was deleted meanwhile.
func TestStalledList(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	s.put("/r/config", "x")
	a := s.repository("r")
	want := fill(t, a, 3000)
	for _, target := range []string{"/packs/?list", "?list"} {
		last := want[len(want)-1]
		path, query, _ := strings.Cut(target, "?")
		w := &stalling{httptest.NewRecorder(), func() {
			if err := a.Delete(t.Context(), last); err != nil {
				t.Error(err)
			}
		}}
		r := httptest.NewRequest("GET", "/r"+target, nil)
		vger.New(vger.Options{}).Serve(w, r, api.Target{Set: s.set, Name: "r", Path: path, Query: query})
		want = want[:len(want)-1]
		var got []string
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		got = slices.DeleteFunc(got, func(key string) bool { return key == "config" })
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %d keys, want %d without the one that was deleted", target, len(got), len(want))
		}
	}
}

func gunzip(t testing.TB, body string) string {
	t.Helper()
	z, err := gzip.NewReader(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// store puts small objects under keys in one transaction.
func store(t testing.TB, a *repo.Access, keys []string) {
	t.Helper()
	var batch repo.Batch
	for _, key := range keys {
		u, err := a.NewUpload(t.Context(), repo.UploadOptions{Key: key, Size: -1})
		if err != nil {
			t.Fatal(err)
		}
		defer u.Discard()
		if _, err := u.Write([]byte(key)); err != nil {
			t.Fatal(err)
		}
		if err := u.Finish(t.Context(), key, repo.Verified{}); err != nil {
			t.Fatal(err)
		}
		batch.Puts = append(batch.Puts, repo.BatchPut{Upload: u})
	}
	if _, err := a.Commit(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
}

// TestServerList: GET / of a server of many repositories.
func TestServerList(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	for _, want := range [][]string{{}, {"a"}, {"a", "b.2"}} {
		if len(want) > 0 {
			s.want(201, s.do("POST", "/"+want[len(want)-1]+"?init", ""))
		}
		r := s.want(200, s.do("GET", "/?anything", ""))
		var got []string
		decode(t, r, &got)
		if got == nil || !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if r := s.do("PUT", "/", ""); r.status != 405 || r.header.Get("Allow") == "" {
		t.Errorf("PUT /: got %d", r.status)
	}
}

// TestServerListOfSome: who may list some of the repositories sees no others.
func TestServerListOfSome(t *testing.T) {
	t.Parallel()
	none, err := policy.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t, func(c *setup) {
		c.server.Authorize = func(name string, _ api.Dialect, p repo.Principal, _ bool) repo.Principal {
			if name == "" || name == "hidden" {
				p.Permissions = none
			}
			return p
		}
	})
	for _, name := range []string{"hidden", "shown"} {
		if _, err := s.set.Create(t.Context(), name, vger.Name); err != nil {
			t.Fatal(err)
		}
	}
	if r := s.want(200, s.do("GET", "/", "")); string(r.body) != `["shown"]` {
		t.Errorf("got %s", r.body)
	}
}

// TestRootMount: one repository at "/", alone and beside others.
func TestRootMount(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*setup)
	}{
		{"single", func(c *setup) { c.set.Single = true }},
		{"mounted", func(c *setup) { c.server.Root = "main" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t, c.change)
			s.want(404, s.do("HEAD", "/config", ""))
			s.want(201, s.do("POST", "/?init", ""))
			s.put("/config", "x")
			s.put("//index", "y")
			if got := s.keys("/?list"); !slices.Equal(got, []string{"config", "index"}) {
				t.Errorf("list: got %q", got)
			}
			s.want(200, s.do("GET", "/?stats", ""))
			s.want(200, s.do("GET", "/?verify-structure", ""))
			s.want(201, s.do("POST", "/locks/repo-lock", `{"hostname":"h"}`, "Content-Type", "application/json"))
			s.want(200, s.do("GET", "/locks", ""))
			var health struct {
				Status, Version string
				Hashes          []string
			}
			decode(t, s.do("GET", "/health", ""), &health)
			if health.Status != "ok" || health.Version == "" || !slices.Contains(health.Hashes, "blake3") {
				t.Errorf("health: %+v", health)
			}
		})
	}
	t.Run("many", func(t *testing.T) {
		s := newServer(t, nil)
		r := s.want(200, s.do("GET", "/absent/health", ""))
		if !json.Valid([]byte(r.body)) || !bytes.Contains([]byte(r.body), []byte(`"blake3"`)) {
			t.Errorf("health of a repository that is not there: %s", r.body)
		}
	})
}
