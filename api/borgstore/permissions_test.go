package borgstore_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"packhouse/repo/policy"
)

const mediaType = "application/vnd.x.borgstore.rest.v1"

// client sends requests as one principal, over a trusted listener: its permissions go along with each.
type client struct {
	t           testing.TB
	url         string
	permissions string // "": everything
}

func (c client) with(permissions string) client {
	c.permissions = permissions
	return c
}

// do sends a request and returns status and body. Goroutines may call it: it fails the test without ending it.
func (c client) do(method, target, body string) (int, string) {
	c.t.Helper()
	r, err := http.NewRequest(method, c.url+target, strings.NewReader(body))
	if err != nil {
		c.t.Error(err)
		return 0, ""
	}
	r.Header.Set("Accept", mediaType)
	if c.permissions != "" {
		r.Header.Set("X-Packhouse-Permissions", c.permissions)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Errorf("%s %s: %v", method, target, err)
		return 0, ""
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Errorf("%s %s: %v", method, target, err)
		return 0, ""
	}
	return response.StatusCode, string(text)
}

func (c client) want(method, target, body string, status int, text string) {
	c.t.Helper()
	got, answer := c.do(method, target, body)
	if got != status || text != "" && answer != text {
		c.t.Errorf("%s: %s %s: got %d %q, want %d %q", c.permissions, method, target, got, answer, status, text)
	}
}

func trusted(t testing.TB, o options) client {
	t.Helper()
	f := start(t, o)
	return client{t: t, url: "http://" + f.Serve(t, f.Server, true)}
}

// denied is the contract's text of a 403.
func denied(letters, key string) string {
	return "One of permissions '" + letters + "' required for '" + key + "'"
}

