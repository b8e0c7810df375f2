package vger_test

import (
	"slices"
	"testing"

	"packhouse/api"
	"packhouse/repo/policy"
)

// TestAppendOnly walks the table of contract 3.4 in its combined form (1.4).
func TestAppendOnly(t *testing.T) {
	t.Parallel()
	for _, format := range []byte{1, 2, 3} {
		s := newServer(t, appendOnly)
		config := configOf(format, "aes256gcm")
		s.put("/r/config", config)
		packName, header := b2(packS), "X-Content-BLAKE2b"
		if format == 3 {
			packName, header = b3(packS), "X-Content-BLAKE3"
		}
		overwrite := func(key, body string) int {
			s.put("/r/"+key, "old") // creating is always allowed
			return s.do("PUT", "/r/"+key, body).status
		}
		manifest := 403
		if format == 1 {
			manifest = 204
		}
		for _, c := range []struct {
			key    string
			status int
		}{
			{"index", 204}, {"index.gen", 204}, {"locks/a.json", 204}, {"sessions/a.json", 204}, {"manifest", manifest},
			{"keys/repokey", 403}, {"keys/repokey.2", 403}, {"snapshots/a", 403}, {"pending_index/x", 403},
		} {
			if got := overwrite(c.key, "new"); got != c.status {
				t.Errorf("format %d: overwrite %s: got %d, want %d", format, c.key, got, c.status)
			}
			want := "new"
			if c.status == 403 {
				want = "old"
			}
			if got := s.do("GET", "/r/"+c.key, "").body; got != want {
				t.Errorf("format %d: %s now holds %q", format, c.key, got)
			}
			// A lost answer is asked for again: the same bytes are no overwrite.
			s.want(204, s.do("PUT", "/r/"+c.key, want, "X-Content-BLAKE2b", b2(want)))
		}
		if r := s.do("PUT", "/r/config", configOf(1, "none")); r.status != 403 || r.body != "append-only: cannot overwrite immutable object" {
			t.Errorf("overwrite config: got %d %q", r.status, r.body)
		}
		if r := s.do("PUT", "/r//config/", configOf(1, "none")); r.status != 403 {
			t.Errorf("slashes hide config: got %d %q", r.status, r.body)
		}
		s.want(201, s.do("PUT", "/r/"+packKey(packName), packS, header, packName))
		s.want(204, s.do("PUT", "/r/"+packKey(packName), packS, header, packName))
		if r := s.do("PUT", "/r/"+packKey(packName), packS+"x", header, packName); r.status != 403 {
			t.Errorf("overwrite a pack: got %d %q", r.status, r.body)
		}
		for _, c := range []struct {
			key    string
			status int
			text   string
		}{
			{"locks/a.json", 204, ""}, {"sessions/a.json", 204, ""}, {"locks/none.json", 404, ""},
			{"snapshots/.tmp.1", 404, ""}, {".repack_tmp.1", 404, ""},
			{"config", 403, "append-only: delete not allowed"}, {"index", 403, "append-only: delete not allowed"},
			{"snapshots/a", 403, "append-only: delete not allowed"}, {packKey(packName), 403, "append-only: delete not allowed"},
			{"snapshots/.repair-probe", 403, "append-only: delete not allowed"}, {"other", 403, "append-only: delete not allowed"},
			{"snapshots/none", 403, "append-only: delete not allowed"},
		} {
			if r := s.do("DELETE", "/r/"+c.key, ""); r.status != c.status || r.body != c.text {
				t.Errorf("DELETE %s: got %d %q, want %d %q", c.key, r.status, r.body, c.status, c.text)
			}
		}
		before := s.keys("/r?list")
		for _, c := range []struct {
			body   string
			status int
			text   string
		}{
			{"[]", 204, ""}, {quoted(".tmp.1", "packs/ab/.repack_tmp.2", "x/y/.tmp.3"), 204, ""},
			{quoted(".tmp.1", "locks/b.json"), 403, "append-only: cannot batch-delete non-temp key: locks/b.json"},
			{quoted("snapshots/a"), 403, "append-only: cannot batch-delete non-temp key: snapshots/a"},
		} {
			if r := s.do("POST", "/r?batch-delete", c.body); r.status != c.status || r.body != c.text {
				t.Errorf("batch-delete %s: got %d %q", c.body, r.status, r.body)
			}
		}
		if got := s.keys("/r?list"); !slices.Equal(got, before) {
			t.Errorf("batch-delete changed %q to %q", before, got)
		}
		hash := `"hash":"blake2b"`
		if format == 3 {
			hash = `"hash":"blake3","protocol_version":2`
		}
		operation := `{"operations":[{"source_pack":"` + packKey(packName) + `","keep_blobs":[{"offset":19,"length":3}],"delete_after":`
		if r := s.do("POST", "/r?repack", operation+`true}],`+hash+`}`); r.status != 403 || r.body != "append-only: repack with delete not allowed" {
			t.Errorf("repack with delete: got %d %q", r.status, r.body)
		}
		s.want(200, s.do("POST", "/r?repack", operation+`false}],`+hash+`}`))
		s.want(201, s.do("POST", "/r/keys/?mkdir", ""))
		s.want(200, s.do("GET", "/r?stats", ""))
		s.want(200, s.do("GET", "/r?verify-structure", ""))
		acquire := func() int {
			return s.do("POST", "/r/locks/repo-lock", `{"hostname":"h","pid":1}`, "Content-Type", "application/json").status
		}
		if got := acquire(); got != 201 {
			t.Errorf("acquire: got %d", got)
		}
		s.want(204, s.do("DELETE", "/r/locks/repo-lock", ""))
	}
}

// TestReadOnlyPrincipal: a credential that may only read gets 403 where clients expect it, and creates nothing.
func TestReadOnlyPrincipal(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(c *setup) {
		c.auth = api.AuthOptions{Tokens: []api.Token{
			{Name: "writer", Secret: "w"},
			{Name: "reader", Secret: "r", Permissions: must(policy.New(map[string]string{"": "lr"}))},
		}}
	})
	reader, writer := []string{"Authorization", "Bearer r"}, []string{"Authorization", "Bearer w"}
	for _, c := range []struct{ method, target, body string }{
		{"PUT", "/r/index.gen", "x"}, {"POST", "/r?init", ""}, {"POST", "/r/keys?mkdir", ""}, {"DELETE", "/r/config", ""},
		{"PUT", "/r/locks/a.json", "x"}, {"DELETE", "/r/locks/a.json", ""},
	} {
		s.want(403, s.do(c.method, c.target, c.body, reader...))
	}
	if r := s.do("GET", "/", "", writer...); r.body != "[]" {
		t.Errorf("a reader created a repository: %s", r.body)
	}
	s.want(201, s.do("PUT", "/r/config", "x", writer...))
	s.want(200, s.do("GET", "/r/config", "", reader...))
	s.want(403, s.do("POST", "/r/locks/repo-lock", `{"hostname":"h"}`, append(reader, "Content-Type", "application/json")...))
	r := s.want(401, s.do("PUT", "/r/config", "x", "Authorization", "Bearer nonsense"))
	if r.body != "invalid or missing token" || r.header.Get("WWW-Authenticate") != "Bearer" || !r.close {
		t.Errorf("401: %q %v", r.body, r.header)
	}
}
