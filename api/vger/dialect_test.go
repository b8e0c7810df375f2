package vger_test

import (
	"strings"
	"testing"
)

// TestOtherDialect: a repository of another protocol's clients says so to every request, whatever its key; and
// clients of another protocol are told where they are.
func TestOtherDialect(t *testing.T) {
	t.Parallel()
	s := newServer(t, appendOnly)
	if _, err := s.set.Create(t.Context(), "r", "borgstore"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ method, target string }{
		{"GET", "/r/config"}, {"GET", "/r/data/big"}, {"GET", "/r/keys?list"}, {"GET", "/r?list"}, {"HEAD", "/r/config"}, {"PUT", "/r/config"},
		{"DELETE", "/r/config"}, {"DELETE", "/r/data/x"}, {"POST", "/r?init"}, {"POST", "/r?repack"}, {"GET", "/r/locks"}, {"POST", "/r/keys?mkdir"}, {"GET", "/r?stats"},
	} {
		r := s.do(c.method, c.target, "")
		if r.status != 409 || c.method != "HEAD" && !strings.Contains(r.body, "borgstore") {
			t.Errorf("%s %s: got %d %q", c.method, c.target, r.status, r.body)
		}
	}
	r := s.do("GET", "/q/", "", "Accept", "application/vnd.x.borgstore.rest.v1")
	if r.status != 406 || !strings.Contains(r.body, "BorgStore") {
		t.Errorf("a BorgStore client: got %d %q", r.status, r.body)
	}
	if r := s.do("GET", "/", ""); r.body != `["r"]` {
		t.Errorf("a BorgStore client made a repository: %s", r.body)
	}
}