// TestPermissions is section 8.8 of the contract. Objects a, a/… are not both there: each map
// begins with an empty repository in which "old" exists and "dir" is a directory.
func TestPermissions(t *testing.T) {
	type row struct {
		method, target, body string
		status               int
		text                 string
	}
	const store, get, head, del = http.MethodPost, http.MethodGet, http.MethodHead, http.MethodDelete
	tests := []struct {
		permissions string
		rows        []row
	}{
		{`{"": "w"}`, []row{
			{store, "/new", "x", 200, ""},
			{store, "/made?cmd=mkdir", "", 200, ""},
			{del, "/made?cmd=rmdir", "", 200, ""},
			{store, "/?cmd=quota", "", 200, ""},
			{store, "/old", "other", 403, denied("W", "old")},
			{head, "/old", "", 403, ""},
			{get, "/old", "", 403, denied("r", "old")},
			{get, "/", "", 403, denied("l", "")},
			{del, "/old", "", 403, denied("D", "old")},
			// A repeated store of what is there already succeeds (W21).
			{store, "/old", "value", 200, ""},
		}},
		{`{"": "W"}`, []row{
			{store, "/new", "x", 200, ""},
			{store, "/old", "other", 200, ""},
			{store, "/n/e/w", "x", 200, ""},
			{store, "/?cmd=defrag&target=old", "[]", 200, "old"},
			{store, "/made?cmd=mkdir", "", 403, denied("w", "made")},
			{del, "/dir?cmd=rmdir", "", 403, denied("wD", "dir")},
		}},
		{`{"": "wD"}`, []row{
			{store, "/?cmd=move&current=old&new=newer", "", 200, ""},
			{store, "/old", "value", 200, ""},
			{store, "/?cmd=move&current=newer&new=old", "", 403, denied("W", "old")},
			{del, "/newer", "", 200, ""},
			{store, "/?cmd=defrag&target=old", "[]", 403, ""},
			{del, "/?cmd=destroy", "", 200, ""},
		}},
		{`{"": "r"}`, []row{
			{head, "/old", "", 200, ""},
			{get, "/old", "", 200, "value"},
			{store, "/old?cmd=hash", "", 200, ""},
			{store, "/?cmd=gather", `[["old", 0, 2]]`, 200, "va"},
			{get, "/", "", 403, denied("l", "")},
			{store, "/?cmd=defrag&target=t", `[["old", 0, 1]]`, 403, denied("W", "t")},
		}},
		{`{"": "l"}`, []row{
			{head, "/old", "", 200, ""},
			{get, "/", "", 200, ""},
			{head, "/missing", "", 404, ""},
			{get, "/missing", "", 403, denied("r", "missing")},
			{del, "/missing", "", 403, denied("D", "missing")},
			{store, "/?cmd=gather", `[["missing", 0, 2]]`, 403, denied("r", "missing")},
			{store, "/MISSING", "x", 400, "name must be lowercase, but got: MISSING"},
		}},
		{`{"old": "lr"}`, []row{
			{get, "/old", "", 200, "value"},
			{get, "/other", "", 403, denied("r", "other")},
			{get, "/", "", 403, denied("l", "")},
			{store, "/?cmd=create", "", 403, denied("wW", "")},
			{del, "/?cmd=destroy", "", 403, denied("D", "")},
		}},
		{`{"": "", "packs": "lrW"}`, []row{
			{store, "/packs/ab/x", "12", 200, ""},
			{store, "/?cmd=defrag&algorithm=sha256&namespace=packs&levels=1", `[["packs/ab/x", 0, 1]]`, 200,
				"packs/6b/6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"},
			{store, "/?cmd=defrag&target=packs/t", `[["packs/ab/x", 0, 1]]`, 200, "packs/t"},
			{store, "/?cmd=defrag&algorithm=sha256", `[["packs/ab/x", 0, 1]]`, 403, ""},
			{store, "/?cmd=defrag&target=other", `[["packs/ab/x", 0, 1]]`, 403, denied("W", "other")},
			{store, "/?cmd=defrag&target=packs/t2", `[["old", 0, 1]]`, 403, denied("r", "old")},
		}},
		// W6: sources carry their namespace already, and are looked up as they are.
		{`{"": "lrwWD", "packs": "W", "packs/ab": "lr"}`, []row{
			{store, "/packs/cd/x", "12", 200, ""},
			{store, "/?cmd=defrag&algorithm=sha256&namespace=packs", `[["packs/ab/none", 0, 1]]`, 404, "packs/ab/none"},
			{store, "/?cmd=defrag&algorithm=sha256&namespace=packs", `[["packs/cd/x", 0, 1]]`, 403, denied("r", "packs/cd/x")},
			{store, "/?cmd=defrag&algorithm=sha256&namespace=packs", `[["old", 0, 1]]`, 200, ""},
		}},
		// W6: who may add and not replace may not defrag, also not to a new object.
		{`{"": "lrw"}`, []row{
			{store, "/?cmd=defrag&algorithm=sha256&namespace=packs", `[["old", 0, 1]]`, 403, denied("W", "packs/01234567")},
			{store, "/?cmd=defrag&target=t", `[["old", 0, 1]]`, 403, denied("W", "t")},
			{store, "/?cmd=defrag&target=old", `[["old", 0, 1]]`, 403, denied("W", "old")},
		}},
		// W5: no spelling of a name slips past the permissions.
		{`{"": "lrwWD", "dir": "lr"}`, []row{
			{store, "/dir/y", "x", 403, denied("wW", "dir/y")},
			{store, "/dir//z", "x", 403, denied("wW", "dir/z")},
			{store, "/./dir/y", "x", 403, denied("wW", "dir/y")},
			{store, "/dir/./y", "x", 403, denied("wW", "dir/y")},
			{del, "/./dir/x", "", 403, denied("D", "dir/x")},
			{store, "/?cmd=move&current=./dir/x&new=y", "", 403, denied("D", "dir/x")},
			{store, "/?cmd=move&current=old&new=./dir//y", "", 403, denied("wW", "dir/y")},
			{store, "/?cmd=defrag&target=.//dir/y", "[]", 403, denied("W", "dir/y")},
			{store, "/./dir/sub?cmd=mkdir", "", 403, denied("w", "dir/sub")},
		}},
		// Unlike the reference, an empty table grants nothing.
		{`{}`, []row{{get, "/old", "", 403, denied("r", "old")}, {store, "/?cmd=quota", "", 200, ""}}},
		{`null`, []row{{get, "/old", "", 200, "value"}}},
	}
	for _, tt := range tests {
		t.Run(tt.permissions, func(t *testing.T) {
			admin := trusted(t, options{})
			admin.want(store, "/?cmd=create", "", 200, "")
			admin.want(store, "/old", "value", 200, "")
			admin.want(store, "/dir?cmd=mkdir", "", 200, "")
			c := admin.with(tt.permissions)
			for _, row := range tt.rows {
				c.want(row.method, row.target, row.body, row.status, row.text)
			}
		})
	}
}

