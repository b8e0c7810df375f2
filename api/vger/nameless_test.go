package vger_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"packhouse/api/apitest"
	"packhouse/repo/policy"
)

// TestNamelessURL: a client of any generation whose URL has no path, at a server of many repositories, is told what it
// should look like, and leaves nothing behind; so is who may do nothing in a repository of such a name.
func TestNamelessURL(t *testing.T) {
	t.Parallel()
	nothing, err := policy.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	hex := strings.Repeat("ab", 32)
	for _, permissions := range []*policy.Permissions{nil, nothing} {
		log := new(apitest.Log)
		s := newServer(t, func(c *setup) {
			c.server.Logger = slog.New(slog.NewTextHandler(log, nil))
			c.auth.Permissions = permissions
		})
		want := "the URL names no repository: it should look like " + s.base + "/NAME"
		requests := []struct{ method, target, body string }{
			{"HEAD", "/config", ""}, // init
			{"POST", "/?init", ""},
			{"PUT", "/config", "x"},
			{"PUT", "/index", "x"},
			{"PUT", "/keys/repokey", "x"},
			{"PUT", "/manifest", "x"},
			{"POST", "/keys/?mkdir", ""}, // init of V'Ger 0.7
			{"POST", "/packs/00/?mkdir", ""},
			{"GET", "/config", ""}, // open
			{"GET", "/keys/repokey", ""},
			{"GET", "/index.gen", ""},
			{"GET", "/snapshots/?list", ""},
			{"POST", "/locks/repo-lock", `{"hostname":"h","pid":1}`},
			{"GET", "/locks/?list", ""},
			{"PUT", "/locks/00000000001785492000000000-0123456789abcdef0123456789abcdef.json", "{}"},
			{"PUT", "/sessions/00112233445566778899aabbccddeeff.json", "{}"},
			{"DELETE", "/sessions/00112233445566778899aabbccddeeff.json", ""},
			{"PUT", "/packs/ab/" + hex, "x"},
			{"HEAD", "/packs/ab/" + hex, ""},
			{"GET", "/packs/ab?list", ""},
			{"POST", "/?repack", "{}"},
			{"POST", "/?verify-packs", "{}"},
			{"GET", "/?list", ""}, // delete: the names of repositories are no keys to delete
			{"POST", "/?batch-delete&cleanup-dirs", `["config"]`},
			{"GET", "/?stats", ""},
		}
		for _, c := range requests {
			r := s.do(c.method, c.target, c.body, "Content-Type", "application/json")
			if r.status != 400 || c.method != "HEAD" && r.body != want {
				t.Errorf("%s %s: got %d %q, want 400 %q", c.method, c.target, r.status, r.body, want)
			}
		}
		log.Await(t, 0, fmt.Sprintf(`request=\w+-%d .*status=400`, len(requests))) // of the last one
		if got, told := strings.Count(log.String(), "status=400"), strings.Count(log.String(), want); got != told {
			t.Errorf("of %d refused requests %d say why in the log", got, told)
		}
		if names, err := s.set.Names(); err != nil || len(names) > 0 {
			t.Errorf("there are %q, %v", names, err)
		}
	}
}

// TestRepositoryNamedAsKey: a repository may have the name of something that clients keep.
func TestRepositoryNamedAsKey(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	for _, name := range []string{"config", "keys", "locks", "packs", "snapshots"} {
		s.want(404, s.do("HEAD", "/"+name+"/config", ""))
		s.want(404, s.do("GET", "/"+name+"/keys/repokey", ""))
		s.want(200, s.do("GET", "/"+name+"?list", ""))
		s.want(200, s.do("GET", "/"+name+"/locks/?list", ""))
		s.want(201, s.do("POST", "/"+name+"?init", ""))
		s.put("/"+name+"/config", "x")
		if got := s.keys("/" + name + "?list"); len(got) != 1 || got[0] != "config" {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

// TestNestedURL: a client of any generation whose URL has more than a name gets as far as the request whose answer it shows, which says what the
// URL should look like; nothing is left behind. A repository that is there under such a key goes on.
func TestNestedURL(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	want := func(name string) string {
		return "a repository's URL has one name, without further slashes: it should look like " + s.base + "/" + name
	}
	for _, there := range []bool{false, true} { // the repository of the first name
		for _, c := range []struct{ path, name string }{{"/a/b", "a-b"}, {"/a/b/c", "a-b-c"}, {"/a/keys", "a-keys"}, {"/a/b%20c", "NAME"}} {
			s.want(404, s.do("HEAD", c.path+"/config", ""))
			if r := s.do("POST", c.path+"?init", ""); r.status != 400 || r.body != want(c.name) {
				t.Errorf("%s?init: got %d %q, want 400 %q", c.path, r.status, r.body, want(c.name))
			}
			if r := s.do("PUT", c.path+"/config", "x"); (!there || c.name != "a-keys") && (r.status != 400 || r.body != want(c.name)) {
				t.Errorf("PUT %s/config: got %d %q, want 400 %q", c.path, r.status, r.body, want(c.name))
			}
		}
		names, err := s.set.Names()
		if err != nil || !there && len(names) > 0 {
			t.Errorf("there are %q, %v", names, err)
		}
		if !there {
			s.want(201, s.do("POST", "/a?init", ""))
		}
	}
	s.put("/a/keys/config", "x")
	s.want(200, s.do("HEAD", "/a/keys/config", ""))
	s.want(201, s.do("POST", "/b/?init", ""))
}