// TestPresets is section 3.10: what each preset allows in each namespace that borg uses or used.
func TestPresets(t *testing.T) {
	tables := map[string]map[string]string{
		"borgbackup-all": {"": "lrwWD"},
		"borgbackup-no-delete": {
			"": "lr", "archives": "lrw", "cache": "lrwWD", "config": "lrW", "data": "lrw", "index": "lrwWD", "keys": "lr",
			"locks": "lrwD", "packs": "lrw",
		},
		"borgbackup-write-only": {
			"": "l", "archives": "lw", "cache": "lrwWD", "config": "lrW", "data": "lw", "index": "lrwWD", "keys": "lr",
			"locks": "lrwD", "packs": "lw",
		},
		"borgbackup-read-only": {"": "lr", "locks": "lrwD"},
	}
	for _, preset := range policy.Names() {
		table, ok := tables[preset]
		if !ok {
			t.Errorf("preset %s is not in the contract", preset)
			continue
		}
		t.Run(preset, func(t *testing.T) {
			admin := trusted(t, options{})
			admin.want("POST", "/?cmd=create", "", 200, "")
			c := admin.with(preset)
			for _, ns := range []string{"archives", "cache", "config", "data", "index", "keys", "locks", "packs", "other"} {
				granted, ok := table[ns]
				if !ok {
					granted = table[""]
				}
				admin.want("POST", "/"+ns+"/old", "value", 200, "")
				may := func(letters string) int {
					if strings.ContainsAny(granted, letters) {
						return 200
					}
					return 403
				}
				c.want("GET", "/"+ns+"/", "", may("l"), "")
				c.want("HEAD", "/"+ns+"/old", "", may("lr"), "")
				c.want("GET", "/"+ns+"/old", "", may("r"), "")
				c.want("POST", "/"+ns+"/old?cmd=hash", "", may("r"), "")
				c.want("POST", "/"+ns+"/new", "x", may("wW"), "")
				c.want("POST", "/"+ns+"/dir?cmd=mkdir", "", may("w"), "")
				c.want("POST", "/"+ns+"/old", "replaced", may("W"), "")
				c.want("DELETE", "/"+ns+"/old", "", may("D"), "")
			}
			create, destroy := 403, 403
			if strings.ContainsAny(table[""], "wW") {
				create = 409 // allowed, but there is one
			}
			if strings.Contains(table[""], "D") {
				destroy = 200
			}
			c.want("POST", "/?cmd=create", "", create, "")
			c.want("DELETE", "/?cmd=destroy", "", destroy, "")
		})
	}
}

// Who has no right at all in a repository among many is not told whether there is one, whose it is, nor how full.
func TestStrangersLearnNothing(t *testing.T) {
	admin := trusted(t, options{many: true})
	admin.want("POST", "/theirs?cmd=create", "", 200, "")
	admin.want("POST", "/theirs/x", "value", 200, "")
	c := admin.with(`{"": ""}`)
	for _, r := range []struct{ method, rest, body string }{
		{"GET", "/", ""}, {"GET", "/x", ""}, {"HEAD", "/x", ""}, {"GET", "/UPPER", ""}, {"POST", "/x", "value"}, {"POST", "/x?cmd=hash", ""},
		{"POST", "/?cmd=quota", ""}, {"POST", "/?cmd=create", ""}, {"POST", "/d?cmd=mkdir", ""}, {"POST", "/?cmd=move&current=x&new=y", ""},
		{"POST", "/?cmd=defrag&target=y", "[]"}, {"POST", "/?cmd=gather", "[]"}, {"DELETE", "/x", ""}, {"DELETE", "/d?cmd=rmdir", ""},
		{"DELETE", "/?cmd=destroy", ""},
	} {
		status, text := c.do(r.method, "/theirs"+r.rest, r.body)
		missing, missingText := c.do(r.method, "/missing"+r.rest, r.body)
		if status != 403 || missing != 403 || text != missingText {
			t.Errorf("%s %s: got %d %q of theirs, %d %q of none, want the same 403", r.method, r.rest, status, text, missing, missingText)
		}
	}
}
